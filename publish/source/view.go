package source

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A View is a named index: a selection of the packages of a mirror.
type View struct {
	Name string
	// Offers are the packages that it offers, with the possible names of their documents.
	Offers map[spec.Hash][]string
}

// newView returns a view that offers the packages of indices.
func newView(l buildcache.Layout, name string, x *indices.Set) View {
	v := View{Name: name, Offers: make(map[spec.Hash][]string)}
	for g, part := range x.ByGeneration() {
		for e := range part.All() {
			if !e.InBuildcache {
				continue
			}
			n, err := spec.ParseNode(e.Node, g.Specs)
			if err != nil {
				continue // no client can read it
			}
			v.Offers[e.Hash], _ = l.DocumentNames(n, buildcache.ToolchainIn(e.Node))
		}
	}
	return v
}

// readViews reads the views of a mirror. An unreadable view is reported and left out.
func (src *Source) readViews(ctx context.Context, m *Mirror) error {
	return src.root.Walk(ctx, m.tree.rel(strings.TrimSuffix(m.Layout.Pointers(), "/")), func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			src.report(buildcache.Error, full, err.Error())
			return fs.SkipDir
		}
		name := strings.TrimPrefix(full, path.Clean(m.tree.dir)+"/")
		view, ok := m.Layout.ParseViewName(name)
		l, has := m.Layout.View(view)
		if d.IsDir() || !ok || !has {
			return nil
		}
		if err := layout.CheckView(view); err != nil {
			src.report(buildcache.Warning, full, "this view is not published: "+err.Error())
			return nil
		}
		var x *indices.Set
		p, err := l.ReadPointer(ctx, m.tree)
		if err == nil {
			x, err = l.ReadIndex(ctx, m.tree, p)
		}
		if err != nil {
			src.report(buildcache.Warning, full, "this view is not published: "+err.Error())
			return ctx.Err()
		}
		m.Views = append(m.Views, newView(m.Layout, view, x))
		return nil
	})
}
