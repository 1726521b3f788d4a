// Package reindex holds the one protocol by which the index of a mirror is changed.
//
// Any number of publishers may change one index. Each reads it, adds packages, and replaces it only as the version
// that it has read; a publisher that loses the race merges again. So no package that one of them has reported as
// published is lost. Merge adds packages, Rebuild makes the index of everything that is there, and Heal brings it in
// line with changes that were reported. Nothing here can delete from a mirror.
package reindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Merge is an index with packages added: decided, and not yet written.
type Merge struct {
	Before, After int   // packages that the index offers
	Changes       bool  // whether there is anything to write
	Bytes         int64 // of the new index
	PointerBytes  int64 // that are stored besides
	// Audiences say which versions of Spack see how many packages, where not all see all.
	Audiences []indices.Audience
	// Healed are the packages that the mirror holds and the index lacked. Read are the documents that were read to
	// know them.
	Healed []*buildcache.Package
	Read   []string
	// Findings are warnings about what the index offers and is gone, or lacks and will not get.
	Findings []buildcache.Finding

	trust     buildcache.Trust                  // whose packages may be added
	found     map[*buildcache.Package]time.Time // Healed, and when their documents were stored
	published map[spec.Hash]bool                // see Mirror.Published
	revived   map[spec.Hash]*buildcache.Package // Healed that are published
	Was       *buildcache.Pointer               // the index that there was
	adds      []*buildcache.Package             // to be added
	next      *indices.Set                      // what was makes with them; nil where it has to be made again
}

// A Mirror is a mirror as a survey saw it.
type Mirror struct {
	Layout buildcache.Layout
	Store  mirror.Store
	Seen   *buildcache.Survey
	Trust  buildcache.Trust // whose packages may be added
	// Published are the packages that a publisher has, also those that the mirror holds already. A rollback that took
	// one of them out does not hold for it any more.
	Published map[spec.Hash]bool
}

// asPublished is the mirror without what holds no more for published packages.
func (m Mirror) asPublished() Mirror {
	if len(m.Seen.Pointer.Withheld) == 0 {
		return m
	}
	seen, pointer := *m.Seen, *m.Seen.Pointer
	pointer.Past = pointer.Releasing(func(h spec.Hash) bool { return m.Published[h] })
	seen.Pointer = &pointer
	m.Seen = &seen
	return m
}

// Plan decides what the index gets: packages, and what the mirror holds although the index does not say so, because
// somebody pushed without --update-index, died before it, or lost a race. It only reads. The error is unreadable if
// the index has to be rebuilt.
func Plan(ctx context.Context, m Mirror, packages []*buildcache.Package) (*Merge, error) {
	out := &Merge{trust: m.Trust, Was: m.Seen.Pointer, adds: slices.Clone(packages), published: m.Published}
	m = m.asPublished()
	if len(packages) == 0 && m.Seen.Covered(m.Layout) {
		// The usual second run: the index need not even be read.
		out.Before = out.Was.Coverage.Len()
		out.After = out.Before
		return out, nil
	}
	if known, err := out.unread(m); known || err != nil {
		return out, err
	}
	x, err := loadIndex(ctx, m.Layout, m.Store, out.Was)
	if err != nil {
		return nil, err
	}
	out.Before = x.Offered()
	out.gone(m, x)
	if err := out.heal(ctx, m, x); err != nil {
		return nil, err
	}
	for _, p := range out.adds {
		x.Add(p.Spec)
	}
	out.Was = out.Was.Listed(m.Seen)
	out.After, out.Audiences = x.Offered(), x.Audiences()
	if (x.Changed() || out.Was.Incomplete) && out.After > 0 {
		out.next, out.Changes, out.Bytes = x, true, x.Size()
		out.Was.NeedsProof(m.Store)
		out.PointerBytes, err = m.Layout.PointerSize(out.Was, x)
	}
	return out, err
}

// unread decides without reading the index, where it is large and its pointer says that it offers everything that was
// listed and nothing that is added. Of many publishers, only the one that writes the index then reads it.
func (m *Merge) unread(at Mirror) (known bool, err error) {
	if m.Was.Size() < largeIndex || len(m.adds) == 0 || m.Was.Incomplete || !at.Seen.Covered(at.Layout) {
		return false, nil
	}
	listed := make(map[spec.Hash]bool)
	names := make(map[string]bool)
	for _, id := range at.Seen.Packages(at.Layout) {
		listed[id.Hash], names[id.Package] = true, true
	}
	oldest := at.Layout.Generations()[0]
	offered := maps.Clone(m.Was.Coverage)
	size := m.Was.Size()
	for _, p := range m.adds {
		name := p.Spec.Root().Name
		if listed[p.Hash] || p.Spec.Format != oldest.Specs || !names[name] && m.Was.Coverage[name].Count > 0 {
			return false, nil
		}
		listed[p.Hash] = true
		offered.Add(name, p.Hash)
		for _, n := range p.Spec.Nodes {
			size += int64(len(n.Record)) + recordFrame
		}
	}
	for _, ref := range m.Was.Refs[1:] {
		if ref.Digest.Known() {
			return false, nil // who sees how much depends on what each of them offers
		}
	}
	m.Before, m.After = m.Was.Coverage.Len(), offered.Len()
	m.Changes, m.Bytes = true, size
	m.Was.NeedsProof(at.Store)
	m.PointerBytes = pointerFrame + int64(len(offered))*coverageEntry
	return true, nil
}

// What planned documents take besides what is known of them, in bytes, about.
const (
	recordFrame   = 90 // a record of an index, beside the package
	pointerFrame  = 500
	coverageEntry = 38
)

// Revived is what the mirror holds already of a package that is published and that the index lacked, which a prune
// may be about to delete; nil of any other.
func (m *Merge) Revived(h spec.Hash) *buildcache.Package {
	return m.revived[h]
}

// Supply gives the packages that are revived the spec that the mirror has, and the content that the publisher has,
// for a prune that deletes it before it is kept from that.
func (m *Merge) Supply(packages []*buildcache.Package, content func(name string) (blob.Source, error)) {
	for _, p := range packages {
		if m.revived[p.Hash] == nil {
			continue
		}
		p.Spec = cmp.Or(p.Spec, m.revived[p.Hash].Spec)
		for _, blobs := range [][]buildcache.Object{p.Blobs, m.revived[p.Hash].Blobs} {
			for i := range blobs {
				if c, err := content(blobs[i].Name); err == nil && blobs[i].Content == nil && (blobs[i].Size < 0 || blobs[i].Size == c.Size()) {
					blobs[i].Content, blobs[i].Size = c, c.Size()
				}
			}
		}
	}
}

// Without is the same merge without some of its packages.
func (m *Merge) Without(refused func(*buildcache.Package) bool) *Merge {
	out := *m
	out.adds = slices.DeleteFunc(slices.Clone(m.adds), refused)
	if len(out.adds) < len(m.adds) {
		out.next = nil // merged with what is now refused: read and merge again
	}
	return &out
}

// gone warns of packages that the index offers although their documents are gone, and that are not stored again.
// A merge keeps them, because the deletion may be half done.
func (m *Merge) gone(at Mirror, x *indices.Set) {
	listed := make(map[spec.Hash]bool)
	for _, id := range at.Seen.Packages(at.Layout) {
		listed[id.Hash] = true
	}
	var missing []string
	for e := range x.Records() {
		adds := func(p *buildcache.Package) bool { return p.Hash == e.Hash }
		if e.InBuildcache && !listed[e.Hash] && at.Seen.Complete(at.Layout, e.Name) && !slices.ContainsFunc(m.adds, adds) {
			missing = append(missing, e.Name+"/"+e.Hash.Short())
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		m.Findings = append(m.Findings, buildcache.Warning.In(at.Layout.IndexNames()[0],
			fmt.Sprintf("it offers what is no longer there: %s; publish index removes them from the index", alike.Few(missing))))
	}
}

// heal reads the packages that the mirror holds and x does not offer. One that is not whole, or not to be trusted,
// stays out, with a warning.
func (m *Merge) heal(ctx context.Context, at Mirror, x *indices.Set) error {
	ours := make(map[string]bool)
	for _, p := range m.adds {
		ours[p.File] = true
	}
	m.Read = slices.DeleteFunc(at.Seen.Lacking(at.Layout, x), func(name string) bool { return ours[name] })
	var findings []buildcache.Finding
	var err error
	m.Healed, findings, err = newPackageReader(at.Layout, at.Store, at.Seen, at.Trust).readAll(ctx, m.Read)
	if err != nil {
		return err
	}
	for _, f := range findings {
		m.Findings = append(m.Findings, unindexed(f))
	}
	m.revived = make(map[spec.Hash]*buildcache.Package)
	for _, p := range m.Healed {
		if m.published[p.Hash] {
			m.revived[p.Hash] = p
		}
	}
	m.adds = append(m.adds, m.Healed...)
	m.found = storedAt(at.Seen, m.Healed)
	return nil
}

// storedAt says when the documents of packages were stored.
func storedAt(seen *buildcache.Survey, packages []*buildcache.Package) map[*buildcache.Package]time.Time {
	at := make(map[*buildcache.Package]time.Time, len(packages))
	for _, p := range packages {
		at[p] = seen.Objects[p.File].Modified
	}
	return at
}

// loadIndex reads the index that p points at; there may be none yet. An index with a record that Spack's readers fail
// on is no better than a broken one.
func loadIndex(ctx context.Context, f buildcache.Layout, r mirror.Reader, p *buildcache.Pointer) (*indices.Set, error) {
	if p.Version == mirror.Absent {
		return indices.New(f.Generations()), nil
	}
	x, err := buildcache.ReadChecked(ctx, f, r, p)
	if err != nil {
		return nil, &indexError{err}
	}
	if p.Recalled { // another program has written it, or put it back
		for h := range p.Withdrawn {
			x.Withhold(h)
		}
	}
	return x, nil
}

// An indexError says that there is an index and it cannot be merged into.
type indexError struct{ err error }

func (e *indexError) Error() string { return "index: " + e.err.Error() }
func (e *indexError) Unwrap() error { return e.err }

// NeedsRebuild reports whether an index is better rebuilt than merged into: it is broken, or its document is gone, or
// it is of an old version. One of a newer version is not ours to replace, and one that we may not read may be well.
func NeedsRebuild(err error) bool {
	var broken *indexError
	if !errors.As(err, &broken) {
		return false
	}
	var version *index.VersionError
	if errors.As(err, &version) {
		return !version.Newer()
	}
	others := []error{context.Canceled, context.DeadlineExceeded, mirror.ErrDenied, mirror.ErrCredentials, mirror.ErrNoBucket, mirror.ErrFault}
	return !slices.ContainsFunc(others, func(other error) bool { return errors.Is(err, other) })
}

// unindexed is the warning about a package in the mirror that the index does not get.
func unindexed(f buildcache.Finding) buildcache.Finding {
	return buildcache.Warning.In(f.File, "the index lacks it and will not get it: "+f.Reason)
}

// A Result says what became of an index.
type Result struct {
	Before, After int  // packages that it offers
	Written       bool // and so another one than before
	Bytes         int64
	Audiences     []indices.Audience
	Pointer       *buildcache.Pointer // of the index that the mirror has now

	// Of an index that was rebuilt: what it offers, and warnings about what it leaves out.
	Packages []spec.Hash
	Findings []buildcache.Finding
	// LeftOut were found in the mirror and are not added after all: a prune is at work.
	LeftOut []string
}

// Digest identifies the index that the mirror has; empty if it has none.
func (r Result) Digest() string {
	if r.Pointer == nil {
		return ""
	}
	return r.Pointer.Digest()
}

// Version is that of the object that clients read first, as far as it is known; Absent if there is none.
func (r Result) Version() mirror.Version {
	if r.Pointer == nil {
		return mirror.Absent
	}
	return r.Pointer.Version
}
