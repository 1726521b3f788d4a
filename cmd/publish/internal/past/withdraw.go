package past

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const withdrawHelp = `Withdraw packages: clients of the mirror no longer get them, neither by name nor by hash, and
no publish, indexer or rebuild brings them back. SPEC is in Spack's syntax, such as
munge@0.5.16 or /HASH, and every matching package is withdrawn.

The record of a package stays in the index, because Spack would otherwise install its dependents
without it. Its document is replaced by a tombstone. Packages that need a withdrawn package can no
longer be installed from this mirror. They are named, and --with-dependents withdraws them as well.
Tarballs stay until they are pruned. Installed copies, and copies in other mirrors, are not
affected. Caches that are not invalidated, such as without --distribution-id, may serve a document
for as long as they keep it.

--undo offers packages again, with their former documents. publish ls --withdrawn lists withdrawn
packages. In layout v2 documents are deleted, which needs s3:DeleteObject.`

// maxReason is the maximum length of a reason in bytes: every publisher reads it.
const maxReason = 300

type withdrawing struct {
	common
	reason        string
	dependents    bool
	undo          bool
	dryRun        bool
	trustedKeys   userfile.Names
	requireSigned bool
}

// Withdraw returns the command `publish withdraw`.
func Withdraw(env cli.Env) *cobra.Command {
	var w withdrawing
	cmd := &cobra.Command{
		GroupID: help.Maintaining, Use: "withdraw DESTINATION SPEC|/HASH...", Short: "Withdraw packages, or undo that", Long: withdrawHelp, Args: cli.AtLeast(2),
		Example: "  publish withdraw s3://bucket/noble/spack openssl@3.0.1 --reason CVE-2026-1234 --with-dependents\n  publish withdraw s3://bucket/noble/spack /7mkbpyyr2uyfmpq6apumjyhzljbzlcr5 --undo",
		RunE: func(cmd *cobra.Command, args []string) error {
			return w.run(cmd.Context(), args[0], args[1:], env)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&w.reason, "reason", "", "`TEXT` that says why: publishers report it, and every reader of the mirror can see it")
	fs.BoolVar(&w.dependents, "with-dependents", false, "also withdraw packages that need one of them")
	fs.BoolVar(&w.undo, "undo", false, "offer the packages again")
	fs.BoolVar(&w.dryRun, "dry-run", false, "print what would be done and do nothing")
	w.register(fs)
	help.Choice(fs, &w.layout, "layout", "", "only from this layout; default: from both", buildcache.LayoutNames()...)
	help.Group(fs, "Signatures", func(fs *pflag.FlagSet) {
		fs.BoolVar(&w.requireSigned, "require-signed", false, "with --undo: offer signed packages only")
		cli.TrustedKeysFlag(fs, &w.trustedKeys, "`FILE` of armored public keys, with --undo: offer no package again that is signed by any other key")
	})
	cli.StorageFlags(fs, &w.target)
	cli.CDNFlags(fs, &w.target.CDN)
	return cmd
}

func (w *withdrawing) check() error {
	switch {
	case w.undo && (w.reason != "" || w.dependents):
		return errors.New("--undo is given: --reason and --with-dependents are for withdrawing")
	case w.undo:
		return nil
	case strings.TrimSpace(w.reason) == "":
		return errors.New("--reason is missing: publishers report why a package is withdrawn")
	case len(w.reason) > maxReason:
		return fmt.Errorf("--reason has %d bytes: want at most %d, such as the address of an advisory", len(w.reason), maxReason)
	case strings.ContainsFunc(w.reason, unicode.IsControl):
		return errors.New("--reason: want one line, without control characters")
	}
	return nil
}

// A taken mirror is the result for one layout of a mirror.
type taken struct {
	Mirror     string            `json:"mirror"` // its path; empty for DESTINATION itself
	Layout     string            `json:"layout"`
	Packages   []string          `json:"packages"`   // withdrawn, or offered again
	Dependents []string          `json:"dependents"` // offered packages that need a withdrawn one
	Lost       map[string]string `json:"lost"`       // with --undo: packages that cannot be offered again, and why
	Offered    int               `json:"offered"`    // packages that the index offers now
	Changed    bool              `json:"changed"`    // whether the index has changed

	unread   error               // of views that were skipped
	needs    map[string][]string // withdrawn dependencies of packages that are offered again
	mirror   withdraw.Mirror
	packages []withdraw.Package
	undone   []withdraw.Withdrawn
}

func (w *withdrawing) run(ctx context.Context, where string, specs []string, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(ctx, w.timeout)
	defer cancel()
	trust, err := cli.ReadTrust(w.requireSigned, w.trustedKeys)
	queries, queryErr := parseSpecs(specs)
	layouts, layoutErr := w.layouts()
	if err = errors.Join(w.check(), err, queryErr, layoutErr); err != nil {
		return cli.Usage(err)
	}
	d, cdn, err := cli.OpenServed(ctx, env, where, w.target)
	if err != nil {
		return err
	}
	defer d.Close()
	all, err := w.find(ctx, d, layouts, queries)
	if err != nil {
		return err
	}
	if err := w.nothing(where, queries, len(all) == 0); err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	if err := w.judge(ctx, all, trust); err != nil {
		return err
	}
	for _, s := range queries {
		if w.undo && !s.undoes {
			escape.Fprintf(env.Stderr, "warning: nothing that matches %q is withdrawn\n", s.text)
		}
	}
	author := history.AuthorOf(ctx)
	if author.Reason = w.reason; w.undo {
		author.Reason = "undone"
	}
	ctx = history.By(ctx, author)
	var changes target.Changes
	if !w.dryRun {
		for _, t := range all {
			if err := w.do(ctx, t, &changes); err != nil {
				return fmt.Errorf("%s%s: %w", cli.Prefixed(t.Mirror), t.Layout, err)
			}
		}
	}
	invalidated, failed := cdn.Update(ctx, changes)
	for _, t := range all {
		failed = errors.Join(failed, cli.Below(t.Mirror, t.unread))
	}
	if w.json {
		return errors.Join(failed, cli.WriteJSON(env.Stdout, struct {
			Version    int                  `json:"version"`
			DryRun     bool                 `json:"dry_run"`
			Undo       bool                 `json:"undo"`
			Mirrors    []*taken             `json:"mirrors"`
			Invalidate *target.Invalidation `json:"invalidation,omitempty"`
		}{cli.ReportVersion, w.dryRun, w.undo, all, invalidated}))
	}
	for _, t := range all {
		w.print(env, t)
	}
	return failed
}

// nothing is the error for specs that match nothing in any mirror.
func (w *withdrawing) nothing(where string, specs []*wanted, atAll bool) error {
	var errs []error
	for _, s := range specs {
		if s.found && !atAll {
			continue
		}
		in, hint := "in", "publish ls lists what it offers"
		if w.undo {
			in, hint = "that is withdrawn from", "publish ls --withdrawn lists it"
		}
		if len(s.unknown) > 0 {
			hint = nearest.NoPackage(s.unknown[0], s.known)
		}
		errs = append(errs, fmt.Errorf("nothing %s %s matches %q: %s", in, redact.URL(where), s.text, hint))
	}
	return errors.Join(errs...)
}

// A wanted spec is a spec of the command line.
type wanted struct {
	text string
	*query.Query
	found   bool     // a package matches it
	undoes  bool     // and, with --undo, is withdrawn
	unknown []string // names in it that no mirror knows
	known   []string // names of packages
	read    bool     // whether any mirror was read
}

// mayBe reports whether a document with this name may be of a wanted package.
func (s *wanted) mayBe(document string, id layout.SpecName) bool {
	if hash, ok := strings.CutPrefix(s.text, "/"); ok {
		hash, _, _ = strings.Cut(hash, " ")
		return strings.HasPrefix(string(id.Hash), hash)
	}
	names := s.Names()
	return len(names) == 0 || slices.ContainsFunc(names, func(name string) bool {
		return id.Package == name || id.Package == "" && strings.Contains(document, "-"+name+"-") // in layout v2
	})
}

// look records the names that a mirror does not know.
func (s *wanted) look(inv *inventory.Inventory) {
	unknown := inv.Unknown(s.Query)
	if s.read {
		unknown = slices.DeleteFunc(unknown, func(name string) bool { return !slices.Contains(s.unknown, name) })
	}
	s.unknown, s.read = unknown, true
	if len(unknown) > 0 {
		s.known = append(s.known, inv.Names()...)
	}
}

func parseSpecs(specs []string) ([]*wanted, error) {
	var all []*wanted
	for _, text := range query.Arguments(specs, func(string) bool { return false }) {
		q, err := query.Parse(text)
		if err == nil && strings.TrimSpace(text) == "" {
			err = errors.New("SPEC is empty, which would be every package")
		}
		if err != nil {
			return nil, err
		}
		all = append(all, &wanted{text: text, Query: q})
	}
	return all, nil
}

// find returns the matching packages of each mirror that has any.
func (w *withdrawing) find(ctx context.Context, d *target.Destination, layouts []buildcache.Layout, specs []*wanted) ([]*taken, error) {
	var all []*taken
	err := roots.Each(ctx, d.Mirror(""), func(path string) error {
		there := false
		for _, l := range layouts {
			m := withdraw.Mirror{Layout: l, Store: d.Mirror(path), Deleter: d.Deleter(path)}
			t, err := w.findIn(ctx, m, specs)
			if errors.Is(err, inventory.ErrNoIndex) {
				continue
			}
			if err != nil {
				return err
			}
			there = true
			if t.Mirror = path; len(t.packages)+len(t.undone) > 0 {
				all = append(all, t)
			}
		}
		if !there {
			return fmt.Errorf("%w: want %s", buildcache.ErrNoMirror, layouts[0].IndexNames()[0])
		}
		return nil
	})
	return all, err
}

func (w *withdrawing) findIn(ctx context.Context, m withdraw.Mirror, specs []*wanted) (*taken, error) {
	if w.undo && !w.dryRun { // an interrupted undo
		if err := reindex.Complete(ctx, m.Layout, m.Store); err != nil {
			return nil, err
		}
	}
	t := &taken{Layout: m.Layout.Name(), Packages: []string{}, Dependents: []string{}, Lost: map[string]string{}, mirror: m}
	inv, err := inventory.ReadLayout(ctx, m.Store, m.Layout)
	if err != nil {
		return nil, err
	}
	if !w.undo {
		unindexed, err := m.Unindexed(ctx, func(h spec.Hash) bool { return inv.Graph.Node(string(h)) != nil }, func(document string, id layout.SpecName) bool {
			return slices.ContainsFunc(specs, func(s *wanted) bool { return s.mayBe(document, id) })
		})
		if err == nil {
			err = inv.Find(unindexed)
		}
		if err != nil {
			return nil, err
		}
	}
	already, err := m.Undoable(ctx)
	if err != nil {
		return nil, err
	}
	isWithdrawn := func(n *query.Node) bool {
		return slices.ContainsFunc(already, func(a withdraw.Withdrawn) bool { return a.Hash == spec.Hash(n.Hash) })
	}
	matching := make(map[spec.Hash]bool)
	var nodes, needed []*query.Node
	for _, s := range specs {
		s.look(inv)
		for n := range inv.Nodes(s.Query) {
			matching[spec.Hash(n.Hash)] = true
			s.undoes = s.undoes || isWithdrawn(n)
			s.found = s.found || isWithdrawn(n) || inv.Offers(n) != nil // with --undo: an interrupted undo has offered it again
			// A package outside of the index can still be installed by its hash, as after a rollback.
			if there, err := m.Holds(ctx, inventory.DocumentsOf(m.Layout, n)); err != nil {
				return nil, err
			} else if there || inv.Offers(n) != nil {
				s.found = s.found || !w.undo
				nodes, needed = append(nodes, n), append(needed, n)
			} else if isWithdrawn(n) {
				needed = append(needed, n)
			}
		}
	}
	for _, a := range already {
		named := false
		for _, s := range specs {
			if names(s.text, a) {
				named, s.found, s.undoes = true, true, true
			}
		}
		if !named && !matching[a.Hash] {
			continue
		}
		// Complete an interrupted command.
		t.undone = append(t.undone, a)
		if !w.undo {
			t.add(a.Package, withdraw.Package{Hash: a.Hash, ID: a.Package, Documents: []string{a.Document}})
		}
	}
	if w.undo {
		for _, a := range t.undone {
			t.Packages = append(t.Packages, a.Package+"/"+string(a.Hash))
		}
		return t, nil
	}
	t.undone = nil
	for _, dep := range inv.Dependents(needed, query.Link|query.Run) {
		// A dependent that is withdrawn already may be left from an interrupted command.
		again := w.dependents && isWithdrawn(dep.Node)
		if !dep.Offered && !again {
			continue
		}
		if w.dependents {
			nodes = append(nodes, dep.Node)
		} else {
			t.Dependents = append(t.Dependents, history.PackageName(dep.Name, dep.Version.String(), spec.Hash(dep.Hash)))
		}
	}
	for _, n := range nodes {
		id := n.Name + "@" + n.Version.String()
		t.add(id, withdraw.Package{Hash: spec.Hash(n.Hash), ID: id, Documents: inventory.DocumentsOf(m.Layout, n)})
	}
	return t, nil
}

func (t *taken) add(id string, p withdraw.Package) {
	if slices.ContainsFunc(t.packages, func(q withdraw.Package) bool { return q.Hash == p.Hash }) {
		return
	}
	t.packages = append(t.packages, p)
	t.Packages = append(t.Packages, id+"/"+string(p.Hash))
}

// names reports whether a text names a withdrawn package whose record may be missing: /HASH, its name, or
// name@version.
func names(text string, w withdraw.Withdrawn) bool {
	name, _, _ := strings.Cut(w.Package, "@")
	hash, ok := strings.CutPrefix(text, "/")
	return ok && hash != "" && strings.HasPrefix(string(w.Hash), hash) || text == w.Package || text == name
}

// judge returns an error if any of the packages to offer again is not trusted.
func (w *withdrawing) judge(ctx context.Context, all []*taken, trust buildcache.Trust) error {
	var errs []error
	for _, t := range all {
		t.mirror.Trust = trust
		if err := t.mirror.Judge(ctx, t.undone); errors.Is(err, withdraw.ErrUntrusted) {
			errs = append(errs, cli.Below(t.Mirror, err))
		} else if err != nil {
			return err
		}
	}
	return cli.Fail(cli.ExitSource, errors.Join(errs...))
}

// do withdraws the packages of a mirror, or offers them again.
func (w *withdrawing) do(ctx context.Context, t *taken, changes *target.Changes) error {
	s := reindex.Expectation{Path: t.Mirror, Layout: t.mirror.Layout}
	var out withdraw.Result
	var err error
	if w.undo {
		out, err = t.mirror.Undo(ctx, t.undone)
		t.needs = make(map[string][]string)
		for _, a := range t.undone {
			t.needs[a.Package+"/"+string(a.Hash)] = out.Needs[a.Hash]
			if why, lost := out.Lost[a.Hash]; lost {
				t.Lost[a.Package+"/"+string(a.Hash)] = why
			} else {
				s.Packages = append(s.Packages, a.Hash)
			}
		}
	} else {
		out, err = t.mirror.Withdraw(ctx, t.packages, w.reason)
		for _, p := range t.packages {
			s.Without = append(s.Without, p.Hash)
		}
	}
	if err != nil {
		return err
	}
	t.unread = errors.Join(out.Unread...)
	t.Offered, t.Changed, s.Digest = out.Index.After, out.Index.Written, out.Index.Digest()
	changes.Add(s, out.Stale)
	return nil
}

func (w *withdrawing) print(env cli.Env, t *taken) {
	what := "withdrawn"
	switch {
	case w.dryRun && w.undo:
		what = "would be offered again"
	case w.dryRun:
		what = "would be withdrawn"
	case w.undo:
		what = "given again"
	}
	for _, name := range t.Packages {
		if why, lost := t.Lost[name]; lost {
			escape.Fprintf(env.Stdout, "%s%s: %s is withdrawn no more, and not offered: %s: publish it again\n", cli.Prefixed(t.Mirror), t.Layout, short(name), why)
			continue
		}
		escape.Fprintf(env.Told(), "%s%s: %s %s\n", cli.Prefixed(t.Mirror), t.Layout, short(name), what)
		for _, reason := range t.needs[name] {
			escape.Fprintf(env.Stderr, "warning: %s%s: %s: %s\n", cli.Prefixed(t.Mirror), t.Layout, short(name), reason)
		}
	}
	if len(t.Dependents) > 0 {
		escape.Fprintf(env.Stdout, "%swarning: cannot be installed from this mirror without the withdrawn packages: %s: --with-dependents withdraws them as well\n", cli.Prefixed(t.Mirror), shown(t.Dependents))
	}
}
