package prune

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A scan holds the objects of one layout and their references. For a million objects it takes about 200 MB.
type scan struct {
	layout  buildcache.Layout
	reader  mirror.Reader
	listing iter.Seq2[mirror.Info, error] // see Options
	now     time.Time
	wanted  func(key) bool       // whether names and versions of content are recorded; nil for none
	before  map[string]*document // of an earlier scan, by name: unchanged documents are not read again
	related *graph               // of an earlier scan: dependencies of packages that no index has any more
	unknown Count
	// generations is the number of older generations of each index that stay complete.
	generations int
	removed     map[spec.Hash]bool   // packages that the newest of these removed from an index
	unrecorded  []buildcache.Finding // why their packages are unknown
	at          map[string]int       // generation of each index according to its pointer, or else the newest recorded one
	// lately holds packages that generations newer than those of a plan added to an index or removed from it, by
	// records stored after since and not by this prune. Clients may still use an index that offers them, even if
	// another program has removed them without a record.
	lately map[spec.Hash]bool
	after  map[string]int
	since  time.Time // zero to ignore such records
	own    map[string]bool
	// keepWithdrawn is how long a withdrawn package can be restored; 0 means without limit.
	keepWithdrawn time.Duration
	unmatched     map[string]string // see Plan
	buried        []mirror.Info     // withdrawn documents of layout v2 that can no longer be restored

	documents []document // by name
	content   []content  // by key
	others    []mirror.Info
	graph     *graph
	views     []int32 // packages offered by named indices
	viewNames []string
	indices   map[key]bool // documents of indices that clients may read now

	// blind says why the targets of some documents are unknown, and unrelated why the dependencies of some packages
	// are. Then no content, or no package, may be deleted.
	blind, unrelated []buildcache.Finding
	findings         []buildcache.Finding
}

// A document makes a package reachable.
type document struct {
	name     string
	hash     spec.Hash
	size     int64
	modified int64 // seconds
	version  mirror.Version
	node     int32
	points   []key
	// tombstone says that the document is a tombstone, which points at what is needed to restore the package.
	tombstone bool
}

// A content is an object that documents may point at.
type content struct {
	key      key
	size     int64
	modified int64 // seconds
	needed   bool
	seen     *mirror.Info // only for wanted content
}

// A Count is a number of objects, and their bytes.
type Count struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (c *Count) add(size int64) { c.Objects++; c.Bytes += size }

// readers is how many small objects are read at once, each with one open file. A prune reads one in three objects
// of a mirror.
const readers = 400

// Memory is the soft memory limit, in bytes, for planning with a million objects. A program that only prunes sets
// it for the Go runtime.
const Memory = 450 << 20

func (s *scan) run(ctx context.Context, store Store) error {
	s.reader, s.graph = store, newGraph()
	about := int64(0)
	if pointer, err := s.layout.Glance(ctx, store); err == nil { // reading it later reports its defects
		about = pointer.Size() / indexRecord * 3
	}
	if err := s.list(ctx, store, about); err != nil {
		return err
	}
	if len(s.documents)+len(s.content)+len(s.others) == 0 {
		return nil
	}
	if err := s.readOthers(ctx); err != nil {
		return err
	}
	if err := s.readHistory(ctx, store); err != nil {
		return err
	}
	if err := s.readIndices(ctx); err != nil {
		return err
	}
	if err := s.readDocuments(ctx); err != nil {
		return err
	}
	return s.relate(ctx)
}

// indexRecord is the approximate size of a package's record in an index, in bytes.
const indexRecord = 1 << 10

// list lists the layout.
func (s *scan) list(ctx context.Context, l mirror.Lister, about int64) error {
	all := s.layout.Everything(about)
	elsewhere := s.listing != nil && s.layout.NamesContent()
	if elsewhere { // documents are listed here, because the list of packages must be up to date
		all = slices.DeleteFunc(all, func(r mirror.Range) bool { return strings.HasPrefix(r.Prefix, s.layout.Payload()) })
	}
	parts := make([]scan, len(all))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(all), func(ctx context.Context, i int) error {
		p := &parts[i]
		p.layout, p.wanted = s.layout, s.wanted
		for info, err := range l.List(ctx, all[i]) {
			if err != nil {
				return fmt.Errorf("list %s: %w", all[i].Prefix, err)
			}
			p.take(info)
		}
		return nil
	})
	if err != nil {
		return err
	}
	documents, objects := 0, 0
	for i := range parts {
		documents += len(parts[i].documents)
		objects += len(parts[i].content)
	}
	s.documents, s.content = make([]document, 0, documents), make([]content, 0, objects)
	for i := range parts {
		s.documents = append(s.documents, parts[i].documents...)
		s.content = append(s.content, parts[i].content...)
		s.others = append(s.others, parts[i].others...)
		s.unknown.Objects += parts[i].unknown.Objects
		s.unknown.Bytes += parts[i].unknown.Bytes
		parts[i] = scan{}
	}
	if elsewhere {
		if err := s.takeListing(); err != nil {
			return err
		}
	}
	slices.SortFunc(s.documents, func(a, b document) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(s.content, func(a, b content) int { return bytes.Compare(a.key[:], b.key[:]) })
	return nil
}

// takeListing adds content from Options.Listing.
func (s *scan) takeListing() error {
	for info, err := range s.listing {
		if err != nil {
			return err
		}
		if s.layout.Owns(info.Name) && s.layout.IsPayload(info.Name) {
			s.take(info)
		}
	}
	return nil
}

// take records a listed object.
func (s *scan) take(info mirror.Info) {
	if id, ok := s.layout.ParsePackageName(info.Name); ok {
		s.documents = append(s.documents, document{
			name: info.Name, hash: id.Hash, size: info.Size, modified: info.Modified.Unix(), version: info.Version, node: -1,
		})
		return
	}
	if s.layout.IsPayload(info.Name) {
		k, ok := keyOf(s.layout, info.Name)
		if !ok {
			s.unknown.add(info.Size)
			return
		}
		c := content{key: k, size: info.Size, modified: info.Modified.Unix()}
		if s.wanted != nil && s.wanted(k) {
			c.seen = &mirror.Info{Name: info.Name, Size: info.Size, Version: info.Version}
		}
		s.content = append(s.content, c)
		return
	}
	if s.layout.NamesContent() {
		s.others = append(s.others, info)
	}
}

// find returns the content with a key. In layout v2 several objects may have the same key.
func (s *scan) find(k key) []content {
	at, _ := slices.BinarySearchFunc(s.content, k, func(c content, k key) int { return bytes.Compare(c.key[:], k[:]) })
	end := at
	for end < len(s.content) && s.content[end].key == k {
		end++
	}
	return s.content[at:end]
}

// need marks content as needed, and reports whether it exists.
func (s *scan) need(k key) bool {
	found := s.find(k)
	for i := range found {
		found[i].needed = true
	}
	return len(found) > 0
}

// readIndices reads the index of all packages and the named indices.
func (s *scan) readIndices(ctx context.Context) error {
	if !s.layout.NamesContent() {
		name := s.layout.Pointers()
		err := s.graph.readIndex(ctx, s.reader, name, blob.Digest{}, s.layout.Generations()[0].Index, nil)
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			s.noRelations(ctx, name, err)
		}
		s.is(s.layout, s.graph.place.Generation)
		return ctx.Err()
	}
	for _, info := range s.others {
		view, isView := s.layout.ParseViewName(info.Name)
		if !isView && !slices.Contains(s.layout.IndexNames(), info.Name) {
			continue
		}
		f, _ := s.layout.View(view)
		var offered func(int32)
		if isView {
			s.viewNames = append(s.viewNames, view)
			offered = func(at int32) { s.views = append(s.views, at) }
		}
		if err := s.readPointer(ctx, f, info.Name, offered); err != nil {
			s.noRelations(ctx, info.Name, err)
		}
	}
	return ctx.Err()
}

// is records the generation of an index; 0 if unknown.
func (s *scan) is(f buildcache.Layout, generation int) {
	if generation > 0 {
		s.at[f.IndexID()] = generation
	}
}

func (s *scan) noRelations(ctx context.Context, name string, err error) {
	if ctx.Err() == nil {
		s.unrelated = append(s.unrelated, buildcache.Error.In(name, fmt.Sprintf("this index cannot be read, so it is not known what packages depend on: %v", err)))
	}
}

// readPointer reads the indices that a manifest names. If the pointer changes meanwhile, it is read again.
func (s *scan) readPointer(ctx context.Context, f buildcache.Layout, name string, offered func(int32)) error {
	for try := 1; ; try++ {
		text, _, err := mirror.Read(ctx, s.reader, name, buildcache.MaxPointer)
		if err != nil {
			return err
		}
		if p := buildcache.NewPointer(f); p.Parse(text) == nil {
			s.is(f, p.Generation)
		}
		m, err := buildcache.ReadManifest(text)
		if err != nil {
			return err
		}
		err = s.readRecords(ctx, m, offered)
		if err == nil || try == 3 || !errors.Is(err, mirror.ErrNotExist) {
			return err
		}
	}
}

func (s *scan) readRecords(ctx context.Context, m *manifest.Manifest, offered func(int32)) error {
	for _, r := range m.Records {
		if err := r.Unusable(); err != nil {
			return err
		}
		s.need(key(r.Digest))
		if s.indices == nil {
			s.indices = make(map[key]bool)
		}
		s.indices[key(r.Digest)] = true
		at := slices.IndexFunc(s.layout.Generations(), func(g indices.Generation) bool { return manifest.IndexType(g.Index) == r.MediaType })
		if at < 0 {
			return fmt.Errorf("this release does not know an index of type %s", r.MediaType)
		}
		blob, _ := s.layout.BlobName(r.Digest)
		if err := s.graph.readIndex(ctx, s.reader, blob, r.Digest, s.layout.Generations()[at].Index, offered); err != nil {
			return err
		}
	}
	return nil
}

// offers reads which packages the indices offer now.
func (s *scan) offers(ctx context.Context, l mirror.Lister) error {
	if s.layout.NamesContent() {
		for info, err := range l.List(ctx, mirror.Range{Prefix: s.layout.Pointers()}) {
			if err != nil {
				return err
			}
			s.others = append(s.others, info)
		}
	}
	if err := s.readIndices(ctx); err != nil {
		return err
	}
	if len(s.unrelated) > 0 {
		return &buildcache.FindingsError{Findings: s.unrelated}
	}
	return nil
}

// readDocuments finds out what documents point at.
func (s *scan) readDocuments(ctx context.Context) error {
	var mu sync.Mutex
	return parallel.EachReading(ctx, readers, parallel.Positions(s.documents), func(ctx context.Context, i int) error {
		d := &s.documents[i]
		if !s.layout.NamesContent() {
			d.points = []key{stemKey(stemOf(d.name))}
			return nil
		}
		if was := s.before[d.name]; was != nil && was.version == d.version && was.points != nil {
			d.points, d.tombstone = was.points, was.tombstone
			s.expire(d)
			return nil
		}
		points, records, err := s.manifest(ctx, d.name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			mu.Lock()
			s.blind = append(s.blind, buildcache.Error.In(d.name, fmt.Sprintf("it is not known what it points at: %v", err)))
			mu.Unlock()
		}
		d.points, d.tombstone = points, points != nil && records == 0
		s.expire(d)
		return nil
	})
}

// expire removes the references of a tombstone whose package can no longer be restored. The tombstone itself stays:
// it keeps clients and other programs from using the package.
func (s *scan) expire(d *document) {
	if d.tombstone && s.expired(time.Unix(d.modified, 0)) {
		d.points = []key{}
	}
}

// expired reports whether a package withdrawn at a time can no longer be restored.
func (s *scan) expired(withdrawn time.Time) bool {
	return s.keepWithdrawn > 0 && s.now.Sub(withdrawn) >= s.keepWithdrawn
}

// relate finds the package of each document. If no index knows the package, the document itself is read.
func (s *scan) relate(ctx context.Context) error {
	var lacking []int
	for i := range s.documents {
		at := s.graph.id(s.documents[i].hash)
		s.documents[i].node = at
		if s.documents[i].tombstone {
			continue
		}
		if !s.graph.nodes[at].known && s.related != nil {
			s.graph.copy(s.related, s.documents[i].hash)
		}
		if !s.graph.nodes[at].known {
			lacking = append(lacking, i)
		}
	}
	var mu sync.Mutex
	return parallel.Each(ctx, parallel.Readers, lacking, func(ctx context.Context, i int) error {
		d := &s.documents[i]
		sp, err := s.specOf(ctx, d.name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if !errors.Is(err, mirror.ErrNotExist) || len(d.points) > 0 {
				s.unrelated = append(s.unrelated, buildcache.Error.In(d.name, fmt.Sprintf("no index has it, and it is not known what it depends on: %v", err)))
			}
			return nil
		}
		for _, n := range sp.Nodes {
			s.graph.add(n, false)
		}
		return nil
	})
}

func (s *scan) specOf(ctx context.Context, name string) (*spec.Spec, error) {
	text, _, err := mirror.Read(ctx, s.reader, name, buildcache.MaxDocument)
	if err != nil {
		return nil, err
	}
	specs := spec.NewReader(buildcache.MaxHeld)
	p, err := s.layout.ParseDocument(name, text, specs)
	if err != nil {
		return nil, err
	}
	if err := s.layout.ReadSpec(ctx, s.reader, p, specs); err != nil {
		return nil, err
	}
	return p.Spec, nil
}

// sortFindings sorts findings by file.
func sortFindings(all []buildcache.Finding) {
	slices.SortFunc(all, func(a, b buildcache.Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Reason, b.Reason))
	})
}
