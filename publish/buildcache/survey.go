package buildcache

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/nofile"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// The requests of a listing are estimated from the packages that the index offers, or from its size if its
// pointer does not list them: a record of Spack takes about recordSize bytes, and many records are of
// packages that the mirror does not hold. A package of layout v3 is three objects.
const (
	pageSize          = 1000 // names in one answer of ListObjectsV2
	recordSize        = 1100 // bytes of an index for one package
	objectsPerPackage = 3
)

// openList is how many directories one listing of a file system may have open: the directory and its parents.
const openList = 8

// manyPackages is a number so large that only the ranges that are needed are listed.
const manyPackages = 1 << 20

// Packages estimates the number of packages in a mirror from its index. A named index does not tell how many
// other packages there are.
func (p *Pointer) Packages() int64 {
	if p.view {
		return manyPackages
	}
	if p.Coverage != nil {
		return int64(p.Coverage.Len())
	}
	return p.Size() / recordSize
}

// A Survey says what a mirror holds, as far as a publish needs it.
type Survey struct {
	Pointer *Pointer
	Objects map[string]mirror.Info
	Ranges  []mirror.Range // listed ranges
	whole   bool           // the whole mirror was listed
}

// Has reports whether an object is there. A size of -1 matches any size.
func (s *Survey) Has(o Object) bool {
	info, ok := s.Objects[o.Name]
	return ok && (o.Size < 0 || info.Size == o.Size)
}

// Damaged returns what is wrong with an object that the mirror holds; empty if nothing.
func (s *Survey) Damaged(o Object) string {
	if info, ok := s.Objects[o.Name]; ok && o.Size >= 0 && info.Size != o.Size {
		return fmt.Sprintf("the destination holds %d bytes under its name, want %d: that object is damaged, and publish verify says how to repair it", info.Size, o.Size)
	}
	return ""
}

// Packages returns the listed documents by name. It leaves out documents that are superseded and those of
// withdrawn packages.
func (s *Survey) Packages(f Layout) map[string]layout.SpecName {
	found := make(map[string]layout.SpecName)
	there := func(name string) bool { return s.Has(Object{Name: name, Size: -1}) }
	for name := range s.Objects {
		if id, ok := f.ParsePackageName(name); ok && !s.withdrawn(id.Hash) && !Superseded(f, name, there) {
			found[name] = id
		}
	}
	return found
}

// Superseded reports whether a package also has a signed document under another name, which Spack reads
// first. The unsigned document stays, since nothing is deleted, but is not a package of its own.
func Superseded(f Layout, name string, there func(name string) bool) bool {
	signed, ok := f.SignedName(name)
	return ok && there(signed)
}

func (s *Survey) withdrawn(h spec.Hash) bool {
	if s.Pointer == nil {
		return false
	}
	_, ok := s.Pointer.Withdrawn[h]
	return ok
}

// Offerable returns the listed documents by name, without those of packages that are kept out of the index.
func (s *Survey) Offerable(f Layout) map[string]layout.SpecName {
	found := s.Packages(f)
	if s.Pointer != nil {
		maps.DeleteFunc(found, func(_ string, id layout.SpecName) bool { return s.Pointer.IsWithheld(id.Hash) })
	}
	return found
}

// Lacking returns the listed documents of packages that x does not offer and that are not kept out.
func (s *Survey) Lacking(f Layout, x *indices.Set) []string {
	var names []string
	for name, id := range s.Offerable(f) {
		if !x.Has(id.Hash) {
			names = append(names, name)
		}
	}
	return names
}

// Keys returns the keys of the mirror to offer to clients: all keys except retired ones.
func (s *Survey) Keys(f Layout) []key.Fingerprint {
	return slices.DeleteFunc(s.AllKeys(f), func(k key.Fingerprint) bool { return s.Retired(f, k) })
}

// Retired reports whether a key was retired.
func (s *Survey) Retired(f Layout, k key.Fingerprint) bool {
	return isRetired(s.Objects[f.RetiredKeyName(k)])
}

// AllKeys returns the keys of the mirror, including retired ones.
func (s *Survey) AllKeys(f Layout) []key.Fingerprint {
	var keys []key.Fingerprint
	for name := range s.Objects {
		if k, ok := f.ParseKeyName(name); ok {
			keys = append(keys, k)
		}
	}
	return UnionKeys(nil, keys)
}

// Complete reports whether all documents of packages with this name were listed.
func (s *Survey) Complete(f Layout, name string) bool {
	if s.whole {
		return true
	}
	dir := f.DocumentsOf(name)
	return slices.ContainsFunc(s.Ranges, func(r mirror.Range) bool {
		return strings.HasPrefix(dir, r.Prefix) && r.After == "" && r.Until == ""
	})
}

// Covered reports whether the index is known to offer every listed package that is not kept out, and no other
// package of the same names.
func (s *Survey) Covered(f Layout) bool {
	if s.Pointer.Coverage == nil || !s.Pointer.Checked {
		return false
	}
	for _, ref := range s.Pointer.Refs {
		name, apart := f.BlobName(ref.Digest)
		if s.whole && ref.Digest.Known() && apart && !s.Has(Object{Name: name, Size: ref.Size}) {
			return false // the index document itself is missing
		}
	}
	listed := make(map[string][]spec.Hash)
	for _, id := range s.Offerable(f) {
		listed[id.Package] = append(listed[id.Package], id.Hash)
	}
	if s.whole && len(listed) != len(s.Pointer.Coverage) {
		return false
	}
	for name, hashes := range listed {
		if !s.Pointer.Coverage.Is(name, hashes) {
			return false
		}
	}
	return true
}

// SurveyFor surveys a mirror for names in as few requests as possible. It lists everything, or only the
// directories of the names, or single names if a directory is large and few names are needed. It never
// requests an object that may be missing: a role without permission to list receives 403 for it.
func SurveyFor(ctx context.Context, f Layout, s mirror.Store, names []string) (*Survey, error) {
	p, err := f.ReadPointer(ctx, s)
	if err != nil {
		return nil, err
	}
	g, gctx := defect.WithContext(ctx)
	g.Go(func() error { return p.prepareUpdate(gctx, f, s) })
	seen, err := SurveyAt(gctx, f, s, p, names)
	return seen, cmp.Or(g.Wait(), err)
}

// SurveyAt is SurveyFor for a pointer that has been read.
func SurveyAt(ctx context.Context, f Layout, s mirror.Store, p *Pointer, names []string) (*Survey, error) {
	return SurveyDocuments(ctx, f, s, p, names, false)
}

// SurveyDocuments is SurveyAt for callers that may need only documents. If alone is true, it lists all
// documents where SurveyAt would list everything.
func SurveyDocuments(ctx context.Context, f Layout, s mirror.Store, p *Pointer, names []string, alone bool) (*Survey, error) {
	ranges := Touched(f, names, p.Packages()*objectsPerPackage)
	if ranges == nil && !alone {
		return SurveyAll(ctx, f, s, p)
	}
	if ranges == nil {
		ranges = slices.DeleteFunc(f.Ranges(p.Packages()), func(r mirror.Range) bool { return f.IsPayload(r.Prefix) })
	}
	found := &Survey{Pointer: p, Ranges: ranges}
	return found, found.List(ctx, s)
}

// SurveyAll lists the whole mirror, in parallel if its index says that it is large.
func SurveyAll(ctx context.Context, f Layout, s mirror.Store, p *Pointer) (*Survey, error) {
	found := &Survey{Pointer: p, whole: true, Ranges: f.Ranges(p.Packages())}
	return found, found.List(ctx, s)
}

func (s *Survey) List(ctx context.Context, l mirror.Lister) error {
	s.Objects = make(map[string]mirror.Info)
	var mu sync.Mutex // guards s.Objects while an entry is added
	return parallel.Each(ctx, nofile.AtOnce(parallel.Readers, openList), s.Ranges, func(ctx context.Context, r mirror.Range) error {
		for info, err := range l.List(ctx, r) {
			if err != nil {
				return fmt.Errorf("list %s: %w", r.Prefix, err)
			}
			mu.Lock()
			s.Objects[info.Name] = info
			mu.Unlock()
		}
		return nil
	})
}

// Touched returns the ranges that hold names, or nil if listing everything takes no more requests. objects is
// the approximate number of objects in the mirror.
func Touched(f Layout, names []string, objects int64) []mirror.Range {
	all := objects/pageSize + 1
	small := f.Small()
	ranges := []mirror.Range{small}
	byDir := make(map[string][]string)
	for _, name := range names {
		if strings.HasPrefix(name, small.Prefix) && (small.Until == "" || name < small.Until) {
			continue
		}
		dir := path.Dir(name) + "/"
		byDir[dir] = append(byDir[dir], name)
	}
	cost := int64(1)
	for dir, inDir := range byDir {
		pages := f.Pages(dir, objects)
		if f.NamesContent() && f.IsPayload(dir) {
			pages++ // other content in the directory is of no use
		}
		if n := int64(len(inDir)); n < pages {
			for _, name := range inDir {
				ranges = append(ranges, mirror.Range{Prefix: name})
			}
			cost += n
		} else {
			ranges = append(ranges, mirror.Range{Prefix: dir})
			cost += f.Pages(dir, objects)
		}
		if cost >= all {
			return nil
		}
	}
	return ranges
}
