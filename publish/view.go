package publish

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/views"
)

// A View says what a plan does with a named index, or what was done.
type View struct {
	Name  string
	Index Index

	addition *views.Addition
}

func (m *MirrorPlan) changingViews() []View {
	return slices.DeleteFunc(slices.Clone(m.Views), func(v View) bool { return !v.Index.Changes })
}

// planViews decides what named indices get. A view of the source gets what it offers there. A requested view
// gets all published packages and their dependencies.
func (d *decision) planViews(ctx context.Context) error {
	o := d.plan.options
	if o.Index == IndexNone {
		return nil
	}
	ofSource := make(map[string]source.View)
	for _, v := range d.src.Views {
		ofSource[v.Name] = v
	}
	var there []*buildcache.Package
	for _, p := range d.out.Packages {
		if p.isThere() {
			there = append(there, p.Package)
		}
	}
	bound := d.src.There // a copy or promotion into a view is refused if these packages cannot be in it
	if o.Promotion != nil {
		bound = there
	}
	at := reindex.Mirror{Layout: d.out.format, Store: d.out.store, Seen: d.seen, Trust: o.Trust}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(o.Views, slices.Collect(maps.Keys(ofSource)))))) {
		f, ok := d.out.format.View(name)
		if !ok {
			d.plan.Findings = append(d.plan.Findings, buildcache.Error.In(d.src.File(""), fmt.Sprintf(
				"layout %s has no views, so there can be no view %s", d.out.Layout, name)))
			return nil
		}
		asked := slices.Contains(o.Views, name)
		a, err := views.PlanAddition(ctx, at, f, views.Belonging(f, there, ofSource[name].Offers, asked), bound, asked)
		if err != nil {
			return fmt.Errorf("view %s: %w", name, err)
		}
		for _, left := range a.LeftOut {
			d.plan.Findings = append(d.plan.Findings, left.Severity.In(d.src.File(left.File), left.Reason))
		}
		if !a.Damaged() {
			d.out.Views = append(d.out.Views, View{name, Index{Mode: IndexMerge, Changes: a.Changes, Result: reindex.Result{Before: a.Before, After: a.After, Bytes: a.Bytes, Audiences: a.Audiences, Pointer: a.Was}}, a})
		}
	}
	return nil
}

// writeViews adds packages to named indices. Each is written after the index and names only packages that are
// stored.
func (a *application) writeViews(ctx context.Context, m *running) error {
	for i, v := range m.views {
		if !v.Index.Changes {
			continue
		}
		now, err := v.addition.Write(ctx, a.counted(m.Path, m.store), a.resend(m))
		if err != nil {
			return fmt.Errorf("view %s: %w", v.Name, err)
		}
		m.out.Views[i].Index.Changes, m.out.Views[i].Index.Result = now.Written, now
		if now.Written || now.Version() != v.Index.Version() {
			a.stale(m.Path, v.addition.Pointer())
		}
	}
	return nil
}
