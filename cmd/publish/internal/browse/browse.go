// Package browse holds the commands that show the content of a cache: ls, show, why, du, sbom and verify. They
// only read.
package browse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// browseHelp is the common help text of these commands.
const browseHelp = `
DESTINATION is s3://bucket[/prefix] or file:///directory, a mirror or the top of a tree of
mirrors. An http:// or https:// URL is one mirror, read as clients read it. The command writes
nothing.`

// queryHelp explains queries.
const queryHelp = `
A query is in Spack's syntax for specs: name, namespace.name, @version or @from:to,
+variant, ~variant, variant=value, %compiler@version, os=, target=zen4 or target=x86_64_v3:,
^dependency@version, /hash. Several specs find packages that match any of them.`

// browseFlags are the common flags of these commands.
type browseFlags struct {
	target  target.Config
	view    string
	json    bool
	timeout time.Duration
}

func (f *browseFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.view, "view", "", "show the packages of the view `NAME`, which clients choose in mirrors.yaml; default: all packages")
	f.registerPlain(fs)
}

// registerPlain is register without the flag that chooses a view.
func (f *browseFlags) registerPlain(fs *pflag.FlagSet) {
	fs.BoolVar(&f.json, "json", false, "print one JSON document")
	cli.ReadFlags(fs, &f.target)
	cli.TimeoutFlag(fs, &f.timeout, "stop after this time, such as 30m; 0: never")
}

// A shownMirror is a mirror whose packages are shown.
type shownMirror struct {
	path   string // below the given place; empty for the place itself
	shown  string // for people
	reader mirror.Reader
	*inventory.Inventory
}

// browse reads the mirror at a place or, if there is none, the mirrors below it. The caller closes it.
func (f *browseFlags) browse(ctx context.Context, where string, env cli.Env) (mirrors []shownMirror, done func() error, err error) {
	at, done, err := cli.OpenReaders(ctx, env, where, f.target)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = done()
		}
	}()
	var absent error // why nothing is shown
	read := func(path string) error {
		r := at(path)
		inv, err := inventory.Read(ctx, r, f.view)
		switch {
		case err == nil:
			mirrors = append(mirrors, shownMirror{path, shown(where, path), r, inv})
		case path != "" && errors.Is(err, inventory.ErrNoIndex):
			return nil // other mirrors may have one
		}
		absent = err
		return err
	}
	if lister, ok := at("").(mirror.Lister); ok {
		err = roots.Each(ctx, lister, read)
	} else {
		err = read("")
	}
	if err == nil && len(mirrors) == 0 {
		err = absent
	}
	return mirrors, done, err
}

// shown is the address of a mirror below a place, for people.
func shown(where, path string) string { return strings.TrimSuffix(redact.URL(where)+"/"+path, "/") }

// parseQuery parses a query in one or more arguments.
func parseQuery(args []string) (*query.Query, error) {
	q, err := query.Parse(strings.Join(args, " "))
	return q, cli.Fail(cli.ExitUsage, err)
}

// unknown lists the names in a query that no package of any mirror has.
func unknown(mirrors []shownMirror, q *query.Query) []string {
	counts := make(map[string]int)
	var names, known []string
	for _, s := range mirrors {
		for _, name := range s.Unknown(q) {
			if counts[name]++; counts[name] == len(mirrors) {
				names = append(names, name)
			}
		}
		known = append(known, s.Names()...)
	}
	var said []string
	for _, name := range names {
		said = append(said, nearest.NoPackage(name, known))
	}
	return said
}

// nothing is the error of a query that matches no package but must.
func nothing(where string, mirrors []shownMirror, args []string, q *query.Query) error {
	said := fmt.Sprintf("nothing in %s matches %q", redact.URL(where), strings.Join(args, " "))
	for _, u := range unknown(mirrors, q) {
		said += ": " + u
	}
	return cli.Fail(cli.ExitUsage, errors.New(said))
}

// packageJSON is a package in a JSON document.
type packageJSON struct {
	Name      string              `json:"name"`
	Version   string              `json:"version"`
	Hash      string              `json:"hash"`
	Namespace string              `json:"namespace,omitempty"`
	Compilers []string            `json:"compilers"`
	Platform  string              `json:"platform"`
	OS        string              `json:"os"`
	Target    string              `json:"target"`
	Variants  map[string]any      `json:"variants"`
	Flags     map[string][]string `json:"flags,omitempty"`
	InCache   bool                `json:"in_cache"`
	External  bool                `json:"external,omitempty"`
}

func jsonOf(inv *inventory.Inventory, n *query.Node) packageJSON {
	p := packageJSON{
		Name: n.Name, Version: n.Version.String(), Hash: n.Hash, Namespace: n.Namespace, Compilers: n.Compilers(),
		Platform: n.Platform, OS: n.OS, Target: n.Target, Variants: map[string]any{}, InCache: inv.Offers(n) != nil, External: n.External,
	}
	for _, v := range n.Variants {
		switch {
		case v.IsBool:
			p.Variants[v.Name] = v.On
		case v.List:
			p.Variants[v.Name] = v.Values
		default:
			p.Variants[v.Name] = v.Text()
		}
	}
	for name, flags := range n.Flags {
		if len(flags) > 0 {
			if p.Flags == nil {
				p.Flags = make(map[string][]string)
			}
			p.Flags[name] = flags
		}
	}
	return p
}

// id names a package for people.
func id(n *query.Node) string {
	return n.Name + "@" + n.Version.String() + "/" + n.Hash[:min(7, len(n.Hash))]
}

// day formats a date for people.
func day(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.UTC().Format(time.DateOnly)
}

// line returns text as one line.
func line(text string) string { return escape.Line(text) }
