package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/offer"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Plan says what a publish does, and is what it does. It stays as NewPlan made it: what came of it is in an Outcome.
type Plan struct {
	Mirrors  []*MirrorPlan
	Files    []*FilePlan
	Findings []buildcache.Finding

	began   time.Time // what is found there and was not then is younger
	options Options
	retired same.Retirements // of keys, in mirrors of the destination
	known   *key.Ring        // keys that are at hand, trusted or not: that which signs, those of the source, and of the destination where they were needed
}

// A MirrorPlan is the part of a plan that is about one mirror. Its steps are taken in
// the order of its fields.
type MirrorPlan struct {
	Path, Layout string
	Packages     []PlannedPackage

	Blobs     []buildcache.Object // what documents point at
	Documents [][]Write           // dependencies before what depends on them
	Marker    []buildcache.Object // layout.json, where it is missing
	Keys      []buildcache.Object // a key's content before the document that names it
	KeyIndex  []buildcache.Object // tells clients of all keys, the last one under a fixed name; empty: something does already
	Index     Index               // last, because it names everything else
	Views     []View              // named indices, which name some of it

	// Untrusted are the names of what clients are offered already and the trusted keys do not cover:
	// documents of packages, and keys.
	Untrusted []string

	format buildcache.Layout
	store  mirror.Store
	offer  *offer.Keys

	published map[spec.Hash]bool // packages, also those that are there already
	merge     *reindex.Merge     // with IndexMerge
	lost      bool               // the index that is there cannot be merged into
}

// A PlannedPackage is a package and what is done with it.
type PlannedPackage struct {
	*buildcache.Package
	Status Status
	Reason string // why it is rejected, or was withdrawn
}

// isThere reports whether the destination has a package afterwards, with whatever document.
func (p PlannedPackage) isThere() bool {
	return p.Status != Rejected && p.Status != Withdrawn && p.Status != Upstream && p.Status != Routed
}

// published reports whether clients find a package as the source has it.
func (p PlannedPackage) published() bool {
	return p.Status == New || p.Status == Replaced || p.Status == Unchanged || p.Status == Repaired
}

// published are those of packages that clients find as the source has them.
func published(packages []PlannedPackage) []*buildcache.Package {
	var all []*buildcache.Package
	for _, p := range packages {
		if p.published() {
			all = append(all, p.Package)
		}
	}
	return all
}

// A Write stores an object, or replaces the version Was of it.
type Write struct {
	buildcache.Object
	Was mirror.Version

	pkg *buildcache.Package
}

func (w Write) of() *buildcache.Package { return w.pkg }

// An Index is what a plan does with an index, or what came of it.
type Index struct {
	Mode    IndexMode
	Healed  []string // packages that the mirror holds and the index lacked
	Changes bool     // there is, or was, something to write
	// Result is what the index becomes, as far as the plan can tell (After is not known with IndexRebuild), or what
	// became of it. Written is set in an Outcome only.
	reindex.Result
}

// NewPlan compares the source with its destination and decides. It only reads. open
// returns the destination of a mirror, given its path in the source; "" is that of
// plain files.
func NewPlan(ctx context.Context, src *source.Source, open func(path string) mirror.Store, o Options) (*Plan, error) {
	if o.Sign.Resign && o.Trust.Keys == nil {
		return nil, errors.New("signatures can only be replaced if they are checked: give the trusted keys that they were made with")
	}
	known := new(key.Ring)
	if k := o.Sign.Key; k != nil {
		known = known.With(k.Public())
		if o.Trust.Keys != nil {
			o.Trust.Keys = o.Trust.Keys.With(k.Public())
			trusted, _ := o.Trust.Keys.Primary(k.Fingerprint())
			known = known.With(trusted)
		}
	}
	p := &Plan{began: time.Now(), Findings: slices.Clone(src.Findings), options: o, known: known}
	for _, m := range src.Mirrors {
		d := newDecision(p, m, open(m.Path))
		if err := d.decide(ctx); err != nil {
			return nil, inMirror(m.Layout.Name(), m.Path, err)
		}
		p.Mirrors = append(p.Mirrors, d.out)
	}
	var err error
	if p.options.Sign.Key, err = o.Sign.Key.Fit(p.known); err != nil {
		return nil, err
	}
	if err := p.planFiles(ctx, src.Files, open("")); err != nil {
		return nil, err
	}
	return p, nil
}

// inMirror says in which mirror of a tree something failed.
func inMirror(layout, path string, err error) error {
	if path == "" {
		return err
	}
	return fmt.Errorf("%s mirror %s: %w", layout, path, err)
}

// newDecision begins the plan of a mirror. Planning completes packages, so it works on copies: the source stays as it
// was read, and can be planned again.
func newDecision(p *Plan, m *source.Mirror, s mirror.Store) *decision {
	d := &decision{
		src: m, plan: p, refused: maps.Clone(m.Refused),
		out: &MirrorPlan{Path: m.Path, Layout: m.Layout.Name(), format: m.Layout, store: s},
	}
	for _, was := range m.Packages {
		c := *was
		c.Blobs = slices.Clone(was.Blobs)
		d.packages = append(d.packages, &c)
		if reason, ok := m.Refused[was]; ok {
			delete(d.refused, was)
			d.refused[&c] = reason
		}
	}
	d.packages = p.options.Sign.mark(m.Layout, d.packages)
	return d
}

// Blocked reports whether findings keep the plan from being carried out.
func (p *Plan) Blocked() bool { return buildcache.Failed(p.Findings) && !p.options.KeepGoing }

// Packages reports whether the plan stores any package.
func (p *Plan) Packages() bool {
	return slices.ContainsFunc(p.Mirrors, func(m *MirrorPlan) bool { return len(m.Documents) > 0 })
}

// Changes reports whether the plan does anything at all.
func (p *Plan) Changes() bool {
	for _, m := range p.Mirrors {
		if len(m.Blobs)+len(m.Documents)+len(m.Marker)+len(m.Keys)+len(m.KeyIndex)+len(m.changingViews()) > 0 || m.Index.Changes {
			return true
		}
	}
	return slices.ContainsFunc(p.Files, func(f *FilePlan) bool { return len(f.Writes) > 0 })
}
