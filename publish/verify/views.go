package verify

import (
	"context"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
)

// views are the manifests of named indices. They are known only from a listing.
func (c *check) views() []string {
	var names []string
	for name := range c.listed {
		if _, ok := c.ParseViewName(name); ok {
			names = append(names, name)
		}
	}
	return names
}

// absentViews reports required views that were not listed.
func (c *check) absentViews(there []string) {
	for _, view := range c.Views {
		if l, ok := c.View(view); ok && c.lister != nil && !slices.Contains(there, l.IndexNames()[0]) {
			c.absentView(l)
		}
	}
}

func (v *verifier) absentView(l buildcache.Layout) {
	v.damage(l.IndexNames()[0], "there is no view %s", l.ViewName())
}

func (c *check) checkView(ctx context.Context, name string) error {
	x, p, err := c.readView(ctx, name)
	if err != nil {
		c.unreadable(name, err)
		return context.Cause(ctx)
	}
	view, _ := c.ParseViewName(name)
	if f, ok := c.View(view); ok {
		if found, err := putback.Look(ctx, f, c.reader.reader, p); err != nil {
			return err
		} else if found != nil {
			c.damage(name, "%v", found)
		}
	}
	c.others(ctx, name, p.Manifest)
	for _, part := range x.ByGeneration() {
		records, err := c.checkIndex(ctx, name, part)
		if err != nil {
			return err
		}
		c.offered(name, records)
	}
	return nil
}

func (c *check) readView(ctx context.Context, name string) (*indices.Set, *buildcache.Pointer, error) {
	text, info, err := mirror.Read(ctx, c.reader, name, buildcache.MaxPointer)
	if err != nil {
		return nil, nil, err
	}
	p := buildcache.NewPointer(c.Layout)
	p.Version, p.Stored = info.Version, info.Modified
	if err := p.Parse(text); err != nil {
		return nil, nil, err
	}
	x := indices.New(c.Generations())
	for i, ref := range p.Refs {
		if ref.Digest.Known() {
			if x.Parts[i], err = c.readPart(ctx, name, p, i); err != nil {
				return nil, nil, err
			}
		}
	}
	return x, p, nil
}
