// Package past holds the commands on the history of an index: history, diff, rollback and withdraw.
package past

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/views"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// common flags of the commands.
type common struct {
	target  target.Config
	view    string
	layout  string
	json    bool
	timeout time.Duration
}

func (c *common) register(fs *pflag.FlagSet) {
	fs.BoolVar(&c.json, "json", false, "print one JSON document")
	cli.TimeoutFlag(fs, &c.timeout, "stop after this time, such as 30m; 0: never")
}

func (c *common) registerIndex(fs *pflag.FlagSet) {
	fs.StringVar(&c.view, "view", "", "the index of the view `NAME`; default: that of the whole mirror")
	help.Choice(fs, &c.layout, "layout", "", "only the index of this layout, in a mirror that has both", buildcache.LayoutNames()...)
}

// layouts returns the layouts of the selected indices.
func (c *common) layouts() ([]buildcache.Layout, error) {
	all := buildcache.Layouts()
	if c.layout != "" {
		l, ok := buildcache.LayoutNamed(c.layout)
		if !ok {
			return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("--layout %s: want v3 or v2", c.layout))
		}
		all = []buildcache.Layout{l}
	}
	if c.view == "" {
		return all, nil
	}
	view := buildcache.View(c.view)
	err := layout.CheckView(c.view)
	if c.layout != "" && c.layout != view.Name() {
		err = errors.Join(fmt.Errorf("layout %s has no views", c.layout), err)
	}
	return []buildcache.Layout{view}, cli.Usage(field.Wrap("view", err))
}

// An index is an index of a mirror at or below the given place.
type index struct {
	path    string
	layout  buildcache.Layout
	reader  mirror.Reader
	pointer *buildcache.Pointer
}

// what names the index for people.
func (x index) what() string {
	name := cli.Prefixed(x.path) + x.layout.Name()
	if v := x.layout.ViewName(); v != "" {
		return name + " view " + v
	}
	return name
}

// indices returns the indices at a place or, if there is no mirror, those of the mirrors below it.
func (c *common) indices(ctx context.Context, at func(path string) mirror.Reader) ([]index, error) {
	layouts, err := c.layouts()
	if err != nil {
		return nil, err
	}
	var all []index
	read := func(path string) error {
		n := len(all)
		pointers := make([]*buildcache.Pointer, len(layouts))
		err := parallel.Each(ctx, parallel.Readers, parallel.Positions(layouts), func(ctx context.Context, i int) (err error) {
			pointers[i], err = buildcache.PointerForUpdate(ctx, layouts[i], at(path))
			return err
		})
		if err != nil {
			return err
		}
		for i, p := range pointers {
			if p.Version != mirror.Absent {
				all = append(all, index{path, layouts[i], at(path), p})
			}
		}
		if path == "" && len(all) == n && c.view != "" {
			if whole, err := buildcache.PointerForUpdate(ctx, buildcache.View(""), at(path)); err == nil && whole.Version != mirror.Absent {
				return c.noView()
			}
		}
		if len(all) == n && (path == "" || c.view == "") {
			return fmt.Errorf("%w: want %s", buildcache.ErrNoMirror, layouts[0].IndexNames()[0])
		}
		return nil
	}
	lister, ok := at("").(mirror.Lister)
	if !ok {
		return all, read("")
	}
	if err := roots.Each(ctx, lister, read); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, c.noView()
	}
	return all, nil
}

func (c *common) noView() error {
	return cli.Fail(cli.ExitUsage, fmt.Errorf("view %s: %w", c.view, views.ErrNoView))
}

// parseTarget parses a generation or a time.
func parseTarget(text string) (rollback.Target, error) {
	if text == "" {
		return rollback.Target{}, nil
	}
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 {
			return rollback.Target{}, fmt.Errorf("generation %d: the first one is 1", n)
		}
		return rollback.Target{Generation: n}, nil
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return rollback.Target{Time: t}, nil
		}
	}
	return rollback.Target{}, fmt.Errorf("%q is neither a generation, such as 12, nor a time in UTC, such as 2026-11-29 or 2026-11-29T08:00:00Z", text)
}

// shown formats packages for people: with short hashes, and only the first few of many.
func shown(names []string) string {
	const few = 10
	var out []string
	for i, name := range names {
		if i == few {
			out = append(out, fmt.Sprintf("and %d more", len(names)-few))
			break
		}
		out = append(out, short(name))
	}
	return strings.Join(out, ", ")
}

// short formats name@version/hash with a short hash.
func short(name string) string {
	h := history.HashOf(name)
	return escape.Line(strings.TrimSuffix(name, string(h)) + spec.Hash(h).Short())
}

// refused makes an error of usage of a missing generation.
func refused(err error) error {
	if errors.Is(err, rollback.ErrNone) {
		return cli.Fail(cli.ExitUsage, err)
	}
	return err
}
