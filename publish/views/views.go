// Package views changes which packages of a mirror a view offers.
//
// A view is a named index of layout v3. Clients that choose one read it instead of the index of the whole
// mirror, so it is small. It holds what Spack's update-index --name makes of the same packages: all
// dependencies have a record, and those that the mirror holds are offered. A change is planned first, and then
// made by the protocol of every index: any number of writers may change one view. Nothing is deleted; a view
// may become empty.
package views

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

// An Act is a kind of change.
type Act string

// The view gets exactly the selection, gets it in addition, or loses it.
const (
	Set    Act = "set"
	Add    Act = "add"
	Remove Act = "remove"
)

// A Change is a requested change.
type Change struct {
	View string
	Act  Act
	Want closure.Want // empty: with Set an empty view
	From string       // with Set: another view to copy
}

// Errors of a change.
var (
	ErrNothing = errors.New("no package is selected")
	ErrLacking = errors.New("the mirror does not hold a package that is selected")
	ErrNeeded  = errors.New("others of the view need it")
	ErrLayout  = errors.New("only layout v3 has views")
	ErrNoView  = errors.New("there is no such view: `publish view list` says which there are")
)

// A Plan is a planned change. It stays as NewPlan made it.
type Plan struct {
	View          string
	Before, After int
	Added         []string // packages for people, sorted
	Removed       []string
	Changes       bool
	Findings      []buildcache.Finding

	layout buildcache.Layout
	act    Act
	from   buildcache.Layout // nil: not another view
	wanted []*spec.Spec
	gone   map[spec.Hash]bool // to be removed
}

// NewPlan plans a change. It only reads.
func NewPlan(ctx context.Context, s mirror.Store, c Change) (*Plan, error) {
	if err := layout.CheckView(c.View); err != nil {
		return nil, err
	}
	p := &Plan{View: c.View, act: c.Act}
	p.layout = buildcache.View(c.View)
	if err := isV3(ctx, s); err != nil {
		return nil, err
	}
	if c.From != "" {
		if err := layout.CheckView(c.From); err != nil {
			return nil, err
		}
		p.from = buildcache.View(c.From)
	}
	was, now, err := p.current(ctx, s)
	if err != nil {
		return nil, err
	}
	var withdrawn map[spec.Hash]history.Withdrawal // from the mirror
	if c.Act == Remove {
		if err = p.known(ctx, s, catalogue(was, now), c.Want); err == nil {
			err = p.remove(was, now, c.Want)
		}
	} else {
		withdrawn, err = p.want(ctx, s, now, c.Want)
	}
	if err != nil {
		return nil, err
	}
	before := was.Withdrawn
	next, err := p.next(ctx, s, withdrawn, was, now)
	if err != nil {
		return nil, err
	}
	p.compare(now, next)
	for h, w := range before {
		if _, ok := was.Withdrawn[h]; !ok && !next.Has(h) {
			p.Removed = append(p.Removed, nameOf(h, w))
		}
	}
	slices.Sort(p.Removed)
	p.Changes = now == nil || !now.Same(next) || !maps.Equal(before, was.Withdrawn)
	return p, nil
}

// whole is the layout that has views, with the index of the whole mirror.
var whole = buildcache.View("")

// document returns the name of a package's document.
func document(n *spec.Node) string {
	names, _ := whole.DocumentNames(n, nil)
	return names[0]
}

// isV3 returns an error for a mirror without layout v3, which has no views.
func isV3(ctx context.Context, s mirror.Store) error {
	for _, l := range buildcache.Layouts() {
		p, err := l.ReadPointer(ctx, s)
		if err != nil {
			return err
		}
		if _, ok := l.View("x"); p.Version != mirror.Absent && !ok {
			return fmt.Errorf("%w: this mirror has layout %s; `spack buildcache migrate` makes one of layout v3 of it", ErrLayout, l.Name())
		}
		if p.Version != mirror.Absent {
			return nil
		}
	}
	return fmt.Errorf("%w: want %s", buildcache.ErrNoMirror, whole.IndexNames()[0])
}

// current reads the view; nil if it does not exist, or if it is damaged and will be set anyway.
func (p *Plan) current(ctx context.Context, s mirror.Store) (*buildcache.Pointer, *indices.Set, error) {
	was, now, err := reindex.Current(ctx, p.layout, s)
	if err != nil && !errors.Is(err, reindex.ErrUnreadable) {
		return nil, nil, err
	}
	return was, now, p.readable(was, now, err)
}

// readable checks that a view can be changed, given why it could not be read.
func (p *Plan) readable(was *buildcache.Pointer, now *indices.Set, why error) error {
	switch {
	case now != nil || p.act == Set || p.act == Add && was.Version == mirror.Absent:
		return nil
	case was.Version == mirror.Absent:
		return fmt.Errorf("view %s: %w", p.View, ErrNoView)
	}
	return fmt.Errorf("view %s: %w: `publish view set` makes it again", p.View, why)
}

// compare records what a view gets and loses.
func (p *Plan) compare(now, next *indices.Set) {
	had, has := offered(now), offered(next)
	p.Before, p.After = len(had), len(has)
	for h, id := range has {
		if had[h] == "" {
			p.Added = append(p.Added, id)
		}
	}
	for h, id := range had {
		if has[h] == "" {
			p.Removed = append(p.Removed, id)
		}
	}
	slices.Sort(p.Added)
}

// offered returns the packages that indices offer, for people.
func offered(x *indices.Set) map[spec.Hash]string {
	all := make(map[spec.Hash]string)
	if x == nil {
		return all
	}
	for g, part := range x.ByGeneration() {
		for e := range part.All() {
			if !e.InBuildcache {
				continue
			}
			all[e.Hash] = e.Name + "/" + e.Hash.Short()
			if n, err := spec.ParseNode(e.Node, g.Specs); err == nil {
				all[e.Hash] = n.ID()
			}
		}
	}
	return all
}

// want finds the specs of the selected packages and of their dependencies in the mirror. Packages that are new
// to the view are read and checked. It returns the withdrawals of the mirror.
func (p *Plan) want(ctx context.Context, s mirror.Store, now *indices.Set, want closure.Want) (map[spec.Hash]history.Withdrawal, error) {
	if want.Everything() {
		return nil, nil
	}
	pointer, all, err := reindex.Current(ctx, whole, s)
	if err == nil && all == nil {
		err = reindex.ErrUnreadable
	}
	if errors.Is(err, reindex.ErrUnreadable) {
		return nil, fmt.Errorf("%s: %w: `publish index` makes it again", whole.IndexNames()[0], err)
	}
	if err != nil {
		return nil, err
	}
	c := closure.Of(all)
	hashes, named, unread, err := selected(c, want) // including packages pushed without an index, which exist all the same
	if err != nil {
		return nil, err
	}
	chosen, err := c.Depended(hashes)
	if err != nil {
		return nil, err
	}
	at := reindex.Mirror{Layout: whole, Store: s, Seen: &buildcache.Survey{Pointer: pointer}}
	names := make([]string, len(chosen))
	for i, q := range chosen {
		names[i] = document(q.Node)
	}
	there, err := buildcache.SurveyAt(ctx, whole, s, pointer, names)
	if err != nil {
		return nil, err
	}
	leftOut := make(map[string]string) // why, by the names of documents
	for i, q := range chosen {
		if !there.Has(buildcache.Object{Name: names[i], Size: -1}) {
			leftOut[names[i]] = "the index offers it, and it is not there"
			p.warn(names[i], leftOut[names[i]]+": it is left out")
			continue
		}
		if now == nil || !now.Has(q.Node.Hash) {
			unread = append(unread, names[i])
			continue
		}
		for _, part := range all.ByGeneration() {
			if of := part.Spec(q.Node.Hash); of != nil && part.Has(q.Node.Hash) {
				p.wanted = append(p.wanted, of)
			}
		}
	}
	packages, findings, err := reindex.ReadPackages(ctx, at, unread)
	for _, f := range findings {
		leftOut[f.File] = f.Reason
		p.warn(f.File, "it is left out: "+f.Reason)
	}
	for _, q := range packages {
		p.wanted = append(p.wanted, q.Spec)
	}
	if err != nil {
		return nil, err
	}
	if err := lacking(chosen, named, leftOut); err != nil {
		return nil, err
	}
	return pointer.Withdrawn, p.complete(c, want.Locks, packages)
}

// lacking returns an error for packages that were selected by name but are left out, with the reasons; nil if
// there are none. Packages that are only dependencies are left out with a warning.
func lacking(chosen []closure.Chosen, named map[spec.Hash]bool, leftOut map[string]string) error {
	var lacks []string
	for _, q := range chosen {
		if reason, ok := leftOut[document(q.Node)]; ok && named[q.Node.Hash] {
			lacks = append(lacks, q.Node.ID()+": "+reason)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrLacking, alike.Few(lacks))
}

func (p *Plan) warn(file, reason string) {
	p.Findings = append(p.Findings, buildcache.Warning.In(file, reason))
}

// selected returns the selected packages that are offered, those of them selected by name, and the names of
// documents of selected packages that are not offered.
func selected(c *closure.Catalogue, want closure.Want) (hashes []spec.Hash, named map[spec.Hash]bool, unlisted []string, err error) {
	named = make(map[spec.Hash]bool)
	for _, q := range want.Packages {
		found, err := c.Matching(q)
		if err != nil {
			return nil, nil, nil, err
		}
		if len(found) == 0 {
			return nil, nil, nil, fmt.Errorf("%w: %w", ErrNothing, c.Unmatched(q))
		}
		hashes = append(hashes, found...)
		for _, h := range found {
			named[h] = true
		}
	}
	for _, lock := range want.Locks {
		for _, n := range lock.Roots() {
			named[n.Hash] = true
		}
		for _, n := range lock.All() {
			switch {
			case c.Offers(n.Hash):
				hashes = append(hashes, n.Hash)
			case !n.External:
				unlisted = append(unlisted, document(&spec.Node{Name: n.Name, Version: n.Version, Hash: n.Hash}))
			}
		}
	}
	return hashes, named, unlisted, nil
}

// remove finds the packages to remove, and returns an error if others need them.
func (p *Plan) remove(was *buildcache.Pointer, now *indices.Set, want closure.Want) error {
	c := catalogue(was, now)
	p.gone = make(map[spec.Hash]bool)
	for _, q := range want.Packages {
		found, err := c.Matching(q)
		if err != nil {
			return err
		}
		for _, h := range found {
			p.gone[h] = true
		}
	}
	for _, lock := range want.Locks {
		for _, n := range lock.All() {
			p.gone[n.Hash] = true
		}
	}
	return p.needless(was, now)
}

// known checks that the packages to remove exist: those that the mirror offers and the view does not were
// removed before.
func (p *Plan) known(ctx context.Context, s mirror.Store, view *closure.Catalogue, want closure.Want) error {
	offered := sync.OnceValues(func() (*closure.Catalogue, error) { // by the mirror; nil: unknown
		pointer, all, err := reindex.Current(ctx, whole, s)
		if errors.Is(err, reindex.ErrUnreadable) {
			return nil, nil
		}
		if err != nil || all == nil {
			return nil, err
		}
		return catalogue(pointer, all), nil
	})
	for _, q := range want.Packages {
		found, err := view.Matching(q)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			continue
		}
		all, err := offered()
		if all != nil {
			if found, err = all.Matching(q); err == nil && len(found) == 0 {
				err = fmt.Errorf("%w: nothing in the view %s matches %q, and %w", ErrNothing, p.View, q, all.Unmatched(q))
			}
		} else if err == nil {
			err = fmt.Errorf("%w: nothing in the view %s matches %q", ErrNothing, p.View, q)
		}
		if err != nil {
			return err
		}
	}
	for _, lock := range want.Locks {
		if err := p.knownOf(view, offered, lock); err != nil {
			return err
		}
	}
	return nil
}

// needless checks that no package that stays in the view needs a removed one at installation.
func (p *Plan) needless(was *buildcache.Pointer, now *indices.Set) error {
	names := offered(now)
	for h, w := range was.Withdrawn {
		names[h] = nameOf(h, w)
	}
	needed := make(map[string]bool)
	for g, part := range now.ByGeneration() {
		for e := range part.All() {
			if names[e.Hash] == "" || p.gone[e.Hash] {
				continue
			}
			n, err := spec.ParseNode(e.Node, g.Specs)
			if err != nil {
				return fmt.Errorf("view %s: %w", p.View, err)
			}
			for _, d := range n.Needs() {
				if p.gone[d] && names[d] != "" {
					needed[names[d]+" is needed by "+n.ID()] = true
				}
			}
		}
	}
	if len(needed) == 0 {
		return nil
	}
	all := slices.Sorted(maps.Keys(needed))
	more := ""
	if n := len(all) - 5; n > 0 {
		all, more = all[:5], ", and "+english.Plural(n, "more", "more")
	}
	return fmt.Errorf("%w: %s%s: remove these too, or set the view to what it is to offer", ErrNeeded, strings.Join(all, ", "), more)
}

// Apply applies the plan. A view that is right already is not written. Packages withdrawn meanwhile are left
// out. It fails with notice.ErrAtWork beside a prune, and if a prune has deleted planned packages.
func (p *Plan) Apply(ctx context.Context, s mirror.Store) (reindex.Result, error) {
	m := withdraw.Mirror{Layout: whole, Store: s}
	return m.Aligning(ctx, p.layout, func(all *buildcache.Pointer) (reindex.Result, error) {
		return reindex.Replace(ctx, p.layout, s, func(ctx context.Context, was *buildcache.Pointer, now *indices.Set) (*indices.Set, error) {
			x, err := p.next(ctx, s, all.Withdrawn, was, now)
			if err != nil || p.act == Remove {
				return x, err
			}
			return x, p.stillThere(ctx, s, now, x)
		})
	})
}

// stillThere checks that no prune has deleted new packages of the view since they were planned, or is about to.
func (p *Plan) stillThere(ctx context.Context, s mirror.Store, now, next *indices.Set) error {
	if err := notice.Refuse(ctx, s); err != nil {
		return err
	}
	var names []string
	for g, part := range next.ByGeneration() {
		for e := range part.All() {
			if !e.InBuildcache || now != nil && now.Has(e.Hash) {
				continue
			}
			n, err := spec.ParseNode(e.Node, g.Specs)
			if err != nil {
				return fmt.Errorf("view %s: %w", p.View, err)
			}
			names = append(names, document(n))
		}
	}
	if len(names) == 0 {
		return nil
	}
	there, err := buildcache.SurveyFor(ctx, whole, s, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !there.Has(buildcache.Object{Name: name, Size: -1}) {
			return &buildcache.FindingsError{Findings: []buildcache.Finding{buildcache.Error.In(name, "it was deleted since this was planned: try again")}}
		}
	}
	return nil
}

// Expectation returns what clients must see of the view of the mirror at a path, once it was written.
func (p *Plan) Expectation(path string, r reindex.Result) reindex.Expectation {
	return expectation(path, p.layout, r.Digest(), nil)
}

// Pointer is the name of the object that clients of the view read first.
func (p *Plan) Pointer() string { return p.layout.IndexNames()[0] }
