// Package rollback restores an earlier state of an index.
//
// A rollback is a new generation, with the older content in another document: if the same index were named
// again, a client with an earlier pointer would lose its copy. Packages that it takes out stay out, although
// their documents exist, until they are published again. Packages withdrawn meanwhile stay withdrawn.
//
// The packages of an index follow from the records of its history, so superseded indices may be deleted at any
// time. If another program has replaced the index in between, the earlier index itself is read, if it still
// exists.
package rollback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

// A Target says which generation is restored. The zero Target is the previous one.
type Target struct {
	Generation int       // 0: not given
	Time       time.Time // the index of that time; zero: not given
}

// ErrNone means that the history has no such generation.
var ErrNone = errors.New("there is no such generation")

// A Mirror is a mirror whose index is rolled back.
type Mirror struct {
	Layout buildcache.Layout // of the index: that of a view rolls the view back
	Store  mirror.Store
	Trust  buildcache.Trust // trust for packages that come back
	// Pointer is the pointer of the index, if buildcache.PointerForUpdate has just read it.
	Pointer *buildcache.Pointer
}

// A Plan says what a rollback does.
type Plan struct {
	From, To history.Entry
	// Removes and Returns are the packages that leave and reenter the index, as records name them.
	Removes, Returns []string
	// Withdrawn are packages that were offered then and have been withdrawn since. They stay out.
	Withdrawn []string
	// Missing are missing objects that the index would name. If there are any, the rollback is refused.
	Missing []buildcache.Finding

	mirror  Mirror
	removes []spec.Hash
	returns []*buildcache.Package
	later   []spec.Hash // withdrawn packages of later generations: they stay out when the withdrawal is undone
	read    reindex.Reading
}

// Release frees the index that was read; Apply reads it again. It is for callers that make several plans before
// they apply one.
func (p *Plan) Release() { p.read = reindex.Reading{} }

// NewPlan plans a rollback. It only reads.
func NewPlan(ctx context.Context, m Mirror, to Target) (*Plan, error) {
	p, err := m.Pointer, error(nil)
	if p == nil {
		p, err = buildcache.PointerForUpdate(ctx, m.Layout, m.Store)
	}
	if err != nil {
		return nil, err
	}
	if p.Version == mirror.Absent {
		return nil, fmt.Errorf("%w: there is no index", buildcache.ErrNoMirror)
	}
	all := p // of the whole mirror
	if m.Layout.ViewName() != "" {
		if all, err = buildcache.PointerForUpdate(ctx, buildcache.View(""), m.Store); err != nil {
			return nil, err
		}
	}
	var g defect.Group
	documents := make(map[spec.Hash]string)
	read := *all // a copy, because offers may add to it
	g.Go(func() error {
		seen, err := withdraw.Documents(ctx, m.Layout, m.Store, &read)
		for name, id := range seen.Packages(m.Layout) {
			documents[id.Hash] = name
		}
		return err
	})
	was, now, from, err := offers(ctx, m.Layout, m.Store, p, to)
	if err := cmp.Or(err, g.Wait()); err != nil {
		return nil, err
	}
	withdrawn := p.And(all.Past).Withdrawn
	plan := &Plan{From: from, To: was.entry, mirror: m}
	if p.Checked && !p.Recalled {
		plan.read = reindex.Reading{Pointer: p, Indices: now}
	}
	for e := range now.Records() {
		switch {
		case !e.InBuildcache:
		case !was.offers[e.Hash]:
			plan.Removes, plan.removes = append(plan.Removes, reindex.NameOf(e)), append(plan.removes, e.Hash)
		case documents[e.Hash] == "":
			plan.missing(m.Layout.IndexNames()[0], reindex.NameOf(e)+" is offered then and now, and its document is gone")
		}
	}
	var back []spec.Hash
	for h := range was.offers {
		if now.Has(h) {
			continue
		}
		if w, ok := withdrawn[h]; ok {
			plan.Withdrawn = append(plan.Withdrawn, w.Package+"/"+string(h))
			continue
		}
		back = append(back, h)
	}
	var mu sync.Mutex
	err = parallel.Each(ctx, parallel.Readers, back, func(ctx context.Context, h spec.Hash) error {
		return plan.back(ctx, &mu, h, was.names[h], documents[h])
	})
	if err != nil {
		return nil, err
	}
	if e := was.entry; !e.Foreign && !e.Lost {
		for h := range withdrawn {
			if _, then := e.Withdrawn[h]; !then && !was.offers[h] && !p.IsWithheld(h) {
				plan.later = append(plan.later, h)
			}
		}
	}
	slices.Sort(plan.Removes)
	plan.Removes = slices.Compact(plan.Removes) // a package may have a record in several indices
	slices.Sort(plan.Returns)
	slices.Sort(plan.Withdrawn)
	slices.SortFunc(plan.Missing, func(a, b buildcache.Finding) int { return strings.Compare(a.File+a.Reason, b.File+b.Reason) })
	plan.Missing = slices.Compact(plan.Missing)
	return plan, nil
}

func (p *Plan) missing(file, reason string) {
	p.Missing = append(p.Missing, buildcache.Error.In(file, reason))
}

// back adds a package that comes back. mu guards the plan.
func (p *Plan) back(ctx context.Context, mu *sync.Mutex, h spec.Hash, name, document string) error {
	if name == "" {
		name = "/" + string(h)
	}
	var found *buildcache.Package
	file, why := name, "its document is gone"
	if document != "" {
		var err error
		if found, why, err = reindex.ReadPackage(ctx, p.mirror.Layout, p.mirror.Store, p.mirror.Trust, document); err != nil {
			return err
		}
		file = document
	}
	mu.Lock()
	defer mu.Unlock()
	if found == nil {
		p.missing(file, why)
		return nil
	}
	root := found.Spec.Root()
	p.Returns = append(p.Returns, history.PackageName(root.Name, root.Version, h))
	p.returns = append(p.returns, found)
	return nil
}

// Changes reports whether there is anything to do.
func (p *Plan) Changes() bool { return len(p.removes)+len(p.returns)+len(p.later) > 0 }

// Apply switches the index. Packages that others have published since the plan was made stay.
func (p *Plan) Apply(ctx context.Context) (reindex.Result, error) {
	if len(p.Missing) > 0 {
		return reindex.Result{}, &buildcache.FindingsError{Findings: p.Missing}
	}
	if p.mirror.Layout.ViewName() == "" {
		return p.apply(ctx, nil)
	}
	m := withdraw.Mirror{Layout: buildcache.View(""), Store: p.mirror.Store, Trust: p.mirror.Trust}
	return m.Aligning(ctx, p.mirror.Layout, func(all *buildcache.Pointer) (reindex.Result, error) { return p.apply(ctx, all.Withdrawn) })
}

// apply switches the index. Packages withdrawn from the whole mirror do not come back to a view.
func (p *Plan) apply(ctx context.Context, withdrawn map[spec.Hash]history.Withdrawal) (reindex.Result, error) {
	return reindex.EditRead(ctx, p.mirror.Layout, p.mirror.Store, &p.read, func(ctx context.Context, was *buildcache.Pointer, x *indices.Set) error {
		if err := p.stillThere(ctx, was); err != nil {
			return err
		}
		for _, h := range p.removes {
			x.Withhold(h)
		}
		was.Past = was.Withholding(slices.Concat(p.removes, p.later)...)
		for _, q := range p.returns {
			_, here := was.Withdrawn[q.Hash]
			if _, everywhere := withdrawn[q.Hash]; !here && !everywhere {
				x.Add(q.Spec)
			}
		}
		return nil
	})
}

// stillThere checks that no prune has deleted returning packages since the plan was made, or is about to.
func (p *Plan) stillThere(ctx context.Context, was *buildcache.Pointer) error {
	if len(p.returns) == 0 {
		return nil
	}
	if err := notice.Refuse(ctx, p.mirror.Store); err != nil {
		return err
	}
	gone, err := reindex.Missing(ctx, p.mirror.Layout, p.mirror.Store, was, p.returns)
	if err != nil || len(gone) == 0 {
		return err
	}
	var findings []buildcache.Finding
	for _, q := range p.returns {
		for _, o := range gone[q] {
			findings = append(findings, buildcache.Error.In(q.File, o.Name+" is gone"))
		}
	}
	return &buildcache.FindingsError{Findings: findings}
}
