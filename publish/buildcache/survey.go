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

// What a listing costs, in requests, is estimated from what the index offers, or from its size
// where its pointer does not say: Spack's records take about recordSize bytes, and many of them
// are of packages that are not there. A package of layout v3 is three objects.
const (
	pageSize          = 1000 // names in one answer of ListObjectsV2
	recordSize        = 1100 // bytes of an index for one package
	objectsPerPackage = 3
)

// openList is how many directories a list of one in a file system may have open: those on the way.
const openList = 8

// manyPackages is a number of packages of which only those that are meant are listed.
const manyPackages = 1 << 20

// Packages is how many there are about in a mirror, as far as its index tells. A named index tells nothing of what
// there is besides.
func (p *Pointer) Packages() int64 {
	if p.view {
		return manyPackages
	}
	if p.Coverage != nil {
		return int64(p.Coverage.Len())
	}
	return p.Size() / recordSize
}

// A Survey is what a mirror holds, as far as a publish needs to know.
type Survey struct {
	Pointer *Pointer
	Objects map[string]mirror.Info
	Ranges  []mirror.Range // what was listed
	whole   bool           // that was everything
}

// Has reports whether an object is there. A size of -1 is any size.
func (s *Survey) Has(o Object) bool {
	info, ok := s.Objects[o.Name]
	return ok && (o.Size < 0 || info.Size == o.Size)
}

// Damaged says what is wrong with an object that is there under the right name.
func (s *Survey) Damaged(o Object) string {
	if info, ok := s.Objects[o.Name]; ok && o.Size >= 0 && info.Size != o.Size {
		return fmt.Sprintf("the destination holds %d bytes under its name, want %d: that object is damaged, and publish verify says how to mend it", info.Size, o.Size)
	}
	return ""
}

// Packages are the documents that were listed, by name, without those of packages that are withdrawn, and without
// those that are superseded.
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

// Superseded reports whether a document was stored before its package was signed under another name, which Spack
// reads first. It stays, since nothing is deleted, and is no package of its own.
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

// Offerable are the documents that were listed, by name, without those of packages that are kept out of the index.
func (s *Survey) Offerable(f Layout) map[string]layout.SpecName {
	found := s.Packages(f)
	if s.Pointer != nil {
		maps.DeleteFunc(found, func(_ string, id layout.SpecName) bool { return s.Pointer.IsWithheld(id.Hash) })
	}
	return found
}

// Lacking are the documents of packages that were listed, that x does not offer, and that are not kept out.
func (s *Survey) Lacking(f Layout, x *indices.Set) []string {
	var names []string
	for name, id := range s.Offerable(f) {
		if !x.Has(id.Hash) {
			names = append(names, name)
		}
	}
	return names
}

// Keys are the keys that are there and to be offered to clients: not those that were retired.
func (s *Survey) Keys(f Layout) []key.Fingerprint {
	return slices.DeleteFunc(s.AllKeys(f), func(k key.Fingerprint) bool { return s.Retired(f, k) })
}

// Retired reports whether a key was retired.
func (s *Survey) Retired(f Layout, k key.Fingerprint) bool {
	return isRetired(s.Objects[f.RetiredKeyName(k)])
}

// AllKeys are the keys that are there, also those that were retired.
func (s *Survey) AllKeys(f Layout) []key.Fingerprint {
	var keys []key.Fingerprint
	for name := range s.Objects {
		if k, ok := f.ParseKeyName(name); ok {
			keys = append(keys, k)
		}
	}
	return UnionKeys(nil, keys)
}

// Complete reports whether all documents of the packages with a name were listed.
func (s *Survey) Complete(f Layout, name string) bool {
	if s.whole {
		return true
	}
	dir := f.DocumentsOf(name)
	return slices.ContainsFunc(s.Ranges, func(r mirror.Range) bool {
		return strings.HasPrefix(dir, r.Prefix) && r.After == "" && r.Until == ""
	})
}

// Covered reports whether the index is known to offer every package that was listed and is not kept out, and
// nothing else of the same names.
func (s *Survey) Covered(f Layout) bool {
	if s.Pointer.Coverage == nil || !s.Pointer.Checked {
		return false
	}
	for _, ref := range s.Pointer.Refs {
		name, apart := f.BlobName(ref.Digest)
		if s.whole && ref.Digest.Known() && apart && !s.Has(Object{Name: name, Size: ref.Size}) {
			return false // the index names all, and is lost itself
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

// SurveyFor surveys a mirror for names, in as few requests as it can: it lists everything,
// or only the directories that are touched, or single names where a directory is large
// and few are asked for. It never asks for an object that may not be there, because
// a narrowed role is answered 403 then.
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

// SurveyAt is look where the pointer has been read.
func SurveyAt(ctx context.Context, f Layout, s mirror.Store, p *Pointer, names []string) (*Survey, error) {
	return SurveyDocuments(ctx, f, s, p, names, false)
}

// SurveyDocuments is SurveyAt that can do with documents alone: then, where it would list everything, it lists all
// documents.
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

// SurveyAll lists everything, in parallel where the index says that it is large.
func SurveyAll(ctx context.Context, f Layout, s mirror.Store, p *Pointer) (*Survey, error) {
	found := &Survey{Pointer: p, whole: true, Ranges: f.Ranges(p.Packages())}
	return found, found.List(ctx, s)
}

func (s *Survey) List(ctx context.Context, l mirror.Lister) error {
	s.Objects = make(map[string]mirror.Info)
	var mu sync.Mutex // guards s.objects while a page is put in
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

// Touched returns the ranges that hold names, or nil if listing everything takes no
// more requests. objects is how many there are about in all.
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
			pages++ // what else is there tells nothing
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
