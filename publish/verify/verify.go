// Package verify checks a mirror: every pointer resolves, and every object is what its name, or the document
// that refers to it, says. It only reads. Beside a running publisher it reports only what that has not
// finished.
package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Options say how much is checked.
type Options struct {
	// Deep reads every blob and compares its digest. Without it only the existence and the size of tarballs are
	// checked; smaller objects are read in any case.
	Deep bool
	// Trust says which packages may be offered to clients.
	Trust buildcache.Trust
	// Upstream are packages that clients get from another mirror. If it is set, everything that installing a
	// package needs must be offered here or there.
	Upstream map[spec.Hash]bool
	// Views are named indices that must exist. If the mirror cannot be listed, it is walked from each of them,
	// like a client that has chosen it, and not from the index of the whole mirror. If it can, every view is
	// checked in any case.
	Views []string
	// Checked, if set, receives progress: n of the of known objects are checked. Calls do not overlap. Both
	// numbers only grow.
	Checked func(n, of int)
}

// A Report holds the findings of a mirror. Two reports of the same mirror are equal.
type Report struct {
	Layouts  []string             `json:"layouts"`  // "v3", "v2": what the mirror holds
	Packages int                  `json:"packages"` // documents of packages
	Objects  int                  `json:"objects"`  // listed or, without a listing, requested objects
	Bytes    int64                `json:"bytes"`    // in these objects
	Keys     int                  `json:"keys"`     // public keys
	Orphans  int                  `json:"orphans"`  // blobs without references: superseded indices, leftovers of dead publishers
	Findings []buildcache.Finding `json:"findings"` // sorted by file
	Repair   Repair               `json:"repair,omitzero"`
	// Audiences say how many packages each version of Spack sees, if they differ.
	Audiences []indices.Audience `json:"audiences,omitempty"`
}

// Damaged reports whether any finding is an error.
func (v *Report) Damaged() bool { return buildcache.Failed(v.Findings) }

// maxUnreadable is how many objects may be unreadable, without being absent, before the storage counts as
// broken rather than the mirror.
const maxUnreadable = 20

// verifyHashers is how many blobs are hashed at once, and verifyBuffer the memory that each of them uses.
const (
	verifyHashers = 16
	verifyBuffer  = 256 << 10
)

// Mirror checks a mirror: that every pointer resolves, and that every object is what its name, or the document
// that refers to it, says. Problems are in the Findings; an error means that the mirror could not be checked.
//
// If the mirror is also a mirror.Lister, all objects are checked, including those in no index. Any other mirror
// is walked from its index, as by a client. Beside a running publisher Mirror reports only what that has not
// finished.
func Mirror(ctx context.Context, r mirror.Reader, o Options) (*Report, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	v := &verifier{
		Options: o,
		reader:  newProbe(r, stop),
		keys:    make(map[key.Fingerprint]bool),
		result:  Report{Layouts: []string{}, Findings: []buildcache.Finding{}},
	}
	if v.lister, _ = r.(mirror.Lister); v.lister == nil {
		v.reader.seen = make(map[string]int64)
	}
	err := v.layouts(ctx)
	if err == nil {
		if s, ok := r.(leftoverLister); ok {
			v.leftovers(ctx, s)
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return v.finish(), nil
}

// A verifier collects findings.
type verifier struct {
	Options
	reader *probe
	lister mirror.Lister // nil if the mirror cannot be listed

	mu     sync.Mutex // guards the fields below, and is held while Checked is called
	result Report
	keys   map[key.Fingerprint]bool
	newer  bool // there is an index of a version that this program cannot rebuild
	n, of  int
}

func (v *verifier) layouts(ctx context.Context) error {
	var denied error
	for _, f := range v.indices() {
		c := &check{verifier: v, Layout: f, refs: make(map[string]*ref), specs: spec.NewReader(buildcache.MaxHeld)}
		there, err := c.open(ctx)
		if err != nil {
			return err
		}
		denied = cmp.Or(denied, c.denied)
		if !there {
			if f.ViewName() != "" {
				v.absentView(f)
			}
			continue
		}
		if !slices.Contains(v.result.Layouts, f.Name()) {
			v.result.Layouts = append(v.result.Layouts, f.Name())
		}
		if err := c.run(ctx); err != nil {
			return err
		}
	}
	if len(v.result.Layouts) > 0 {
		return nil
	}
	if denied != nil {
		return fmt.Errorf("%w, or it may not be read: %w", buildcache.ErrNoMirror, denied)
	}
	return fmt.Errorf("%w: want %s", buildcache.ErrNoMirror, strings.Join(v.wanted(), " or "))
}

// indices are the indices from which a mirror is walked.
func (v *verifier) indices() []buildcache.Layout {
	if v.lister != nil || len(v.Views) == 0 {
		return buildcache.Layouts()
	}
	var named []buildcache.Layout
	for _, view := range v.Views {
		named = append(named, buildcache.View(view))
	}
	return named
}

// wanted returns names of missing objects.
func (v *verifier) wanted() []string {
	var names []string
	for _, l := range v.indices() {
		names = append(names, l.IndexNames()[0])
	}
	return names
}

func (v *verifier) report(s buildcache.Severity, file, reason string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Findings = append(v.result.Findings, s.In(file, fmt.Sprintf(reason, args...)))
}

func (v *verifier) damage(file, reason string, args ...any) {
	v.report(buildcache.Error, file, reason, args...)
}

// checked adds n checked objects, and more known ones.
func (v *verifier) checked(n, more int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n += n
	v.of += more
	if v.Checked != nil && (n > 0 || more > 0) {
		v.Checked(v.n, v.of)
	}
}

func (v *verifier) finish() *Report {
	for _, size := range v.reader.seen {
		v.result.Objects++
		v.result.Bytes += size
	}
	v.result.Keys = len(v.keys)
	v.result.Repair.tidy()
	v.result.Repair.Index = v.result.Repair.Index && !v.newer
	slices.SortFunc(v.result.Findings, func(a, b buildcache.Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Reason, b.Reason))
	})
	v.result.Findings = slices.Compact(v.result.Findings)
	return &v.result
}

// A check verifies one layout of a mirror.
type check struct {
	*verifier
	buildcache.Layout

	listed  map[string]mirror.Info // nil without a listing
	pointer *buildcache.Pointer
	index   *indices.Set // nil if no index can be read
	broken  bool         // an index exists but cannot be read
	records map[spec.Hash]known
	denied  error // why the index cannot be read

	mu        sync.Mutex // guards the fields below
	refs      map[string]*ref
	unindexed map[spec.Hash]string // documents of stored packages that are not offered
	signed    map[key.Issuer]int   // packages by the key that signed them, as their signatures say
	publics   []*key.Public        // keys offered to clients
	own       *key.Ring            // of these
	unread    bool                 // some of the offered keys are unknown
	specs     *spec.Reader
}

// A known is a record of an index.
type known struct {
	index.Entry
	node *spec.Node // without its Record; nil if it cannot be read
}

// A ref is a blob that documents refer to.
type ref struct {
	buildcache.Object
	owners []string
	done   bool // hashed already, or known to be bad
}

func (c *check) run(ctx context.Context) error {
	c.unindexed = make(map[spec.Hash]string)
	if c.index != nil {
		c.records = make(map[spec.Hash]known)
		for _, part := range c.index.ByGeneration() {
			records, err := c.checkIndex(ctx, c.indexName(), part)
			if err != nil {
				return err
			}
			for h, k := range records {
				if was := c.records[h]; !was.InBuildcache {
					c.records[h] = k
				}
			}
		}
		c.offered(c.indexName(), c.records)
		c.needed(c.indexName(), c.records)
		c.result.Audiences = append(c.result.Audiences, c.index.Audiences()...)
	}
	// Keys first: without trusted keys they check the signatures.
	if err := c.checkKeys(ctx); err != nil {
		return err
	}
	views := c.views()
	c.absentViews(views)
	docs := c.documents(len(views) > 0)
	c.checked(0, len(docs))
	err := parallel.Each(ctx, parallel.Readers, docs, func(ctx context.Context, d document) error {
		c.checkDocument(ctx, d)
		c.checked(1, 0)
		return context.Cause(ctx)
	})
	if err != nil {
		return err
	}
	c.reportUnindexed(ctx)
	for _, name := range views {
		if err := c.checkView(ctx, name); err != nil {
			return err
		}
	}
	c.reportKeys(time.Now())
	c.checkHash(ctx)
	if marker, ok := c.Marker(); ok && c.missing(ctx, buildcache.Object{Name: marker.Name, Size: -1}) != "" {
		c.report(buildcache.Warning, marker.Name, "it is not there; Spack writes it to declare the layout")
	}
	return c.checkBlobs(ctx)
}
