package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// A Usage says how the bytes of a mirror are used. Without a listing only Documents is known.
type Usage struct {
	Documents []*Document // of the builds, in their order
	Listed    bool

	Objects, Bytes int64 // everything that was listed
	// Unindexed are objects of packages that are in no index or whose document cannot be used. Superseded are
	// blobs to which nothing points: replaced indices and leftovers of publishers that died. Other is
	// everything else: indices, keys, release files.
	Unindexed, Superseded, Other Amount
}

// An Amount is a number of objects and their bytes.
type Amount struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) {
	a.Objects++
	a.Bytes += bytes
}

// Usage reads the document of every build and lists the mirror, if that is possible.
func (inv *Inventory) Usage(ctx context.Context, r mirror.Reader) (*Usage, error) {
	u := &Usage{}
	var err error
	if u.Documents, err = Documents(ctx, r, inv.Builds); err != nil {
		return nil, err
	}
	if l, ok := r.(mirror.Lister); ok {
		return u, u.list(ctx, r, l)
	}
	return u, nil
}

// list classifies the listed objects. A blob belongs to the first package, in the order of builds, that
// points at it.
func (u *Usage) list(ctx context.Context, r mirror.Reader, l mirror.Lister) error {
	listed := make(map[string]int64)
	for info, err := range l.List(ctx, mirror.Range{}) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		listed[info.Name] = info.Size
		u.Objects++
		u.Bytes += info.Size
	}
	u.Listed = true
	take := func(name string) (size int64, ok bool) {
		size, ok = listed[name]
		delete(listed, name)
		return size, ok
	}
	for _, d := range u.Documents {
		if d.Unusable == nil {
			take(d.Name)
		}
		for _, b := range d.Blobs {
			take(b.Name)
		}
	}
	documents, blobs, err := pointed(ctx, r, listed)
	if err != nil {
		return err
	}
	for name := range listed {
		of := &u.Other
		switch {
		case isOfPackage(name) || documents[name]:
			of = &u.Unindexed
		case isContent(name) && !blobs[name]:
			of = &u.Superseded
		}
		of.add(listed[name])
	}
	return nil
}

// isOfPackage reports whether an object's name is that of a package's document or tarball.
func isOfPackage(name string) bool {
	return slices.ContainsFunc(buildcache.Layouts(), func(l buildcache.Layout) bool {
		_, document := l.ParsePackageName(name)
		_, tarball := l.ParseTarballName(name)
		return document || tarball
	})
}

// isContent reports whether an object is named by its content, so that only the object that points at it
// shows where it belongs.
func isContent(name string) bool {
	return slices.ContainsFunc(buildcache.Layouts(), func(l buildcache.Layout) bool { return l.NamesContent() && l.IsPayload(name) })
}

// pointsAtContent reports whether an object is a manifest.
func pointsAtContent(name string) bool {
	return strings.HasSuffix(name, ".manifest.json") && slices.ContainsFunc(buildcache.Layouts(), func(l buildcache.Layout) bool { return l.NamesContent() && l.Owns(name) })
}

// pointed reads the manifests in the rest of a listing. It returns the blobs of packages and those of other
// manifests.
func pointed(ctx context.Context, r mirror.Reader, listed map[string]int64) (packages, others map[string]bool, err error) {
	var names []string
	for name := range listed {
		if pointsAtContent(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	found := make([][]string, len(names))
	err = parallel.Each(ctx, parallel.Readers, parallel.Positions(names), func(ctx context.Context, i int) error {
		text, _, err := mirror.Read(ctx, r, names[i], buildcache.MaxDocument)
		if errors.Is(err, mirror.ErrNotExist) {
			return nil // deleted after the listing
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", names[i], err)
		}
		m, err := buildcache.ReadManifest(text)
		if err != nil {
			return nil // damaged: publish verify reports it, and its blobs look superseded
		}
		for _, rec := range m.Records {
			if rec.Unusable() == nil {
				found[i] = append(found[i], buildcache.BlobOf(rec).Name)
			}
		}
		return nil
	})
	packages, others = make(map[string]bool), make(map[string]bool)
	for i, name := range names {
		for _, b := range found[i] {
			if isOfPackage(name) {
				packages[b] = true
			} else {
				others[b] = true
			}
		}
	}
	return packages, others, err
}

// A Group is the size of builds that have something in common.
type Group struct {
	Name     string `json:"name"`
	Packages int    `json:"packages"`
	Bytes    int64  `json:"bytes"`
}

// GroupBy sums documents and their blobs by the names that a function returns for them, the largest group
// first. Within a group, a blob that several packages share counts once.
func GroupBy(documents []*Document, names func(*Document) []string) []Group {
	groups := make(map[string]*Group)
	counted := make(map[[2]string]bool)
	for _, d := range documents {
		for _, name := range names(d) {
			g := groups[name]
			if g == nil {
				g = &Group{Name: name}
				groups[name] = g
			}
			g.Packages++
			g.Bytes += d.Size
			for _, b := range d.Blobs {
				if at := [2]string{name, b.Name}; !counted[at] {
					counted[at] = true
					g.Bytes += b.Size
				}
			}
		}
	}
	var all []Group
	for _, g := range groups {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b Group) int {
		if a.Bytes != b.Bytes {
			return int(min(1, max(-1, b.Bytes-a.Bytes)))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}
