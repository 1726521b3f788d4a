// Package verify checks a mirror: every pointer resolves, and everything is what its name or the document that points
// at it says. It only reads. A publisher may be at work meanwhile; only what it has left unfinished is found.
package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/semaphore"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Options say how much is checked.
type Options struct {
	// Deep reads every blob and compares its digest. Without it the existence and the
	// size of a tarball are looked at; everything smaller is read in any case.
	Deep bool
	// Trust says which packages a client may be offered.
	Trust buildcache.Trust
	// Checked, if set, is told of progress: n of the things known so far are checked.
	// Calls do not overlap. Both numbers only grow.
	Checked func(n, of int)
}

// A Report is what was found in a mirror. Two of the same mirror are equal.
type Report struct {
	Layouts  []string             `json:"layouts"`  // "v3", "v2": what the mirror holds
	Packages int                  `json:"packages"` // documents of packages
	Objects  int                  `json:"objects"`  // that were listed or, without a listing, looked at
	Bytes    int64                `json:"bytes"`    // in these objects
	Keys     int                  `json:"keys"`     // public keys
	Orphans  int                  `json:"orphans"`  // blobs that nothing points at: superseded indices, what a dead publisher left
	Findings []buildcache.Finding `json:"findings"` // sorted by file
	// Audiences says which versions of Spack see how many packages, where not all see all.
	Audiences []buildcache.Audience `json:"audiences,omitempty"`
}

// Damaged reports whether anything that was found is an error.
func (v *Report) Damaged() bool { return buildcache.Failed(v.Findings) }

// maxUnreadable is how many objects may be unreadable, other than by not being there,
// before it is the storage that is broken and not the mirror.
const maxUnreadable = 20

// verifyHashers is how many blobs are hashed at once, and verifyBuffer what each of them holds
// in memory.
const (
	verifyHashers = 16
	verifyBuffer  = 256 << 10
)

// Mirror checks a mirror: that every pointer resolves, and that everything is what the
// name or the document that points at it says. What is wrong is in the Findings; the error says
// that the mirror could not be checked.
//
// Of a mirror that is also a mirror.Lister all objects are looked at, and what is there but
// in no index is found too. Any other is walked from its index, as a client does. A
// publisher may be at work meanwhile: only what it has not finished is found.
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

// A verifier collects what is found.
type verifier struct {
	Options
	reader *probe
	lister mirror.Lister // nil if the mirror cannot be listed

	mu     sync.Mutex // guards what follows, and is held while Checked is called
	result Report
	keys   map[key.Fingerprint]bool
	n, of  int
}

func (v *verifier) layouts(ctx context.Context) error {
	var denied error
	for _, f := range buildcache.Layouts() {
		c := &check{verifier: v, Layout: f, refs: make(map[string]*ref), specs: spec.NewReader(buildcache.MaxHeld)}
		there, err := c.open(ctx)
		if err != nil {
			return err
		}
		denied = cmp.Or(denied, c.denied)
		if !there {
			continue
		}
		v.result.Layouts = append(v.result.Layouts, f.Name())
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
	return fmt.Errorf("%w: want %s or %s", buildcache.ErrNoMirror, layout.V3Index, layout.V2Index)
}

func (v *verifier) report(s buildcache.Severity, file, reason string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Findings = append(v.result.Findings, s.In(file, fmt.Sprintf(reason, args...)))
}

func (v *verifier) damage(file, reason string, args ...any) {
	v.report(buildcache.Error, file, reason, args...)
}

// checked counts n things as done, and more as known.
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
	slices.SortFunc(v.result.Findings, func(a, b buildcache.Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Reason, b.Reason))
	})
	v.result.Findings = slices.Compact(v.result.Findings)
	return &v.result
}

// A leftoverLister is the half of a mirror.Sweeper that discards nothing.
type leftoverLister interface {
	Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error]
}

// leftovers reports unfinished uploads. They are no damage: a publisher may be at it, and
// the next one goes on where it stopped.
func (v *verifier) leftovers(ctx context.Context, s leftoverLister) {
	for l, err := range s.Leftovers(ctx, "") {
		if err != nil {
			v.report(buildcache.Warning, "", "unfinished uploads were not looked for: %v", err)
			return
		}
		if strings.HasPrefix(l.Name, "v3/") || strings.HasPrefix(l.Name, "blobs/") || strings.HasPrefix(l.Name, layout.V2Root) {
			age := time.Since(l.Started).Truncate(time.Minute)
			v.report(buildcache.Warning, l.Name, "an upload of it, begun at %s (%s ago), is not finished", l.Started.UTC().Format(time.RFC3339), age)
		}
	}
}

// A probe reads a mirror, and stops everything when it is not the mirror that is
// broken but the way there.
type probe struct {
	reader    mirror.Reader
	stop      context.CancelCauseFunc
	documents *semaphore.Weighted

	mu         sync.Mutex       // guards what follows
	seen       map[string]int64 // sizes of what was looked at; nil if everything is listed
	unreadable int
}

// Open implements mirror.Reader.
func (p *probe) Open(ctx context.Context, name string) (*mirror.Object, error) {
	if err := nameable(name); err != nil {
		return nil, err
	}
	o, err := p.reader.Open(ctx, name)
	if err != nil {
		return nil, p.failed(ctx, err)
	}
	if name == layout.V2Index { // where the index is, and not what points at it
		if err := p.sizable(name, o.Size); err != nil {
			o.Body.Close()
			return nil, err
		}
	}
	p.saw(o.Info)
	o.Body = &probedBody{o.Body, func(err error) error { return p.failed(ctx, err) }}
	return o, nil
}

// Stat implements mirror.Reader.
func (p *probe) Stat(ctx context.Context, name string) (mirror.Info, error) {
	if err := nameable(name); err != nil {
		return mirror.Info{}, err
	}
	info, err := p.reader.Stat(ctx, name)
	if err != nil {
		return info, p.failed(ctx, err)
	}
	info.Name = name
	p.saw(info)
	return info, nil
}

// nameable refuses names that come out of a damaged or hostile index.
func nameable(name string) error {
	if !fs.ValidPath(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q: no object can have that name: %w", name, mirror.ErrNotExist)
	}
	return nil
}

func (p *probe) saw(info mirror.Info) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen != nil {
		p.seen[info.Name] = info.Size
	}
}

func (p *probe) size(name string) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size, ok := p.seen[name]
	return size, ok
}

// failing reports whether anything could not be read, other than by not being there.
func (p *probe) failing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unreadable > 0
}

func (p *probe) failed(ctx context.Context, err error) error {
	var region *mirror.RegionError
	var untrusted *mirror.CertificateError
	switch {
	case ctx.Err() != nil || p.absent(err):
	case errors.Is(err, mirror.ErrCredentials), errors.Is(err, mirror.ErrNoBucket), errors.Is(err, mirror.ErrFault),
		errors.As(err, &region), errors.As(err, &untrusted):
		p.stop(err)
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.unreadable++; p.unreadable >= maxUnreadable {
			p.stop(fmt.Errorf("%d objects cannot be read, the last: %w", p.unreadable, err))
		}
	}
	return err
}

// absent reports whether err says that an object is not there. Who may not list is told
// of what is absent that it is denied.
func (p *probe) absent(err error) bool {
	return errors.Is(err, mirror.ErrNotExist) || p.seen != nil && errors.Is(err, mirror.ErrDenied)
}

// A check verifies one layout of a mirror.
type check struct {
	*verifier
	buildcache.Layout

	listed  map[string]mirror.Info // nil without a listing
	pointer *buildcache.Pointer
	index   *buildcache.Indices // nil if there is none that can be read
	broken  bool                // an index is there and cannot be read
	records map[spec.Hash]known
	denied  error // why the index cannot be read

	mu        sync.Mutex // guards what follows
	refs      map[string]*ref
	unindexed map[spec.Hash]string // packages that are there, to their documents
	signed    map[key.Issuer]int   // packages by the key that signed them, as they say
	publics   []*key.Public        // keys that clients are offered
	specs     *spec.Reader
}

// known is a record of an index.
type known struct {
	index.Entry
	node *spec.Node // without its Record; nil if it cannot be read
}

// A ref is a blob that documents point at.
type ref struct {
	buildcache.Object
	owners []string
	done   bool // hashed already, or known to be bad
}

func (c *check) indexName() string { return c.IndexNames()[0] }

// open reads the index and then lists, in that order: what the index offered before is
// there afterwards. It reports whether the mirror has this layout.
func (c *check) open(ctx context.Context) (bool, error) {
	p, err := c.ReadPointer(ctx, c.reader)
	switch {
	case err != nil && c.lister == nil && c.reader.absent(err):
		c.denied = err
		return false, nil
	case err != nil && (errors.Is(err, mirror.ErrDenied) || c.reader.failing()):
		return false, err // who cannot read even this cannot tell what is damaged
	case err != nil:
		c.broken = true
		c.damage(c.indexName(), "%v", err)
		p = &buildcache.Pointer{Version: mirror.Absent}
	case p.Broken != nil:
		c.broken = true
		c.damage(c.indexName(), "%v", p.Broken)
	case p.Version != mirror.Absent:
		c.readTheIndex(ctx, p)
	}
	c.pointer = p
	if c.lister == nil {
		return c.broken || c.index != nil, nil
	}
	found := buildcache.Survey{Ranges: buildcache.Everything(c.Layout, p.Packages())}
	if err := found.List(ctx, c.lister); err != nil {
		return false, err
	}
	c.listed = found.Objects
	there := c.broken || c.index != nil
	for name, info := range c.listed {
		c.result.Objects++
		c.result.Bytes += info.Size
		// Blobs alone are what is left of a publish that had hardly begun.
		there = there || !c.payload(name)
	}
	return there, nil
}

func (c *check) readTheIndex(ctx context.Context, p *buildcache.Pointer) {
	name := c.indexName()
	x := buildcache.NewIndices(c.Generations())
	for i, ref := range p.Refs {
		if !ref.Digest.Known() {
			continue
		}
		part, err := c.readPart(ctx, name, p, i)
		if err != nil {
			c.broken = true
			c.damage(name, "%v", err)
			continue
		}
		x.Parts[i] = part
	}
	if !c.broken {
		c.index = x
	}
	c.others(ctx, name, p.Manifest)
}

// readPart reads the index of one generation.
func (c *check) readPart(ctx context.Context, name string, p *buildcache.Pointer, i int) (*index.Index, error) {
	version := c.Generations()[i].Index
	if c.Name() == "v2" {
		return index.Parse(p.Content, version)
	}
	ref := p.Refs[i]
	return c.indexBlob(ctx, name, buildcache.Object{Name: layout.V3Blob(ref.Digest), Size: ref.Size, Digest: ref.Digest}, version)
}

// others checks the records of an index manifest that are not indices we know: their blobs must exist.
func (c *check) others(ctx context.Context, name string, m *manifest.Manifest) {
	if m == nil {
		return
	}
	for _, r := range m.Records {
		known := slices.ContainsFunc(c.Generations(), func(g buildcache.Generation) bool { return manifest.IndexType(g.Index) == r.MediaType })
		if known || r.Unusable() != nil {
			continue
		}
		c.report(buildcache.Warning, name, "it names a blob of type %s, which this release does not know and did not check", r.MediaType)
		b := buildcache.BlobOf(r)
		reason := c.missing(ctx, b)
		if reason != "" {
			c.damage(name, "%s", reason)
		}
		c.refer(name, b, reason != "")
	}
}

// indexBlob reads the index document that the manifest name points at.
func (c *check) indexBlob(ctx context.Context, name string, b buildcache.Object, version int) (*index.Index, error) {
	if err := c.reader.sizable(b.Name, b.Size); err != nil {
		return nil, err
	}
	raw, err := c.content(ctx, name, b, buildcache.MaxIndex)
	if err != nil {
		return nil, err
	}
	return index.Parse(raw, version)
}

// content reads the blob that the manifest name points at.
func (c *check) content(ctx context.Context, name string, b buildcache.Object, limit int64) ([]byte, error) {
	c.refer(name, b, true)
	raw, err := buildcache.ReadBlob(ctx, c.reader, b, limit)
	if err == nil && int64(len(raw)) != b.Size {
		err = fmt.Errorf("%s has %d bytes, want %d", b.Name, len(raw), b.Size)
	}
	return raw, err
}

// refer notes that a document points at a blob.
func (c *check) refer(owner string, b buildcache.Object, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.refs[b.Name]
	if r == nil {
		r = &ref{Object: b}
		c.refs[b.Name] = r
	}
	r.owners = append(r.owners, owner)
	r.done = r.done || done
}

// payload reports whether name is that of content that documents point at.
func (c *check) payload(name string) bool {
	if c.Name() == "v3" {
		return strings.HasPrefix(name, layout.V3Blobs)
	}
	return strings.HasSuffix(name, ".spack")
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
		c.result.Audiences = append(c.result.Audiences, c.index.Audiences()...)
	}
	views := c.views()
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
	if err := c.checkKeys(ctx); err != nil {
		return err
	}
	if c.Name() == "v2" {
		c.checkHash(ctx)
	}
	if marker, ok := c.Marker(); ok && c.missing(ctx, buildcache.Object{Name: marker.Name, Size: -1}) != "" {
		c.report(buildcache.Warning, marker.Name, "it is not there; Spack writes it to declare the layout")
	}
	return c.checkBlobs(ctx)
}

// checkIndex checks an index for itself: every record can be read, all that it depends on
// has a record, ref_count is how many records depend on it. And what it offers is there.
func (c *check) checkIndex(ctx context.Context, file string, x *index.Index) (map[spec.Hash]known, error) {
	entries := slices.Collect(x.All())
	nodes, err := c.nodes(ctx, entries, index.SpecFormat(x.Version()))
	if err != nil {
		return nil, err
	}
	for _, bad := range x.Check() {
		c.damage(file, "%v", bad)
	}
	records := make(map[spec.Hash]known, len(entries))
	count := make(map[spec.Hash]int)
	exact := true
	for i, e := range entries {
		records[e.Hash] = known{e, nodes[i]}
		if nodes[i] == nil {
			exact = false
			continue
		}
		for _, d := range nodes[i].Dependencies {
			count[d]++
		}
	}
	for _, k := range records {
		if k.node != nil {
			for _, d := range k.node.Dependencies {
				if _, ok := records[d]; !ok {
					c.damage(file, "%s depends on /%s, which has no record", k.node.ID(), d.Short())
				}
			}
		}
		if n := count[k.Hash]; exact && n != k.RefCount {
			c.damage(file, "ref_count of %s/%s is %d, and %d records depend on it", k.Name, k.Hash.Short(), k.RefCount, n)
		}
	}
	return records, nil
}

// nodes reads the packages of records. One that cannot be read is nil.
func (c *check) nodes(ctx context.Context, entries []index.Entry, format int) ([]*spec.Node, error) {
	nodes := make([]*spec.Node, len(entries))
	const batch = 256
	var batches []int
	for from := 0; from < len(entries); from += batch {
		batches = append(batches, from)
	}
	err := parallel.Each(ctx, runtime.GOMAXPROCS(0), batches, func(ctx context.Context, from int) error {
		for i := from; i < min(from+batch, len(entries)); i++ {
			e := entries[i]
			if n, err := spec.ParseNode(e.Node, format); err == nil && n.Hash == e.Hash {
				nodes[i] = n
			}
		}
		return ctx.Err()
	})
	return nodes, err
}

// offered checks that what an index offers is there, and that it holds nothing else than
// that and what that depends on.
func (c *check) offered(file string, records map[spec.Hash]known) {
	hashes := make(map[spec.Hash]bool)
	for name := range c.listed {
		if id, ok := c.ParsePackageName(name); ok {
			hashes[id.Hash] = true
		}
	}
	needed := make(map[spec.Hash]bool)
	var need func(h spec.Hash)
	need = func(h spec.Hash) {
		if needed[h] {
			return
		}
		needed[h] = true
		if k := records[h]; k.node != nil {
			for _, d := range k.node.Dependencies {
				need(d)
			}
		}
	}
	for h := range hashes {
		need(h) // if it is not offered, that is what is wrong
	}
	for h, k := range records {
		if !k.InBuildcache {
			continue
		}
		need(h)
		if c.listed == nil || k.node == nil {
			continue
		}
		names, ok := c.documentNames(k)
		there := slices.ContainsFunc(names, func(n string) bool { _, ok := c.listed[n]; return ok })
		if !ok {
			names, there = []string{file}, hashes[h]
		}
		if !there {
			c.damage(names[0], "%s offers %s, whose document is not there", file, k.node.ID())
		}
	}
	for h, k := range records {
		if !needed[h] {
			c.report(buildcache.Warning, file, "record of %s/%s: no package here depends on it", k.Name, h.Short())
		}
	}
}

// documentNames are the names that the document of a package may have, the one that clients
// try first before the other. In layout v2 the name holds the compiler, which only records
// of Format4 have.
func (c *check) documentNames(k known) ([]string, bool) {
	if k.node == nil {
		return nil, false
	}
	if c.Name() == "v3" {
		return []string{layout.V3Spec(k.node)}, true
	}
	var n struct {
		Arch struct {
			Platform string `json:"platform"`
		} `json:"arch"`
		Compiler struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"compiler"`
	}
	if json.Unmarshal(k.Node, &n) != nil || n.Compiler.Name == "" {
		return nil, false
	}
	return layout.V2Specs(k.node, n.Arch.Platform, n.Compiler.Name, n.Compiler.Version), true
}

// A document is one that is to be checked.
type document struct {
	names   []string // it has one of these
	offered string   // which package the index says it is, for people; empty if it was listed
}

// documents are those that were listed or, without a listing, those that the index offers.
func (c *check) documents(views bool) []document {
	var docs []document
	for name := range c.listed {
		if _, ok := c.ParsePackageName(name); ok {
			docs = append(docs, document{names: []string{name}})
		} else if dir, _ := c.Directories(); strings.HasPrefix(name, dir) && buildcache.LooksLikeDocument(name) {
			c.damage(name, "not a name that Spack gives to a package")
		}
	}
	switch {
	case c.index != nil || c.broken:
	case len(docs) == 0:
		c.report(buildcache.Warning, c.indexName(), "there is no index, and no package")
	case views:
		c.report(buildcache.Warning, c.indexName(), "there is no index but that of the views: clients without a view find no package")
	default:
		c.damage(c.indexName(), "there is no index, so clients find none of the %d packages: run publish index", len(docs))
	}
	if c.listed == nil {
		for _, k := range c.records {
			if !k.InBuildcache || k.node == nil {
				continue
			}
			names, ok := c.documentNames(k)
			if !ok {
				c.report(buildcache.Warning, c.indexName(), "%s was not checked: its record has no compiler, which its document's name begins with", k.node.ID())
				continue
			}
			docs = append(docs, document{names, k.node.ID()})
		}
	}
	c.verifier.mu.Lock()
	c.result.Packages += len(docs)
	c.verifier.mu.Unlock()
	slices.SortFunc(docs, func(a, b document) int { return cmp.Compare(a.names[0], b.names[0]) })
	return docs
}

func (c *check) checkDocument(ctx context.Context, d document) {
	var content []byte
	var err error
	name := d.names[0]
	for _, n := range d.names {
		text, release, readErr := c.reader.document(ctx, n)
		if readErr == nil {
			defer release()
			name, content, err = n, text, nil
			break
		}
		if err == nil || !c.reader.absent(readErr) {
			name, err = n, readErr
		}
	}
	if err != nil {
		if d.offered != "" && c.reader.absent(err) {
			c.damage(name, "%s offers %s, whose document is not there: %v", c.indexName(), d.offered, err)
			return
		}
		c.damage(name, "%v", err)
		return
	}
	p, err := c.ParseDocument(name, content, c.specs)
	if err != nil {
		c.report(severityOf(err), name, "%v", err)
		return
	}
	c.checkSignature(p)
	if !c.checkContent(ctx, p) {
		return
	}
	if c.index != nil && !c.index.Has(p.Spec.Root().Hash) {
		c.mu.Lock()
		c.unindexed[p.Spec.Root().Hash] = name
		c.mu.Unlock()
		return
	}
	c.compare(p)
}

// checkContent checks what a package's document points at, and reports whether its spec
// can be read and is the one that the name says.
func (c *check) checkContent(ctx context.Context, p *buildcache.Package) bool {
	specErr := c.ReadSpec(ctx, c.reader, p, c.specs)
	specMissing := false
	for i, b := range p.Blobs {
		isSpec := c.Name() == "v3" && i == buildcache.SpecBlob
		reason := c.missing(ctx, b)
		if reason != "" {
			c.damage(p.File, "%s", reason)
			specMissing = specMissing || isSpec
		}
		c.refer(p.File, b, reason != "" || isSpec)
	}
	if specErr != nil && !specMissing {
		c.report(severityOf(specErr), p.File, "%v", specErr)
	}
	return p.Spec != nil
}

// severityOf returns the severity of an error about a package. A package of another version of Spack is no
// damage: other clients read it.
func severityOf(err error) buildcache.Severity {
	if buildcache.IsForeign(err) {
		return buildcache.Warning
	}
	return buildcache.Error
}

// missing says why an object is not there as it should be; empty if it is. What was not
// listed is asked for, since it may have come meanwhile.
func (c *check) missing(ctx context.Context, o buildcache.Object) string {
	size, ok := c.reader.size(o.Name)
	if info, listed := c.listed[o.Name]; listed {
		size, ok = info.Size, true
	}
	if !ok {
		info, err := c.reader.Stat(ctx, o.Name)
		switch {
		case err != nil && (errors.Is(err, mirror.ErrNotExist) || c.listed != nil && errors.Is(err, mirror.ErrDenied)):
			return o.Name + " is not there"
		case err != nil:
			return fmt.Sprintf("%s: %v", o.Name, err)
		}
		size = info.Size
	}
	if o.Size >= 0 && size != o.Size {
		return fmt.Sprintf("%s has %d bytes, want %d", o.Name, size, o.Size)
	}
	return ""
}

// compare compares a package with its record in the index.
func (c *check) compare(p *buildcache.Package) {
	root := p.Spec.Root()
	k, ok := c.records[root.Hash]
	if !ok || k.node == nil {
		return
	}
	switch n := k.node; {
	case n.Name != root.Name || n.Version != root.Version:
		c.damage(c.indexName(), "record of %s says that it is %s", root.ID(), n.ID())
	case !sameSet(n.Dependencies, root.Dependencies):
		c.damage(c.indexName(), "record of %s has other dependencies than %s", root.ID(), p.File)
	default:
		// Two good indices can differ in what Spack's versions derive when they read a spec.
		if in, err := spec.Normalize(k.Node); err == nil && !buildcache.SameJSON(in, root.Record) {
			c.report(buildcache.Warning, c.indexName(), "record of %s is not what %s says", root.ID(), p.File)
		}
	}
}

func sameSet(a, b []spec.Hash) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// reportUnindexed reports packages that are there but not offered, unless a publisher has
// indexed them since the index was read.
func (c *check) reportUnindexed(ctx context.Context) {
	if len(c.unindexed) == 0 {
		return
	}
	x := c.index
	if p, err := c.ReadPointer(ctx, c.reader); err == nil && p.Version != mirror.Absent && p.Digest() != c.pointer.Digest() {
		if newer, err := c.ReadIndex(ctx, c.reader, p); err == nil {
			x = newer
		}
	}
	for h, name := range c.unindexed {
		if !x.Has(h) {
			c.damage(name, "it is not in the index, so clients do not find it: run publish index")
		}
	}
}

// views are the manifests of named indices. They can be listed only.
func (c *check) views() []string {
	var names []string
	for name := range c.listed {
		if _, ok := layout.IsV3View(name); ok && c.Name() == "v3" {
			names = append(names, name)
		}
	}
	return names
}

func (c *check) checkView(ctx context.Context, name string) error {
	x, m, err := c.readView(ctx, name)
	if err != nil {
		c.damage(name, "%v", err)
		return context.Cause(ctx)
	}
	c.others(ctx, name, m)
	for _, part := range x.ByGeneration() {
		records, err := c.checkIndex(ctx, name, part)
		if err != nil {
			return err
		}
		c.offered(name, records)
	}
	return nil
}

func (c *check) readView(ctx context.Context, name string) (*buildcache.Indices, *manifest.Manifest, error) {
	text, _, err := mirror.Read(ctx, c.reader, name, buildcache.MaxPointer)
	if err != nil {
		return nil, nil, err
	}
	p := buildcache.NewPointer(c.Layout)
	if err := p.Parse(text); err != nil {
		return nil, nil, err
	}
	x := buildcache.NewIndices(c.Generations())
	for i, ref := range p.Refs {
		if ref.Digest.Known() {
			if x.Parts[i], err = c.readPart(ctx, name, p, i); err != nil {
				return nil, nil, err
			}
		}
	}
	return x, p.Manifest, nil
}

// pointed is the blob that the manifest name points at.
func (c *check) pointed(ctx context.Context, name string, f manifest.Family) (buildcache.Object, error) {
	document, _, err := mirror.Read(ctx, c.reader, name, buildcache.MaxPointer)
	if err != nil {
		return buildcache.Object{}, err
	}
	m, err := buildcache.ReadManifest(document)
	if err != nil {
		return buildcache.Object{}, err
	}
	r, err := m.Record(f)
	if f == manifest.Key || f == manifest.KeyIndex {
		r, err = buildcache.OnlyRecord(m, f)
	}
	if err != nil {
		return buildcache.Object{}, err
	}
	return buildcache.BlobOf(r), nil
}

// checkHash compares index.json.hash with the index. A client that has no ETag to go by reads the index again
// when the hash differs from that of its copy, and then deletes the copy if it is the same index: its next command fails
// (Spack 0.23 and 1.2, over file://, s3:// and plain http). A publisher may be between its two writes, so the two are
// read again before they are called damaged.
func (c *check) checkHash(ctx context.Context) {
	if c.pointer.Version == mirror.Absent {
		return
	}
	const tries, pause = 4, 100 * time.Millisecond
	digest := c.pointer.Digest()
	for try := 1; ; try++ {
		hash, _, err := mirror.Read(ctx, c.reader, layout.V2IndexHash, buildcache.MaxPointer)
		switch {
		case err == nil && string(hash) == digest:
			return
		case try < tries && ctx.Err() == nil:
			time.Sleep(pause)
			if p, err := c.ReadPointer(ctx, c.reader); err == nil {
				digest = p.Digest()
			}
			continue
		case err != nil:
			c.damage(layout.V2IndexHash, "%v: clients may fail until it is there; publish index mends it", err)
		default:
			c.damage(layout.V2IndexHash, "it is %.80q, the index has sha256 %s: clients may fail until it is right; publish index mends it", hash, digest)
		}
		return
	}
}

// checkBlobs counts the blobs that nothing points at and, for a deep check, hashes all that
// were not hashed yet. A corrupt orphan is damage too: who publishes that blob finds it
// there already.
func (c *check) checkBlobs(ctx context.Context) error {
	var todo []*ref
	for _, r := range c.refs {
		if !r.done {
			todo = append(todo, r)
		}
	}
	for name, info := range c.listed {
		if !c.payload(name) || c.refs[name] != nil {
			continue
		}
		c.result.Orphans++
		sum := name[strings.LastIndexByte(name, '/')+1:]
		if d, err := blob.ParseDigest(sum); err == nil && layout.V3Blob(d) == name {
			todo = append(todo, &ref{Object: buildcache.Object{Name: name, Size: info.Size, Digest: d}})
		}
	}
	if !c.Deep {
		return nil
	}
	slices.SortFunc(todo, func(a, b *ref) int { return cmp.Compare(a.Name, b.Name) })
	c.checked(0, len(todo))
	return parallel.Each(ctx, verifyHashers, todo, func(ctx context.Context, r *ref) error {
		if err := c.hash(ctx, r.Object); err != nil {
			for _, owner := range r.owners {
				c.damage(owner, "%v", err)
			}
			if r.owners == nil {
				c.damage(r.Name, "nothing points at it yet, but %v", err)
			}
		}
		c.checked(1, 0)
		return context.Cause(ctx)
	})
}

// hash reads an object without keeping it.
func (c *check) hash(ctx context.Context, o buildcache.Object) error {
	body, err := c.reader.Open(ctx, o.Name)
	if err != nil {
		return err
	}
	defer body.Body.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{body.Body}, make([]byte, verifyBuffer))
	if err != nil {
		return fmt.Errorf("read %s: %w", o.Name, err)
	}
	want := o.Size
	if want < 0 {
		want = n
	}
	if got := blob.Digest(h.Sum(nil)); got != o.Digest || n != want {
		return &blob.MismatchError{Name: o.Name, WantSize: want, GotSize: n, Want: o.Digest, Got: got}
	}
	return nil
}
