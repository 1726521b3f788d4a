package past

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const diffHelp = `Show the packages that only B offers, and those that only A offers.

A and B are mirrors: DESTINATION or URL, with #12 for generation 12 of its history, #TIME
for the index at a time in UTC, or #view=NAME for a view, which #12 or #TIME may follow. Without a
place, B is in the same mirror as A. Packages are the same if their hashes are.`

// Diff returns the command `publish diff`.
func Diff(env cli.Env) *cobra.Command {
	var c common
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "diff A B", Short: "Compare what two mirrors, views or generations offer", Long: diffHelp, Args: cli.Arguments,
		Example: "  publish diff s3://bucket/noble/spack#11 '#12'\n  publish diff s3://bucket/noble/spack s3://bucket/jammy/spack\n  publish diff s3://bucket/noble/spack '#view=2026-11'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.diff(cmd.Context(), args[0], args[1], env)
		},
	}
	fs := cmd.Flags()
	c.register(fs)
	help.Choice(fs, &c.layout, "layout", "", "compare the indices of this layout; default: all layouts", buildcache.LayoutNames()...)
	cli.ReadFlags(fs, &c.target)
	return cmd
}

// A side is one side of the comparison: a place, and an index of it.
type side struct {
	where, view string
	to          rollback.Target
	past        bool
}

func parseSide(text string) (side, error) {
	where, which, ok := strings.Cut(text, "#")
	s := side{where: where}
	if !ok {
		return s, nil
	}
	if view, ok := strings.CutPrefix(which, "view="); ok && view != "" {
		if s.view, which, ok = strings.Cut(view, "#"); !ok {
			return s, nil
		}
	}
	var err error
	if s.to, err = parseTarget(which); which == "" {
		err = errors.New("nothing follows the #: want a generation, a time in UTC or view=NAME")
	} else if _, no := strconv.Atoi(which); err != nil && no != nil {
		err = fmt.Errorf("%w, nor view=NAME", err)
	}
	s.past = true
	if err != nil {
		err = fmt.Errorf("%s: %w", redact.URL(text), err)
	}
	return s, err
}

func (c *common) diff(ctx context.Context, a, b string, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(ctx, c.timeout)
	defer cancel()
	from, err := parseSide(a)
	to, toErr := parseSide(b)
	if err = errors.Join(err, toErr); err != nil {
		return cli.Usage(err)
	}
	if to.where == "" {
		to.where = from.where
	}
	if from.where == "" {
		return cli.Fail(cli.ExitUsage, errors.New("the first argument names no mirror"))
	}
	was, err := c.offers(ctx, from, env)
	if err != nil {
		return err
	}
	now, err := c.offers(ctx, to, env)
	if err != nil {
		return err
	}
	added, removed := []string{}, []string{}
	for h, name := range now {
		if _, ok := was[h]; !ok {
			added = append(added, name)
		}
	}
	for h, name := range was {
		if _, ok := now[h]; !ok {
			removed = append(removed, name)
		}
	}
	slices.Sort(added)
	slices.Sort(removed)
	if c.json {
		return cli.WriteJSON(env.Stdout, struct {
			Version int      `json:"version"`
			A       string   `json:"a"`
			B       string   `json:"b"`
			Added   []string `json:"added"`
			Removed []string `json:"removed"`
		}{cli.ReportVersion, redact.URL(a), redact.URL(b), added, removed})
	}
	signs := make(map[string]string)
	for _, name := range added {
		signs[name] = "+"
	}
	for _, name := range removed {
		signs[name] = "-"
	}
	for _, name := range slices.Sorted(maps.Keys(signs)) {
		escape.Fprintf(env.Stdout, "%s %s\n", signs[name], short(name))
	}
	escape.Fprintf(env.Stderr, "%s added, %d removed\n", english.Plural(len(added), "package", ""), len(removed))
	return nil
}

// offers returns the packages of a side, with the names in records.
func (c *common) offers(ctx context.Context, s side, env cli.Env) (map[spec.Hash]string, error) {
	at, done, err := cli.OpenReaders(ctx, env, s.where, c.target)
	if err != nil {
		return nil, err
	}
	defer done()
	only := *c
	only.view = s.view
	all, err := only.indices(ctx, func(path string) mirror.Reader { return at(path) })
	if err != nil {
		return nil, fmt.Errorf("destination %s: %w", redact.URL(s.where), err)
	}
	if s.past && s.to.Generation > 0 && len(all) > 1 {
		return nil, cli.Fail(cli.ExitUsage, severalIndices(s.where, all))
	}
	offered := make(map[spec.Hash]string)
	for _, x := range all {
		names, err := offeredBy(ctx, x, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.what(), refused(err))
		}
		maps.Copy(offered, names)
	}
	return offered, nil
}

func offeredBy(ctx context.Context, x index, s side) (map[spec.Hash]string, error) {
	if s.past {
		_, names, err := rollback.Offers(ctx, x.layout, x.reader, s.to)
		return names, err
	}
	indices, err := x.layout.ReadIndex(ctx, x.reader, x.pointer)
	if err != nil {
		return nil, inventory.Damage(x.layout, err)
	}
	names := make(map[spec.Hash]string)
	for e := range indices.Records() {
		if e.InBuildcache {
			names[e.Hash] = reindex.NameOf(e)
		}
	}
	return names, nil
}

// severalIndices is the error for a generation of a place with several indices.
func severalIndices(where string, all []index) error {
	var names []string
	for _, x := range all {
		names = append(names, x.what())
	}
	return fmt.Errorf("%s has several indices (%s), and each counts its own generations: give the mirror itself, --layout or a time", redact.URL(where), strings.Join(names, ", "))
}
