// Package reindex implements the one protocol for changing the index of a mirror.
//
// Any number of publishers may change one index. Each reads it, adds packages, and replaces it only if it is
// still the version that was read. A publisher that loses the race merges again. So no package that one of
// them has reported as published is lost. Merge adds packages, Rebuild builds the index from all packages of
// the mirror, and Heal adds reported changes. Nothing here can delete from a mirror.
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

// A Merge is a planned index with packages added, not yet written.
type Merge struct {
	Before, After int   // packages that the index offers
	Changes       bool  // whether there is anything to write
	Bytes         int64 // of the new index
	PointerBytes  int64 // stored in addition
	// Audiences says how many packages each version of Spack sees, if not all see all.
	Audiences []indices.Audience
	// Healed are the packages that the mirror holds and the index lacked. Read are the documents that were
	// read to find them.
	Healed []*buildcache.Package
	Read   []string
	// Findings are warnings about packages that the index offers although they are gone, and packages that it
	// lacks and does not get.
	Findings []buildcache.Finding

	trust     buildcache.Trust                  // whose packages may be added
	found     map[*buildcache.Package]time.Time // when the documents of Healed were stored
	published map[spec.Hash]bool                // see Mirror.Published
	revived   map[spec.Hash]*buildcache.Package // those of Healed that are published
	Was       *buildcache.Pointer               // the present index
	adds      []*buildcache.Package             // to be added
	next      *indices.Set                      // the indices of Was with adds; nil if they must be built again
}

// A Mirror is a mirror with the result of a survey.
type Mirror struct {
	Layout buildcache.Layout
	Store  mirror.Store
	Seen   *buildcache.Survey
	Trust  buildcache.Trust // whose packages may be added
	// Published are the packages of the publisher, including those that the mirror already holds. They are
	// indexed again if a rollback has taken them out.
	Published map[spec.Hash]bool
}

// asPublished returns the mirror without the withholding of published packages.
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

// Plan decides what the index gets: packages, and packages that the mirror holds but the index lacks, because
// a publisher pushed without --update-index, died before it wrote the index, or lost a race. It only reads.
// NeedsRebuild says whether its error means that the index must be rebuilt.
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

// unread plans without reading the index, if the index is large and its pointer says that it offers all
// listed packages and none of the added ones. Then only the publisher that writes the index reads it.
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
			return false, nil // the audiences depend on the content of each index
		}
	}
	m.Before, m.After = m.Was.Coverage.Len(), offered.Len()
	m.Changes, m.Bytes = true, size
	m.Was.NeedsProof(at.Store)
	m.PointerBytes = pointerFrame + int64(len(offered))*coverageEntry
	return true, nil
}

// Estimated sizes in bytes, used for planned documents.
const (
	recordFrame   = 90 // of a record, in addition to the package
	pointerFrame  = 500
	coverageEntry = 38
)

// Revived returns the mirror's copy of a published package that the index lacked. A prune may be about to
// delete it. It is nil for other packages.
func (m *Merge) Revived(h spec.Hash) *buildcache.Package {
	return m.revived[h]
}

// Supply completes revived packages with the spec of the mirror and the content of the publisher. The content
// is sent again if a prune deletes an object before it sees the objection.
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

// Without returns the merge without the refused packages.
func (m *Merge) Without(refused func(*buildcache.Package) bool) *Merge {
	out := *m
	out.adds = slices.DeleteFunc(slices.Clone(m.adds), refused)
	if len(out.adds) < len(m.adds) {
		out.next = nil // it contains refused packages: read and merge again
	}
	return &out
}

// gone warns about packages that the index offers although their documents are gone and are not stored again.
// A merge keeps them, because the deletion may still be in progress.
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

// heal reads the packages that the mirror holds and x does not offer. An incomplete or untrusted package
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

// storedAt returns when the documents of packages were stored.
func storedAt(seen *buildcache.Survey, packages []*buildcache.Package) map[*buildcache.Package]time.Time {
	at := make(map[*buildcache.Package]time.Time, len(packages))
	for _, p := range packages {
		at[p] = seen.Objects[p.File].Modified
	}
	return at
}

// loadIndex reads the index that p points at; there may be none yet. An index with a record that Spack cannot
// read counts as broken.
func loadIndex(ctx context.Context, f buildcache.Layout, r mirror.Reader, p *buildcache.Pointer) (*indices.Set, error) {
	if p.Version == mirror.Absent {
		return indices.New(f.Generations()), nil
	}
	x, err := buildcache.ReadChecked(ctx, f, r, p)
	if err != nil {
		return nil, &indexError{err}
	}
	if p.Recalled { // another program wrote the pointer or put it back
		for h := range p.Withdrawn {
			x.Withhold(h)
		}
	}
	return x, nil
}

// An indexError means that the index cannot be merged into.
type indexError struct{ err error }

func (e *indexError) Error() string { return "index: " + e.err.Error() }
func (e *indexError) Unwrap() error { return e.err }

// NeedsRebuild reports whether an error means that the index must be rebuilt: it is broken, its document is
// gone, or its version is old. It is false for an index of a newer version, which must not be replaced, and
// for one that could not be read for another reason, such as missing permission.
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

// unindexed returns a warning about a package of the mirror that is not added to the index.
func unindexed(f buildcache.Finding) buildcache.Finding {
	return buildcache.Warning.In(f.File, "the index lacks it and will not get it: "+f.Reason)
}

// A Result is the result of changing an index.
type Result struct {
	Before, After int  // packages that it offers
	Written       bool // the index was replaced
	Bytes         int64
	Audiences     []indices.Audience
	Pointer       *buildcache.Pointer // of the index that the mirror has now

	// Packages are those that a rebuilt index offers. Findings are warnings about packages left out.
	Packages []spec.Hash
	Findings []buildcache.Finding
	// LeftOut are packages that were found in the mirror but not added, because a prune is running.
	LeftOut []string
}

// Digest identifies the index that the mirror has; empty if it has none.
func (r Result) Digest() string {
	if r.Pointer == nil {
		return ""
	}
	return r.Pointer.Digest()
}

// Version returns the version of the object that clients read first, as far as it is known; Absent if there
// is none.
func (r Result) Version() mirror.Version {
	if r.Pointer == nil {
		return mirror.Absent
	}
	return r.Pointer.Version
}
