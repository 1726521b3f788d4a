// Package inventory tells what a mirror offers: its packages, what they depend on and who depends on them, how large
// they are and who signed them. It reads what clients read, first of all the index, and writes nothing.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// ErrNoIndex: the mirror has no index, or there is no mirror.
var ErrNoIndex = errors.New("no index of a Spack mirror is here")

// Limits on what is read whole, far above what Spack writes.
const (
	maxManifest = 16 << 20
	maxIndex    = 4 << 30
)

// A Build is a package that a mirror offers.
type Build struct {
	*query.Node
	Layout string // v3 or v2
}

// spec is what package layout makes names of.
func (b *Build) spec() *spec.Node {
	return &spec.Node{Name: b.Name, Version: b.Version.String(), Hash: spec.Hash(b.Hash), OS: b.OS, Target: b.Target}
}

// An Inventory is what the indices of a mirror say.
type Inventory struct {
	Layouts []string     // those that have an index: v3, v2
	Graph   *query.Graph // all packages, also those that are only depended on
	Builds  []*Build     // that are offered, by name, the newest version first

	offered map[*query.Node]*Build
}

// Read reads the indices of a mirror. With a view it reads that one instead, which only layout v3 has.
func Read(ctx context.Context, r mirror.Reader, view string) (*Inventory, error) {
	inv := &Inventory{Graph: query.NewGraph(), offered: make(map[*query.Node]*Build)}
	// A store denies what is not there to those who may not list. So what is denied counts only if nothing else is there.
	denied := inv.readV3(ctx, r, view)
	if denied != nil && (view != "" || !errors.Is(denied, mirror.ErrDenied)) {
		return nil, denied
	}
	if view == "" {
		if err := inv.readV2(ctx, r); err != nil && (len(inv.Layouts) == 0 || !errors.Is(err, mirror.ErrDenied)) {
			return nil, err
		}
	}
	if len(inv.Layouts) == 0 && denied != nil {
		return nil, denied
	}
	if len(inv.Layouts) == 0 {
		return nil, fmt.Errorf("%w: want %s or %s", ErrNoIndex, indexName(view), layout.V2Index)
	}
	inv.Graph.Link()
	slices.SortFunc(inv.Builds, func(a, b *Build) int { return Compare(a.Node, b.Node) })
	return inv, nil
}

// Compare orders packages by name, the newest version first.
func Compare(a, b *query.Node) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), b.Version.Compare(a.Version), cmp.Compare(a.Version.String(), b.Version.String()), cmp.Compare(a.Hash, b.Hash))
}

// indexName is where the manifest of an index of layout v3 is.
func indexName(view string) string {
	if view == "" {
		return layout.V3Index
	}
	return layout.V3Indices + view + "/index.manifest.json"
}

func (inv *Inventory) readV3(ctx context.Context, r mirror.Reader, view string) error {
	name := indexName(view)
	if _, ok := layout.IsV3View(name); view != "" && (!ok || slices.ContainsFunc(strings.Split(view, "/"), func(p string) bool { return p == "" || p == "." || p == ".." })) {
		return fmt.Errorf("%q is no name of a view", view)
	}
	text, _, err := mirror.Read(ctx, r, name, maxManifest)
	if errors.Is(err, mirror.ErrNotExist) && view != "" {
		return fmt.Errorf("view %s: %w", view, ErrNoIndex)
	}
	if errors.Is(err, mirror.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	records, err := recordsOf(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	found := false
	for _, version := range []int{index.V9, index.V8} {
		for _, rec := range records {
			if rec.MediaType != manifest.IndexType(version) {
				continue
			}
			if err := inv.readIndex(ctx, r, rec, version); err != nil {
				return err
			}
			found = true
			break
		}
	}
	if !found {
		return fmt.Errorf("%s: it names no index that this release knows", name)
	}
	inv.Layouts = append(inv.Layouts, "v3")
	return nil
}

// recordsOf reads a manifest, which may be signed.
func recordsOf(document []byte) ([]manifest.Record, error) {
	text, err := key.Text(document)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, err
	}
	return m.Records, nil
}

func (inv *Inventory) readIndex(ctx context.Context, r mirror.Reader, rec manifest.Record, version int) error {
	if err := rec.Unusable(); err != nil {
		return err
	}
	name := layout.V3Blob(rec.Digest)
	raw, _, err := mirror.Read(ctx, r, name, maxIndex)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if got := blob.DigestOf(raw); got != rec.Digest {
		return fmt.Errorf("index: %w", &blob.MismatchError{Name: name, WantSize: rec.Size, GotSize: int64(len(raw)), Want: rec.Digest, Got: got})
	}
	return inv.add(raw, version, "v3")
}

func (inv *Inventory) readV2(ctx context.Context, r mirror.Reader) error {
	raw, _, err := mirror.Read(ctx, r, layout.V2Index, maxIndex)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if err := inv.add(raw, index.V7, "v2"); err != nil {
		return err
	}
	inv.Layouts = append(inv.Layouts, "v2")
	return nil
}

// add adds the records of an index. A package that is in several is the one of the newest format.
func (inv *Inventory) add(raw []byte, version int, in string) error {
	x, err := index.Parse(raw, version)
	if err != nil {
		return err
	}
	for e := range x.All() {
		n, err := inv.Graph.Add(e.Node)
		if err != nil {
			return fmt.Errorf("index: record of %s/%s: %w", e.Name, e.Hash.Short(), err)
		}
		if n.Hash != string(e.Hash) {
			return fmt.Errorf("index: record of %s/%s is about /%s", e.Name, e.Hash.Short(), n.Hash)
		}
		if e.InBuildcache && inv.offered[n] == nil {
			b := &Build{n, in}
			inv.offered[n] = b
			inv.Builds = append(inv.Builds, b)
		}
	}
	return nil
}

// Offers returns the build of a package, or nil if the mirror does not offer it.
func (inv *Inventory) Offers(n *query.Node) *Build { return inv.offered[n] }

// Select returns the builds that match a query, in their order.
func (inv *Inventory) Select(q *query.Query) []*Build {
	var found []*Build
	for _, b := range inv.Builds {
		if q.Matches(inv.Graph, b.Node) {
			found = append(found, b)
		}
	}
	return found
}

// Nodes yields every package that a query matches, also those that are only depended on.
func (inv *Inventory) Nodes(q *query.Query) iter.Seq[*query.Node] {
	return func(yield func(*query.Node) bool) {
		for n := range inv.Graph.All() {
			if q.Matches(inv.Graph, n) && !yield(n) {
				return
			}
		}
	}
}

// Unknown returns the names in a query that no package has, and no virtual one.
func (inv *Inventory) Unknown(q *query.Query) []string {
	known := inv.Names()
	return slices.DeleteFunc(q.Names(), func(name string) bool {
		_, ok := slices.BinarySearch(known, name)
		return ok || inv.Graph.Virtual(name)
	})
}

// Names are the names of all packages, sorted.
func (inv *Inventory) Names() []string {
	var names []string
	for n := range inv.Graph.All() {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
