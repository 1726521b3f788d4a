// Package catalog writes a web page that shows the packages of a mirror. The page is stored in the mirror.
//
// The page is index.html, the only object that changes. It names segments of columns, whose names are the digests
// of their content and which never change. Every package keeps its row, and new rows are only appended. Only the
// last segment of each kind is written again, so the cost of an update depends on the number of new packages.
//
// Segments, script and style are stored before the page that names them. A reader sees either the old page or the
// new page, and both are complete. Superseded segments are kept, because open pages still request them.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/downloads"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// Page is the name of the page in its mirror. The names of all its parts begin with Parts.
const (
	Page  = "index.html"
	Parts = "catalog/"
)

// format is the format of the segments. A page of another format is rebuilt.
const format = 2

// Limits on the objects that are read back, in bytes.
const (
	maxPage    = 16 << 20
	maxSegment = 64 << 20
)

// Options say how to write a page.
type Options struct {
	Title string // such as the name of the site; empty: keep that of the page, at first Spack buildcache
	URL   string // address of the mirror in the commands that users copy; empty: keep that of the page, at first the page's own address
	// Trusted are the keys that signatures are checked against; nil: check none, and keep the keys of the page.
	Trusted *key.Ring
	// Follow keeps the trusted keys of a page. Signatures are checked only if Trusted has the same keys.
	Follow bool
	// Licences reads licences from the recipe in each tarball, with one more request for each new package. A page
	// that has licences keeps them.
	Licences bool
	// Usage has the number of downloads of each package; nil: keep that of the page.
	Usage   *downloads.Report
	Rebuild bool // renumber all rows and read every document again
	Now     time.Time
}

// A Result describes an update of a page.
type Result struct {
	Packages  int      `json:"packages"` // on the page
	Names     int      `json:"-"`        // distinct names of these packages
	Added     int      `json:"added"`    // new rows, including those of dependencies that the mirror does not offer
	Objects   int      `json:"objects"`  // written
	Bytes     int64    `json:"bytes"`
	Rebuilt   bool     `json:"rebuilt"`
	Unchanged bool     `json:"unchanged"`
	Stale     []string `json:"stale"` // names whose content has changed: caches may have the old content
	// Warnings name the packages that could not be read completely. The next update tries again.
	Warnings []buildcache.Finding `json:"warnings,omitempty"`

	mu sync.Mutex // guards Stale while objects are stored
}

// A Store is the part of a mirror that Update needs. It cannot delete.
type Store interface {
	mirror.Reader
	mirror.Lister
	mirror.Writer
	mirror.Swapper
}

// ErrForeign means that the mirror has an index.html that another program wrote.
var ErrForeign = errors.New(Page + " is there and was not made by this program: it is never replaced")

// ErrBehind means that packages are published, but the page does not show them yet.
var ErrBehind = errors.New("published, but the page of the cache is not up to date")

// attempts is the maximum number of updates that are tried when another publisher replaces the page at the same
// time.
const attempts = 8

// Update updates the page of a mirror.
func Update(ctx context.Context, s Store, o Options) (*Result, error) {
	for n := 1; ; n++ {
		r, err := update(ctx, s, o)
		if !errors.Is(err, mirror.ErrConflict) || n == attempts {
			return r, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(rand.N(time.Duration(n) * 100 * time.Millisecond)):
		}
	}
}

func update(ctx context.Context, s Store, o Options) (*Result, error) {
	// The page is read before the index. If the page has not changed when it is replaced, it did not show a newer
	// index.
	was, version, err := readPage(ctx, s)
	if err != nil {
		return nil, err
	}
	if was != nil && !o.Rebuild && !o.reads(was) && was.looks(o) && o.Usage == nil && len(was.Unread) == 0 {
		state, err := inventory.State(ctx, s)
		around, _, listErr := around(ctx, s)
		if err == nil && listErr == nil && slices.Equal(state, was.State) && around == was.Around {
			return &Result{Packages: was.Packages, Names: was.Names, Unchanged: true, Stale: []string{}}, nil
		}
	}
	inv, err := inventory.Read(ctx, s, "")
	if err != nil {
		return nil, err
	}
	t := newTable()
	again := o.Rebuild || was != nil && o.reads(was)
	if was != nil && !again {
		if t, err = readTable(ctx, s, was); err != nil {
			return nil, err
		}
	}
	t.pointer.dress(o, was)
	added, err := t.take(ctx, s, inv, o)
	if err != nil {
		return nil, err
	}
	rebuilt := was != nil && again
	if 4*(len(t.pointer.Gone)+len(t.pointer.Moved)) > t.pointer.Rows {
		t = newTable()
		t.pointer.dress(o, was)
		if added, err = t.take(ctx, s, inv, o); err != nil {
			return nil, err
		}
		rebuilt = was != nil
	}
	if err := t.surround(ctx, s, inv, o, was); err != nil {
		return nil, err
	}
	return t.write(ctx, s, o, was, version, &Result{Packages: t.pointer.Packages, Names: t.pointer.Names, Added: added, Rebuilt: rebuilt, Stale: []string{}, Warnings: t.warnings})
}

// reads reports whether the documents of all packages must be read again: the trusted keys have changed, or the
// page has no licences yet.
func (o Options) reads(was *pointer) bool {
	return o.Licences && !was.Licences || o.Trusted != nil && !o.Follow && (was.Unjudged || !slices.Equal(fingerprints(o.Trusted), was.Trusted))
}

func fingerprints(r *key.Ring) (all []string) {
	for _, f := range r.Fingerprints() {
		all = append(all, string(f))
	}
	slices.Sort(all)
	return all
}

// take adds the new packages of an inventory and records the rows that are no longer offered.
func (t *table) take(ctx context.Context, s mirror.Reader, inv *inventory.Inventory, o Options) (added int, err error) {
	var fresh []*query.Node
	unread := t.pointer.Unread
	t.pointer.Unread, t.warnings = nil, nil
	gone := make(map[int]bool)
	for row := range t.pointer.Rows {
		if t.offered[row] {
			gone[row] = true
		}
	}
	for _, n := range ordered(inv) {
		row, known := t.rows[n.Hash]
		offered := inv.Offers(n) != nil
		switch {
		case !known, offered && (!t.offered[row] || slices.Contains(unread, n.Hash)):
			fresh = append(fresh, n)
			delete(gone, row)
		case offered:
			delete(gone, row)
		}
	}
	t.pointer.Gone = append([]int{}, slices.Sorted(maps.Keys(gone))...)
	var builds []*inventory.Build
	for _, n := range fresh {
		if b := inv.Offers(n); b != nil {
			builds = append(builds, b)
		}
	}
	ring := t.pointer.judges(o.Trusted)
	if ring == nil && t.pointer.Rows == 0 {
		t.pointer.Trusted = nil // there are no signatures yet that they could be compared with
	}
	t.pointer.Unjudged = t.pointer.Unjudged || ring == nil && len(builds) > 0 && len(t.pointer.Trusted) > 0
	documents, err := inventory.JudgedDocuments(ctx, s, builds, ring)
	if err != nil {
		return 0, err
	}
	byHash := make(map[string]*inventory.Document)
	for _, d := range documents {
		byHash[d.Hash] = d
	}
	recipes, err := t.recipes(ctx, s, inv, documents)
	if err != nil {
		return 0, err
	}
	missing := 0
	t.grow(len(fresh))
	for _, n := range fresh {
		d := byHash[n.Hash]
		if d != nil && d.Unusable != nil { // it cannot be installed, so it is shown at most as a dependency
			t.unread(n, d.Unusable)
			missing++
			d = nil
		}
		if old, known := t.rows[n.Hash]; known {
			if slices.Contains(t.pointer.Unread, n.Hash) {
				continue // it still cannot be read completely: it keeps its row
			}
			t.pointer.Moved = append(t.pointer.Moved, [2]int{old, t.pointer.Rows})
		}
		t.add(n, d, recipes[n.Hash])
		added++
	}
	t.pointer.count(inv)
	t.pointer.Packages -= missing
	return added, nil
}

// unread records that a package could not be read completely.
func (t *table) unread(n *query.Node, err error) {
	t.pointer.Unread = append(t.pointer.Unread, n.Hash)
	t.warnings = append(t.warnings, buildcache.Warning.In(fmt.Sprintf("%s@%s/%.7s", n.Name, n.Version, n.Hash), err.Error()))
}

// recipes reads the recipes of new packages, if the page shows licences.
func (t *table) recipes(ctx context.Context, s mirror.Reader, inv *inventory.Inventory, documents []*inventory.Document) (map[string]licence.Facts, error) {
	found, failed := make([]licence.Facts, len(documents)), make([]error, len(documents))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(documents), func(ctx context.Context, i int) error {
		tarball := documents[i].Tarball()
		if !t.pointer.Licences || tarball == nil {
			return nil
		}
		found[i], failed[i] = licence.Read(ctx, s, tarball.Name, inv.Graph, documents[i].Node)
		return ctx.Err()
	})
	all := make(map[string]licence.Facts)
	for i, d := range documents {
		all[d.Hash] = found[i]
		if failed[i] != nil && d.Unusable == nil {
			t.unread(d.Node, fmt.Errorf("no licence is shown: %w", failed[i]))
		}
	}
	return all, err
}

// ordered returns the packages of an inventory and all their dependencies, dependencies first.
func ordered(inv *inventory.Inventory) []*query.Node {
	var all []*query.Node
	done := make(map[*query.Node]bool)
	var visit func(n *query.Node)
	visit = func(n *query.Node) {
		if done[n] {
			return
		}
		done[n] = true
		deps := slices.Clone(n.Dependencies)
		slices.SortFunc(deps, func(a, b query.Dependency) int { return inventory.Compare(a.To, b.To) })
		for _, d := range deps {
			visit(d.To)
		}
		all = append(all, n)
	}
	for _, b := range inv.Builds {
		visit(b.Node)
	}
	return all
}

// write stores the segments that do not exist yet, and then the page.
func (t *table) write(ctx context.Context, s Store, o Options, was *pointer, version mirror.Version, r *Result) (*Result, error) {
	uploads := append(t.seal(), t.beside...)
	uploads = append(uploads, assets()...)
	if was != nil && t.pointer.same(was) && !o.Rebuild {
		r.Unchanged = true
		return r, nil
	}
	there := make(map[string]bool)
	if was != nil && !o.Rebuild {
		there = was.names()
	}
	uploads = slices.DeleteFunc(uploads, func(u mirror.Upload) bool { return there[u.Name] })
	if err := parallel.Each(ctx, 16, uploads, func(ctx context.Context, u mirror.Upload) error { return r.store(ctx, s, u) }); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if err := t.pointer.prove(ctx, s, was, version); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	t.pointer.Made = o.Now.UTC().Format(time.RFC3339)
	text, err := render(t)
	if err != nil {
		return nil, err
	}
	page := mirror.Upload{
		Name: Page, Content: blob.Bytes(text), Digest: blob.DigestOf(text), Type: "text/html; charset=utf-8", CacheControl: layout.Revalidate,
	}
	if _, err := s.Swap(ctx, page, version); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	for _, u := range append(uploads, page) {
		r.Objects++
		r.Bytes += u.Content.Size()
	}
	r.Stale = append(r.Stale, Page)
	return r, nil
}

// store stores an object that is named by its content. An object of that name with other content is damaged, and is
// replaced.
func (r *Result) store(ctx context.Context, s Store, u mirror.Upload) error {
	err := s.Create(ctx, u)
	if !errors.Is(err, mirror.ErrExist) {
		return err
	}
	there, err := s.Stat(ctx, u.Name)
	if err != nil {
		return err
	}
	if _, err = s.Swap(ctx, u, there.Version); err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Stale = append(r.Stale, u.Name)
	}
	return err
}

// readPage returns the pointer in the page of a mirror. It is nil if there is no page, or if the page has another
// format.
func readPage(ctx context.Context, s mirror.Reader) (*pointer, mirror.Version, error) {
	p := new(pointer)
	version, ok, err := remembered(ctx, s, p)
	if err != nil || !ok || p.Format != format || !p.sound() {
		return nil, version, err
	}
	return p, version, nil
}

// remembered reads the document that is embedded in the page into what, and returns the version of the page:
// mirror.Absent if there is none. ok is false if there is no page or its document does not fit what. The error is
// ErrForeign if another program wrote the page.
func remembered(ctx context.Context, s mirror.Reader, what any) (version mirror.Version, ok bool, err error) {
	text, info, err := mirror.Read(ctx, s, Page, maxPage)
	if errors.Is(err, mirror.ErrNotExist) {
		return mirror.Absent, false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("catalog: %w", err)
	}
	raw, ours := embedded(text)
	if !ours {
		return "", false, ErrForeign
	}
	return info.Version, json.Unmarshal(raw, what) == nil, nil
}
