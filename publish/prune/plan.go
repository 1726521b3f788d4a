package prune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Plan says what a prune deletes from a mirror. Making a plan changes nothing.
type Plan struct {
	Layouts []*LayoutPlan
	// Notes are old objects of no further use: notices between publishers, marks of Spack's prune, and copies of
	// withdrawn documents of layout v2.
	Notes []mirror.Info
	// Uploads are old uploads that were never completed.
	Uploads []mirror.Leftover
	// Abandoned says that a prune has died here. Its notice, and the objections to it, are removed.
	Abandoned bool
	// Findings are defects of the mirror. An Error is the reason why something is not deleted.
	Findings []buildcache.Finding
	// Unmatched says why a rule matches nothing, by the text of a root, or "" for all hashes. It is nil if that is
	// unknown.
	Unmatched map[string]string

	options Options
	made    time.Time // when New started
}

// A LayoutPlan is the part of a plan for one layout.
type LayoutPlan struct {
	Layout   buildcache.Layout
	Packages int // packages with documents
	Withdraw int // packages to be removed from the index

	Objects   int // objects listed
	Read      int // objects read
	Documents Count
	Content   Count
	Orphans   Count // the part of Content without any reference
	Largest   []Share

	offered   map[spec.Hash]bool // packages to be removed from the index
	documents []*document        // to be deleted, dependents first
	content   map[key]bool       // to be deleted
	views     []string           // named indices from which packages are removed as well
	all       []document         // all documents
	graph     *graph
	at        map[string]int // generation of each index
}

// A Share is the part of the deleted objects that belongs to packages of one name.
type Share struct {
	Name     string `json:"name"` // empty for objects without references
	Packages int    `json:"packages"`
	Bytes    int64  `json:"bytes"`
}

// Empty reports whether there is nothing to delete.
func (p *Plan) Empty() bool {
	return len(p.Notes)+len(p.Uploads) == 0 && !p.Abandoned && !p.deletes()
}

// deletes reports whether the plan deletes anything that clients or publishers may need.
func (p *Plan) deletes() bool {
	return slices.ContainsFunc(p.Layouts, func(l *LayoutPlan) bool { return l.Documents.Objects+l.Content.Objects > 0 })
}

// documents returns how many documents are deleted.
func (p *Plan) documents() int {
	n := 0
	for _, l := range p.Layouts {
		n += l.Documents.Objects
	}
	return n
}

// Objects returns the number of deleted objects and their bytes.
func (p *Plan) Objects() (objects int, bytes int64) {
	for _, l := range p.Layouts {
		objects += l.Documents.Objects + l.Content.Objects
		bytes += l.Documents.Bytes + l.Content.Bytes
	}
	for _, n := range p.Notes {
		objects++
		bytes += n.Size
	}
	return objects, bytes
}

// New makes a plan for a mirror. It only reads. The error is a buildcache.ErrNoMirror if there is no mirror.
func New(ctx context.Context, store Store, o Options) (*Plan, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	p := &Plan{options: o, made: time.Now()}
	there := false
	for _, f := range buildcache.Layouts() {
		s := &scan{layout: f, now: o.Now, generations: o.Keep.Generations, keepWithdrawn: o.Keep.Withdrawn, listing: o.Listing}
		if err := s.run(ctx, store); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if len(s.documents)+len(s.content)+len(s.others) == 0 {
			continue
		}
		there = true
		l, err := s.plan(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		p.Layouts = append(p.Layouts, l)
		p.Findings = append(p.Findings, s.findings...)
		p.Unmatched = BothUnmatched(p.Unmatched, s.unmatched)
		p.Notes = append(p.Notes, s.buried...)
	}
	if !there {
		return nil, fmt.Errorf("%w: nothing to prune", buildcache.ErrNoMirror)
	}
	if err := p.litter(ctx, store); err != nil {
		return nil, err
	}
	sortFindings(p.Findings)
	return p, nil
}

// plan makes the plan for a layout.
func (s *scan) plan(ctx context.Context, o Options) (*LayoutPlan, error) {
	stay, err := s.kept(ctx, o)
	if err != nil {
		return nil, err
	}
	if len(s.unrelated) > 0 && slices.Contains(stay, false) {
		s.findings = append(s.findings, s.unrelated...)
		for i := range stay {
			stay[i] = true
		}
	}
	l := &LayoutPlan{Layout: s.layout, Packages: len(s.documents), Objects: len(s.documents) + len(s.content) + len(s.others), Read: len(s.documents) + len(s.others), offered: make(map[spec.Hash]bool), content: make(map[key]bool), all: s.documents, graph: s.graph, at: s.at}
	if !o.Keep.Views {
		l.views = s.viewNames
	}
	s.lost(stay)
	owner := make(map[key]*document)
	for i := range s.documents {
		d := &s.documents[i]
		if stay[i] {
			for _, k := range d.points {
				s.need(k)
			}
			continue
		}
		l.documents = append(l.documents, d)
		l.Documents.add(d.size)
		for _, k := range d.points {
			if owner[k] == nil {
				owner[k] = d
			}
		}
		if n := s.graph.nodes[d.node]; n.offered && !l.offered[n.hash] {
			l.offered[n.hash] = true
		}
	}
	l.Withdraw = len(l.offered)
	shares := make(map[string]*Share)
	s.goes(l, o, owner, shares)
	for _, d := range l.documents {
		n := shareOf(shares, s.graph.nodes[d.node].name)
		n.Packages++
		n.Bytes += d.size
	}
	l.Largest = largest(shares)
	s.order(l)
	return l, nil
}

// goes adds the content that is not needed.
func (s *scan) goes(l *LayoutPlan, o Options, owner map[key]*document, shares map[string]*Share) {
	blind := len(s.blind) > 0
	found := false
	for i := range s.content {
		c := &s.content[i]
		if c.needed || s.now.Sub(time.Unix(c.modified, 0)) < o.MinAge {
			continue
		}
		found = true
		if blind {
			break
		}
		l.content[c.key] = true
		l.Content.add(c.size)
		name := ""
		if d := owner[c.key]; d != nil {
			name = s.graph.nodes[d.node].name
		} else {
			l.Orphans.add(c.size)
		}
		shareOf(shares, name).Bytes += c.size
	}
	if blind && found {
		s.findings = append(s.findings, s.blind...)
		s.findings = append(s.findings, buildcache.Warning.In(s.layout.Payload(), "nothing below it is deleted, since it is not known what is needed: mend or delete what is named, then prune again"))
	}
}

func shareOf(shares map[string]*Share, name string) *Share {
	if shares[name] == nil {
		shares[name] = &Share{Name: name}
	}
	return shares[name]
}

// shown is the maximum number of names in a plan.
const shown = 10

func largest(shares map[string]*Share) []Share {
	all := []Share{}
	for _, s := range shares {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name)) })
	return all[:min(shown, len(all))]
}

// order sorts documents so that dependents come first.
func (s *scan) order(l *LayoutPlan) {
	height := make(map[int32]int32) // the longest path to a package without dependencies
	type step struct {
		at   int32
		done bool
	}
	for _, d := range l.documents {
		for next := []step{{at: d.node}}; len(next) > 0; {
			top := next[len(next)-1]
			next = next[:len(next)-1]
			if _, ok := height[top.at]; ok && !top.done {
				continue
			}
			if !top.done {
				height[top.at] = 0 // also ends a cycle
				next = append(next, step{top.at, true})
				for _, n := range s.graph.needs(top.at) {
					next = append(next, step{at: n})
				}
				continue
			}
			for _, n := range s.graph.needs(top.at) {
				height[top.at] = max(height[top.at], height[n]+1)
			}
		}
	}
	slices.SortStableFunc(l.documents, func(a, b *document) int { return cmp.Compare(height[b.node], height[a.node]) })
}

// lost returns findings about objects that are offered or referenced and were deleted by another program.
func (s *scan) lost(stay []bool) {
	documented := make(map[int32]bool, len(s.documents))
	for i := range s.documents {
		documented[s.documents[i].node] = true
	}
	var gone []string
	for at, n := range s.graph.nodes {
		if n.offered && !documented[int32(at)] {
			gone = append(gone, n.name+"/"+n.hash.Short())
		}
	}
	s.tell(s.layout.IndexNames()[0], gone, "is offered and its document is gone", "are offered and their documents are gone",
		"publish it again from where it was built; publish index takes from the index what cannot be published")
	if s.listing != nil {
		return // the listing may be older than the content
	}
	var hollow []string
	for i := range s.documents {
		d := &s.documents[i]
		if stay[i] && slices.ContainsFunc(d.points, func(k key) bool { return len(s.find(k)) == 0 }) {
			hollow = append(hollow, d.name)
		}
	}
	s.tell(s.layout.Payload(), hollow, "points at content that is gone", "point at content that is gone", "publish it again from where it was built")
}

func (s *scan) tell(file string, names []string, is, are, hint string) {
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	s.findings = append(s.findings, buildcache.Warning.In(file, fmt.Sprintf("%s %s, maybe by another prune: %s: %s",
		english.Plural(len(names), "package", ""), english.PluralWord(len(names), is, are), alike.Few(names), hint)))
}

// spackMark is the prefix of the objects by which Spack's prune reads the clock of the mirror.
const spackMark = ".spack-prune-marker-"

// litter finds leftovers of publishers and prunes.
func (p *Plan) litter(ctx context.Context, store Store) error {
	for _, prefix := range []string{lead.Dir, spackMark} {
		for info, err := range store.List(ctx, mirror.Range{Prefix: prefix}) {
			if err != nil {
				return fmt.Errorf("list %s: %w", prefix, err)
			}
			switch {
			case notice.IsOurs(info.Name):
				p.Abandoned = p.Abandoned || p.options.Now.Sub(info.Modified) > notice.Alive
			case p.old(info.Modified):
				p.Notes = append(p.Notes, info)
			}
		}
	}
	s, ok := store.(mirror.Sweeper)
	if !ok {
		return nil
	}
	for u, err := range s.Leftovers(ctx, "") {
		if errors.Is(err, mirror.ErrDenied) {
			p.Findings = append(p.Findings, buildcache.Warning.In("", fmt.Sprintf("unfinished uploads were not looked for: %v", err)))
			return nil
		}
		if err != nil {
			return err
		}
		ours := strings.HasPrefix(u.Name, lead.Dir) || slices.ContainsFunc(buildcache.Layouts(), func(f buildcache.Layout) bool { return f.Owns(u.Name) })
		if ours && p.old(u.Started) {
			p.Uploads = append(p.Uploads, u)
		}
	}
	return nil
}

func (p *Plan) old(t time.Time) bool { return p.options.Now.Sub(t) >= p.options.MinAge }

// Removed returns the sorted names of the deleted documents by layout, for a report.
func (l *LayoutPlan) Removed() []string {
	names := make([]string, len(l.documents))
	for i, d := range l.documents {
		names[i] = d.name
	}
	slices.Sort(names)
	return names
}
