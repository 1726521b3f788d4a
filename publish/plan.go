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

// A Plan says what a publish does. It does not change after NewPlan: its results are in an Outcome.
type Plan struct {
	Mirrors  []*MirrorPlan
	Files    []*FilePlan
	Findings []buildcache.Finding

	began   time.Time // an object that is found there later and was missing then is younger
	options Options
	retired same.Retirements // of keys, in mirrors of the destination
	known   *key.Ring        // trusted or not: the signing key, those of the source and, if needed, of the destination
}

// A MirrorPlan is the part of a plan for one mirror. Its steps run in the order of its fields.
type MirrorPlan struct {
	Path, Layout string
	Packages     []PlannedPackage

	Blobs     []buildcache.Object // what documents point at
	Documents [][]Write           // dependencies before their dependents
	Marker    []buildcache.Object // layout.json, if it is missing
	Keys      []buildcache.Object // a key's content before the document that names it
	KeyIndex  []buildcache.Object // lists all keys for clients, the last object under a fixed name; empty: unchanged
	Index     Index               // last, because it names everything else
	Views     []View              // named indices, which name some of the packages

	// Untrusted are the names of package documents and keys that clients are already offered but that the
	// trusted keys do not cover.
	Untrusted []string

	format buildcache.Layout
	store  mirror.Store
	offer  *offer.Keys

	published map[spec.Hash]bool // packages, including those that are already there
	merge     *reindex.Merge     // with IndexMerge
	lost      bool               // the present index cannot be merged into
}

// A PlannedPackage is a package with what the plan does with it.
type PlannedPackage struct {
	*buildcache.Package
	Status Status
	Reason string // why it is rejected, or was withdrawn
}

// isThere reports whether the destination has a package afterwards, with any document.
func (p PlannedPackage) isThere() bool {
	return p.Status != Rejected && p.Status != Withdrawn && p.Status != Upstream && p.Status != Routed
}

// published reports whether clients find the package with the source's document.
func (p PlannedPackage) published() bool {
	return p.Status == New || p.Status == Replaced || p.Status == Unchanged || p.Status == Repaired
}

// published returns the packages that clients find with the source's document.
func published(packages []PlannedPackage) []*buildcache.Package {
	var all []*buildcache.Package
	for _, p := range packages {
		if p.published() {
			all = append(all, p.Package)
		}
	}
	return all
}

// A Write stores an object, or replaces its version Was.
type Write struct {
	buildcache.Object
	Was mirror.Version

	pkg *buildcache.Package
}

func (w Write) of() *buildcache.Package { return w.pkg }

// An Index says what a plan does with an index, or what was done.
type Index struct {
	Mode    IndexMode
	Healed  []string // packages that the mirror holds and the index lacked
	Changes bool     // the index is written, or was
	// In a plan, Result is the expected index (After is not known with IndexRebuild). In an Outcome, it is
	// the actual result, and only there Written is set.
	reindex.Result
}

// NewPlan compares the source with its destination and decides. It only reads. open returns the destination
// of a mirror, given its path in the source. The path of plain files is "".
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

// inMirror adds to an error in which mirror of a tree it occurred.
func inMirror(layout, path string, err error) error {
	if path == "" {
		return err
	}
	return fmt.Errorf("%s mirror %s: %w", layout, path, err)
}

// newDecision begins the plan of a mirror. Planning changes packages, so it works on copies. The source stays
// as it was read and can be planned again.
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

// Changes reports whether the plan writes anything.
func (p *Plan) Changes() bool {
	for _, m := range p.Mirrors {
		if len(m.Blobs)+len(m.Documents)+len(m.Marker)+len(m.Keys)+len(m.KeyIndex)+len(m.changingViews()) > 0 || m.Index.Changes {
			return true
		}
	}
	return slices.ContainsFunc(p.Files, func(f *FilePlan) bool { return len(f.Writes) > 0 })
}
