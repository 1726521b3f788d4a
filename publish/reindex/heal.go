package reindex

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/keyindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Healed is the result of bringing one index of a mirror in line with its objects.
type Healed struct {
	Layout  string   `json:"layout"`
	Before  int      `json:"before"` // packages offered
	After   int      `json:"after"`
	Indexed []string `json:"indexed"` // packages that the index lacked
	Changed bool     `json:"changed"` // the package index, not the key index
	Digest  string   `json:"digest"`
	Bytes   int64    `json:"bytes"` // of the index; 0: not known
	// Stale are the fixed names for which caches may have earlier content: names that Heal has written or
	// that were reported as written by another program, documents that were stored again after the index
	// offered them, tarballs of layout v2 that were stored although the index offered them, and repeated
	// names, whose invalidation may have been lost.
	Stale []string `json:"stale"`
	// Kept are packages that were reported as stored but are kept out of the index: see
	// buildcache.Pointer.WhyKeptOut.
	Kept []buildcache.Finding `json:"kept_out,omitempty"`
	// Findings say which packages of the mirror the index does not offer, and why: content that has not
	// arrived yet, damage, or an untrusted signature.
	Findings []buildcache.Finding `json:"findings"`

	format   buildcache.Layout
	packages []spec.Hash // offered packages that were touched or that the index lacked
}

// Expectation returns an expectation of the touched and indexed packages of the mirror at path.
func (h *Healed) Expectation(path string) Expectation {
	return Expectation{Path: path, Digest: h.Digest, Layout: h.format, Packages: h.packages}
}

// Changes lists the objects of a mirror that were reported as stored.
type Changes struct {
	Names []string // of objects that were stored
	// Repeated are those of Names that were reported before. A process may have died while it handled them.
	Repeated []string
}

// Heal updates the index and the key index of a mirror with the objects of the given names, for each layout
// that the names belong to. It ignores names that are not fixed (layout.Fixed). It reads the current objects
// and what is listed with them, so neither the order of names nor repetition matters. It only adds: if an
// object is gone, its package stays in the index.
//
// Its cost depends on the number of names and not on the size of the mirror, with two exceptions. An index
// that changes is read and written. An index that another program wrote is compared with the whole mirror,
// because it may have lost packages.
//
// An incomplete package or key is left out, with a finding. The caller must pass its name again later.
func Heal(ctx context.Context, s mirror.Store, trust buildcache.Trust, t Changes) ([]Healed, error) {
	var all []Healed
	for _, f := range buildcache.Layouts() {
		h := healing{format: f, store: s, trust: trust, touched: fixedIn(f, t.Names), again: fixedIn(f, t.Repeated), out: Healed{
			Layout: f.Name(), Indexed: []string{}, Stale: []string{}, Findings: []buildcache.Finding{}, format: f,
		}}
		if len(h.touched) == 0 {
			continue
		}
		if err := h.heal(ctx); err != nil {
			return all, fmt.Errorf("%s index: %w", f.Name(), err)
		}
		all = append(all, h.out)
	}
	return all, nil
}

func fixedIn(f buildcache.Layout, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		l, ok := layout.Fixed(name)
		return !ok || l != f.Name()
	})
}

// A healing updates one layout of a mirror.
type healing struct {
	format  buildcache.Layout
	store   mirror.Store
	trust   buildcache.Trust
	touched []string
	again   []string
	seen    *buildcache.Survey
	out     Healed
}

// The marker and the keys come before the index, as in a publish.
func (h *healing) heal(ctx context.Context) error {
	if err := h.look(ctx); err != nil {
		return err
	}
	if err := h.mark(ctx); err != nil {
		return err
	}
	if err := h.keys(ctx); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := h.index(ctx); err != nil {
		return err
	}
	h.stale()
	return nil
}

// stale fills in Stale.
func (h *healing) stale() {
	for _, name := range h.touched {
		if h.pointer(name) {
			h.out.Stale = append(h.out.Stale, name)
		}
	}
	bad := func(name string) bool {
		return slices.ContainsFunc(h.out.Findings, func(f buildcache.Finding) bool { return f.File == name })
	}
	if slices.ContainsFunc(h.again, func(name string) bool { return !h.isTarball(name) && !bad(name) }) {
		h.out.Stale = append(h.out.Stale, h.format.IndexNames()...)
		if objects, err := h.format.KeyIndex(nil); err == nil {
			h.out.Stale = append(h.out.Stale, objects[len(objects)-1].Name)
		}
	}
	slices.Sort(h.out.Stale)
	h.out.Stale = slices.Compact(h.out.Stale)
}

// look surveys the touched names. It lists the whole mirror if another program has replaced the index and
// left no Coverage: Spack writes an index of what it saw, without checking whether another publisher has
// replaced it in the meantime. A publisher may have merged into that index since. Then Foreign still says
// that the mirror has not been listed. An earlier pointer that was put back is treated the same way.
func (h *healing) look(ctx context.Context) error {
	p, err := buildcache.PointerForUpdate(ctx, h.format, h.store)
	if err != nil {
		return err
	}
	if pointer := h.format.IndexNames()[0]; slices.Contains(h.touched, pointer) {
		found, err := putback.Recall(ctx, h.format, h.store, p)
		if err != nil {
			return err
		}
		if found != nil {
			h.out.Findings = append(h.out.Findings, buildcache.Warning.In(pointer, found.Error()))
		}
		if p.Coverage == nil || p.Foreign != "" {
			h.seen, err = buildcache.SurveyAll(ctx, h.format, h.store, p)
			return err
		}
	}
	names := slices.DeleteFunc(slices.Clone(h.touched), func(name string) bool { return slices.Contains(h.format.IndexNames(), name) })
	if len(names) == 0 {
		h.seen = &buildcache.Survey{Pointer: p}
		return nil
	}
	if m, ok := h.format.Marker(); ok {
		names = append(names, m.Name)
	}
	h.seen, err = buildcache.SurveyAt(ctx, h.format, h.store, p, names)
	return err
}

// mark stores the layout marker if there are packages but no marker. A marker that another publisher stores
// meanwhile stays.
func (h *healing) mark(ctx context.Context) error {
	m, ok := h.format.Marker()
	if !ok || h.seen.Has(buildcache.Object{Name: m.Name, Size: -1}) || len(h.seen.Packages(h.format)) == 0 {
		return nil
	}
	if err := h.store.Create(ctx, m.Upload()); err != nil && !errors.Is(err, mirror.ErrExist) {
		return fmt.Errorf("layout: %w", err)
	}
	return nil
}

// keys offers the mirror's keys to clients, if a key was touched or there is no key index.
func (h *healing) keys(ctx context.Context) error {
	keys := h.seen.Keys(h.format)
	objects, err := h.format.KeyIndex(keys)
	if err != nil || len(keys) == 0 {
		return err
	}
	pointer := objects[len(objects)-1].Name
	touched := slices.ContainsFunc(h.touched, func(name string) bool {
		_, ok := h.format.ParseKeyName(name)
		return ok || name == pointer
	})
	if !touched && h.seen.Has(buildcache.Object{Name: pointer, Size: -1}) {
		return nil
	}
	lacked, findings, err := keyindex.AddTrusted(ctx, h.format, h.store, h.trust, keys)
	h.out.Findings = append(h.out.Findings, findings...)
	if err == nil && lacked {
		h.out.Stale = append(h.out.Stale, pointer)
	}
	return err
}

// pointer reports whether name is an object in which clients find packages or keys.
func (h *healing) pointer(name string) bool {
	_, document := h.format.ParsePackageName(name)
	_, key := h.format.ParseKeyName(name)
	return !document && !key && !h.isTarball(name)
}

func (h *healing) isTarball(name string) bool {
	_, ok := h.format.ParseTarballName(name)
	return ok
}

// replaced reports stored tarballs that an index already offers: caches may have other bytes under that name.
// If the index offered the package only after the tarball was stored, caches have none. A late message cannot
// tell the two cases apart, and an invalidation too many does no harm.
func (h *healing) replaced(x *indices.Set) {
	for _, name := range h.touched {
		if hash, ok := h.format.ParseTarballName(name); ok && x.Has(hash) && h.seen.Has(buildcache.Object{Name: name, Size: -1}) {
			h.out.Stale = append(h.out.Stale, name)
		}
	}
}

func (h *healing) index(ctx context.Context) error {
	p := h.seen.Pointer
	h.out.Before = p.Coverage.Len()
	h.out.After = h.out.Before
	h.at(p)
	listed := h.seen.Offerable(h.format)
	h.keptOut(p)
	if !p.Incomplete && (len(listed) == 0 || h.seen.Covered(h.format)) && !slices.ContainsFunc(h.touched, h.isTarball) {
		for name, id := range listed {
			h.offered(name, id.Hash)
		}
		return nil
	}
	x, err := loadIndex(ctx, h.format, h.store, p)
	if NeedsRebuild(err) {
		return h.rebuild(ctx, err)
	}
	if err != nil {
		return err
	}
	h.replaced(x)
	found, findings, err := newPackageReader(h.format, h.store, h.seen, h.trust).readAll(ctx, h.seen.Lacking(h.format, x))
	if err != nil {
		return err
	}
	for _, f := range findings {
		h.out.Findings = append(h.out.Findings, unindexed(f))
	}
	was := p.Listed(h.seen)
	ix := &Merge{trust: h.trust, Was: was, next: x, Before: x.Offered(), found: storedAt(h.seen, found)}
	h.out.Before = ix.Before
	for name, id := range listed {
		if x.Has(id.Hash) {
			h.offered(name, id.Hash)
		}
	}
	for _, q := range found {
		h.out.Indexed = append(h.out.Indexed, q.ID())
		h.out.packages = append(h.out.packages, q.Spec.Root().Hash)
		ix.adds, ix.Healed = append(ix.adds, q), append(ix.Healed, q)
		x.Add(q.Spec)
	}
	out, err := ix.Write(ctx, h.format, h.store, h.leaveOutLost)
	if err != nil {
		return err
	}
	h.out.After = out.After
	h.out.Findings = append(h.out.Findings, out.Findings...)
	h.changed(out.Pointer != was, out.Pointer) // by this or another publisher
	return nil
}

// keptOut reports the packages that were reported as stored and are kept out of the index.
func (h *healing) keptOut(p *buildcache.Pointer) {
	for _, name := range h.touched {
		id, ok := h.format.ParsePackageName(name)
		if !ok {
			continue
		}
		if reason := p.WhyKeptOut(id.Hash); reason != "" && h.seen.Has(buildcache.Object{Name: name, Size: -1}) {
			h.out.Kept = append(h.out.Kept, buildcache.Warning.In(name, reason))
		}
	}
}

// leaveOutLost leaves out packages with objects that were deleted since they were read.
func (h *healing) leaveOutLost(ctx context.Context, now *buildcache.Pointer, adds []*buildcache.Package) ([]*buildcache.Package, error) {
	gone, err := Missing(ctx, h.format, h.store, now, adds)
	return slices.DeleteFunc(slices.Clone(adds), func(p *buildcache.Package) bool { return len(gone[p]) > 0 }), err
}

// rebuild rebuilds an index that cannot be read. Damaged packages are left out.
func (h *healing) rebuild(ctx context.Context, why error) error {
	h.out.Findings = append(h.out.Findings, buildcache.Warning.In(h.format.IndexNames()[0], fmt.Sprintf("%v: it is rebuilt", why)))
	ix, err := RebuildIndex(ctx, h.format, h.store, Rebuilding{Trust: h.trust, Lenient: true})
	if err != nil {
		return err
	}
	h.out.Findings = append(h.out.Findings, ix.Findings...)
	h.out.After = ix.After
	h.out.packages = append(h.out.packages, ix.Packages...)
	h.changed(ix.Written, ix.Pointer)
	return nil
}

// offered records a package that the index already offered. If its document was reported and is newer than
// the index, it was stored again, for example because it was signed again or rebuilt.
func (h *healing) offered(name string, hash spec.Hash) {
	h.out.packages = append(h.out.packages, hash)
	if h.seen.Objects[name].Modified.After(h.seen.Pointer.Stored) && slices.Contains(h.touched, name) {
		h.out.Stale = append(h.out.Stale, name)
	}
}

func (h *healing) changed(written bool, now *buildcache.Pointer) {
	h.at(now)
	if written {
		h.out.Changed = true
		h.out.Stale = append(h.out.Stale, h.format.IndexNames()...)
	}
}

func (h *healing) at(p *buildcache.Pointer) {
	if digest := p.Digest(); digest != "" {
		h.out.Digest, h.out.Bytes = digest, p.Size()
	}
}
