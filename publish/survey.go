package publish

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

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

// packages is how many there are about in a mirror, as far as its index tells.
func (p *pointer) packages() int64 {
	if p.Coverage != nil {
		return int64(p.Coverage.Len())
	}
	return p.size() / recordSize
}

// A survey is what a mirror holds, as far as a publish needs to know.
type survey struct {
	pointer *pointer
	objects map[string]mirror.Info
	ranges  []mirror.Range // what was listed
	whole   bool           // that was everything
}

// has reports whether an object is there. A size of -1 is any size.
func (s *survey) has(o Object) bool {
	info, ok := s.objects[o.Name]
	return ok && (o.Size < 0 || info.Size == o.Size)
}

// damaged says what is wrong with an object that is there under the right name.
func (s *survey) damaged(o Object) string {
	if info, ok := s.objects[o.Name]; ok && o.Size >= 0 && info.Size != o.Size {
		return fmt.Sprintf("the destination holds %d bytes under its name, want %d: remove that damaged object", info.Size, o.Size)
	}
	return ""
}

// packages are the documents that were listed, by name.
func (s *survey) packages(f format) map[string]layout.SpecName {
	found := make(map[string]layout.SpecName)
	for name := range s.objects {
		if id, ok := f.packageName(name); ok {
			found[name] = id
		}
	}
	return found
}

// lacking are the documents of packages that were listed and that x does not offer.
func (s *survey) lacking(f format, x *indices) []string {
	var names []string
	for name, id := range s.packages(f) {
		if !x.Has(id.Hash) {
			names = append(names, name)
		}
	}
	return names
}

func (s *survey) keys(f format) []key.Fingerprint {
	var keys []key.Fingerprint
	for name := range s.objects {
		if k, ok := f.keyName(name); ok {
			keys = append(keys, k)
		}
	}
	return union(nil, keys)
}

// complete reports whether all documents of the packages with a name were listed.
func (s *survey) complete(f format, name string) bool {
	if s.whole {
		return true
	}
	dir, _ := f.directories()
	if f.layout() == "v3" {
		dir += name + "/"
	}
	return slices.ContainsFunc(s.ranges, func(r mirror.Range) bool {
		return strings.HasPrefix(dir, r.Prefix) && r.After == "" && r.Until == ""
	})
}

// covered reports whether the index is known to offer every package that was listed, and
// nothing else of the same names.
func (s *survey) covered(f format) bool {
	if s.pointer.Coverage == nil || !s.pointer.checked {
		return false
	}
	for _, ref := range s.pointer.refs {
		if s.whole && ref.Digest.Known() && !s.has(Object{Name: layout.V3Blob(ref.Digest), Size: ref.Size}) {
			return false // the index names all, and is lost itself
		}
	}
	listed := make(map[string][]spec.Hash)
	for _, id := range s.packages(f) {
		listed[id.Package] = append(listed[id.Package], id.Hash)
	}
	if s.whole && len(listed) != len(s.pointer.Coverage) {
		return false
	}
	for name, hashes := range listed {
		if !s.pointer.Coverage.Is(name, hashes) {
			return false
		}
	}
	return true
}

// look surveys a mirror for names, in as few requests as it can: it lists everything,
// or only the directories that are touched, or single names where a directory is large
// and few are asked for. It never asks for an object that may not be there, because
// a narrowed role is answered 403 then.
func look(ctx context.Context, f format, s mirror.Store, names []string) (*survey, error) {
	p, err := whichIndex(ctx, f, s)
	if err != nil {
		return nil, err
	}
	return lookFor(ctx, f, s, p, names)
}

// lookFor is look where the pointer has been read.
func lookFor(ctx context.Context, f format, s mirror.Store, p *pointer, names []string) (*survey, error) {
	ranges := touched(f, names, p.packages()*objectsPerPackage)
	if ranges == nil {
		return lookAll(ctx, f, s, p)
	}
	found := &survey{pointer: p, ranges: ranges}
	return found, found.list(ctx, s)
}

// lookAll lists everything, in parallel where the index says that it is large.
func lookAll(ctx context.Context, f format, s mirror.Store, p *pointer) (*survey, error) {
	found := &survey{pointer: p, whole: true, ranges: everything(f, p.packages())}
	return found, found.list(ctx, s)
}

func (s *survey) list(ctx context.Context, l mirror.Lister) error {
	s.objects = make(map[string]mirror.Info)
	var mu sync.Mutex // guards s.objects while a page is put in
	return parallel.Each(ctx, nofile.AtOnce(parallel.Readers, openList), s.ranges, func(ctx context.Context, r mirror.Range) error {
		for info, err := range l.List(ctx, r) {
			if err != nil {
				return fmt.Errorf("list %s: %w", r.Prefix, err)
			}
			mu.Lock()
			s.objects[info.Name] = info
			mu.Unlock()
		}
		return nil
	})
}

// touched returns the ranges that hold names, or nil if listing everything takes no
// more requests. objects is how many there are about in all.
func touched(f format, names []string, objects int64) []mirror.Range {
	all := objects/pageSize + 1
	_, keys := f.directories()
	ranges := []mirror.Range{{Prefix: keys}}
	byDir := make(map[string][]string)
	for _, name := range names {
		dir := path.Dir(name) + "/"
		byDir[dir] = append(byDir[dir], name)
	}
	cost := int64(1)
	for dir, inDir := range byDir {
		pages := int64(1)
		if dir == path.Dir(layout.V3Layout)+"/" {
			pages += objects / pageSize // everything but the blobs is below it
		} else if strings.HasPrefix(dir, layout.V3Blobs) {
			pages += objects * 2 / 3 / 256 / pageSize // digests spread evenly over 256 directories
		} else if dir == layout.V2Root {
			pages += objects / 2 / pageSize // all documents of layout v2 are in one directory
		}
		if n := int64(len(inDir)); n < pages {
			for _, name := range inDir {
				ranges = append(ranges, mirror.Range{Prefix: name})
			}
			cost += n
		} else {
			ranges = append(ranges, mirror.Range{Prefix: dir})
			cost += pages
		}
		if cost >= all {
			return nil
		}
	}
	return ranges
}

// everything splits a mirror of about so many packages into ranges of about a page each,
// so that all pages are asked for at once.
func everything(f format, packages int64) []mirror.Range {
	if f.layout() == "v2" {
		return []mirror.Range{{Prefix: layout.V2Root}}
	}
	ranges := split(mirror.Range{Prefix: layout.V3Blobs}, "0123456789abcdef", packages*2)
	if packages <= pageSize {
		return append(ranges, mirror.Range{Prefix: path.Dir(layout.V3Layout) + "/"})
	}
	ranges = append(ranges, mirror.Range{Prefix: layout.V3Layout}, mirror.Range{Prefix: layout.V3Indices}, mirror.Range{Prefix: layout.V3Keys})
	return append(ranges, split(mirror.Range{Prefix: layout.V3Specs}, "abcdefghijklmnopqrstuvwxyz", packages)...)
}

// split cuts a range at one or two characters behind its prefix if it holds more than a page,
// into no more ranges than it holds pages: each range takes at least one answer, which goes on
// behind the end of the range.
func split(r mirror.Range, alphabet string, objects int64) []mirror.Range {
	if objects <= pageSize {
		return []mirror.Range{r}
	}
	var bounds []string
	for _, c := range alphabet {
		bounds = append(bounds, r.Prefix+string(c))
		if objects > pageSize*int64(len(alphabet)) {
			for _, d := range alphabet[1:] {
				bounds = append(bounds, r.Prefix+string(c)+string(d))
			}
		}
	}
	ranges := make([]mirror.Range, 0, len(bounds)+1)
	after, pages := r.After, objects/pageSize
	for i, b := range bounds {
		if n := int64(len(bounds)); pages < n && int64(i)*pages/n == int64(i-1)*pages/n {
			continue // every so many of them is enough
		}
		ranges = append(ranges, mirror.Range{Prefix: r.Prefix, After: after, Until: b})
		after = b
	}
	return append(ranges, mirror.Range{Prefix: r.Prefix, After: after})
}
