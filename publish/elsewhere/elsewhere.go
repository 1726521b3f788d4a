// Package elsewhere reads another mirror as a source: in a bucket, in a directory, or behind a URL.
//
// The index says what the mirror offers, so the mirror need not be listed. Selected packages bring along all
// that they need when they are installed. From there on, a copy is an ordinary publish.
package elsewhere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"
)

// A Closure selects packages of another mirror, together with all that they need when they are installed.
type Closure struct {
	closure.Want
	// View is a named index that must offer the selected packages and all that they need; empty: the index of
	// the whole mirror.
	View string
	// Layout selects mirrors of layout v3 or v2. Empty: both.
	Layout string
	// NoKeys leaves out the public keys of the source.
	NoKeys bool
	// Builds adds the packages' build dependencies, as far as they are offered.
	Builds bool
	// Anew also reads packages that the destination already offers.
	Anew bool
	// Held are packages that clients get from elsewhere. They are left out, but other packages may need them.
	// See Offered.
	Held map[spec.Hash]bool
	// Needed are packages that must not be missing: packages that need them are refused otherwise, even if
	// everything is selected. If everything is selected, other missing packages cause only a warning.
	Needed map[spec.Hash]bool
}

// ErrNoView means that no mirror has the requested view.
var ErrNoView = errors.New("there is no view")

// Open reads the documents of the selected packages, and of all that they need, from mirrors that complete
// each other. A package that several mirrors offer is read from the first one. A package that the destination
// to already offers is not read. ctx must last as long as the Source, because blobs are read when they are
// stored. A store from transfer.Relay reads each blob only once.
func Open(ctx context.Context, from []mirror.Reader, to mirror.Store, c Closure) (*source.Source, error) {
	src, specs := new(source.Source), spec.NewReader(maxSpecs)
	var unmatched map[*query.Query]error // in all mirrors so far
	there, denied := make([]bool, len(from)), make([]error, len(from))
	for _, f := range buildcache.Layouts() {
		if c.Layout != "" && c.Layout != f.Name() {
			continue
		}
		e := reading{src: src, specs: specs, layout: f, from: from, to: to, there: there, denied: denied, Closure: c}
		if err := e.open(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		switch {
		case e.mirror == nil:
		case unmatched == nil:
			unmatched = e.unmatched
		default:
			maps.DeleteFunc(unmatched, func(q *query.Query, _ error) bool { return e.unmatched[q] == nil })
		}
	}
	for i, err := range denied {
		if err != nil && !there[i] {
			return nil, err
		}
	}
	switch {
	case len(src.Mirrors) > 0:
	case c.View != "":
		return nil, fmt.Errorf("%w %s", ErrNoView, c.View)
	default:
		return nil, noIndex(ctx, from)
	}
	for _, q := range c.Packages {
		err := unmatched[q]
		if err != nil && c.View != "" {
			err = outside(ctx, from, c.View, q)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", source.ErrNothing, err)
		}
	}
	if len(c.Held) > 0 {
		return src, nil // which may be all selected packages
	}
	for _, m := range src.Mirrors {
		if len(m.Packages)+len(m.There)+len(m.Refused) > 0 {
			return src, nil
		}
	}
	if !c.Everything() {
		return nil, fmt.Errorf("%w: no package is offered that was asked for", source.ErrNothing)
	}
	return nil, fmt.Errorf("%w: the index offers no package", source.ErrNothing)
}

// maxSpecs limits the bytes that the specs of packages take in memory: enough for 200,000 packages.
const maxSpecs = 256 << 20

// A reading is one layout of a mirror being read.
type reading struct {
	Closure
	src    *source.Source
	specs  *spec.Reader
	layout buildcache.Layout
	from   []mirror.Reader
	to     mirror.Store
	mirror *source.Mirror
	files  *remote

	there     []bool          // which of from have an index, in this layout or one that was read before
	denied    []error         // with which the index of each of from was denied, in any layout
	offering  []mirror.Reader // the mirrors of from that have an index
	kept      atomic.Int64    // bytes of specs: see maxKept
	unmatched map[*query.Query]error
}

// readIndices reads the indices of the mirrors that have one.
func (e *reading) readIndices(ctx context.Context) ([]*indices.Set, error) {
	l := e.layout
	if e.View != "" {
		var ok bool
		if l, ok = l.View(e.View); !ok {
			return nil, nil
		}
	}
	read := make([]*indices.Set, len(e.from))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(read), func(ctx context.Context, i int) (err error) {
		read[i], err = readIndex(ctx, l, e.from[i], true)
		if denied := new(deniedError); errors.As(err, &denied) {
			e.denied[i], err = cmp.Or(e.denied[i], fmt.Errorf("%s: %w", l.Name(), err)), nil
		}
		return err
	})
	var all []*indices.Set
	for i, x := range read {
		if x != nil {
			all = append(all, x)
			e.offering, e.there[i] = append(e.offering, e.from[i]), true
		}
	}
	return all, err
}

func (e *reading) open(ctx context.Context) error {
	indices, err := e.readIndices(ctx)
	if err != nil || len(indices) == 0 {
		return err
	}
	e.files = &remote{Reader: e.offering[0], ctx: ctx, objects: make(map[string]object)}
	e.mirror = source.NewMirror(e.layout, e.files, e.specs)
	e.src.Mirrors = append(e.src.Mirrors, e.mirror)
	catalogue := closure.Of(indices...)
	all, err := catalogue.Installed(e.Want, e.Builds)
	if err != nil {
		return err
	}
	e.unmatched = make(map[*query.Query]error)
	for _, q := range e.Want.Packages {
		found, err := catalogue.Matching(q)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			e.unmatched[q] = catalogue.Unmatched(q)
		}
	}
	lacks, err := e.compare(ctx, slices.DeleteFunc(all.Packages(), func(p closure.Chosen) bool { return e.Held[p.Node.Hash] }))
	if err != nil {
		return err
	}
	if err := e.holes(ctx, all.Missing, lacks); err != nil {
		return err
	}
	if len(lacks.documents) == 0 {
		return nil
	}
	var spoilt []buildcache.Finding // about keys
	g, gctx := defect.WithContext(ctx)
	g.Go(func() (err error) {
		e.mirror.Keys, spoilt, err = e.readKeys(gctx)
		return err
	})
	g.Go(func() error { return e.read(gctx, lacks.documents) })
	if err := g.Wait(); err != nil {
		return err
	}
	e.src.Findings = append(e.src.Findings, spoilt...)
	slices.SortFunc(e.mirror.Packages, func(a, b *buildcache.Package) int { return strings.Compare(a.File, b.File) })
	return nil
}

func (e *reading) report(s buildcache.Severity, file, reason string) {
	e.src.Findings = append(e.src.Findings, s.In(file, reason))
}

// refuse keeps a package from being copied.
func (e *reading) refuse(p *buildcache.Package, reason string) {
	if _, ok := e.mirror.Refused[p]; !ok {
		e.mirror.Refused[p] = reason
		e.report(buildcache.Error, p.File, reason)
	}
}

// holes reports needed packages that are not offered. It is an error if packages were selected, unless the
// destination or another mirror has the package, and also if a view lacks a package that the mirror offers.
// If everything is copied, the copy is as complete as the mirror, so a missing package causes only a warning.
func (e *reading) holes(ctx context.Context, missing []closure.Lacking, lacks comparison) error {
	var outside map[spec.Hash]bool // packages that the mirrors offer outside of the view
	for _, l := range missing {
		if lacks.offers(l.Hash) || e.Held[l.Hash] {
			continue
		}
		reason := l.String()
		if e.View != "" {
			if outside == nil {
				var err error
				if outside, err = Offered(ctx, e.from...); err != nil {
					return err
				}
			}
			reason += " by the view " + e.View
			if outside[l.Hash] {
				reason += ", only outside of it"
			}
		}
		if index := e.layout.IndexNames()[0]; !e.Everything() || e.Needed[l.Hash] || outside[l.Hash] {
			e.refuse(&buildcache.Package{File: index, SpecName: l.SpecName}, reason)
		} else {
			e.report(buildcache.Warning, index, reason)
		}
	}
	return nil
}

// A comparison holds what a destination lacks, according to its index and a listing.
type comparison struct {
	index     *indices.Set // of the destination; nil if it cannot be read
	documents []document   // to be read
}

// A document is the document of a package, stored under one of its names.
type document struct {
	names []string
	from  mirror.Reader
}

func (c comparison) offers(h spec.Hash) bool { return c.index != nil && c.index.Has(h) }

// compare determines which packages the destination already has: those that its index offers and whose
// document is there. All other packages are read.
func (e *reading) compare(ctx context.Context, all []closure.Chosen) (comparison, error) {
	var c comparison
	documents := make([]document, len(all))
	var flat []string
	for i, p := range all {
		n, err := e.namesOf(p)
		if err != nil {
			return c, err
		}
		documents[i] = document{n, e.offering[p.From]}
		flat = append(flat, n...)
	}
	p, err := buildcache.PointerForUpdate(ctx, e.layout, e.to)
	if err != nil {
		return c, err
	}
	if p.Version != mirror.Absent {
		x, err := e.layout.ReadIndex(ctx, e.to, p)
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		if err == nil { // otherwise the plan decides what to do with the index
			c.index = x
		}
	}
	if e.Anew || c.index == nil || c.index.Offered() == 0 {
		c.documents = documents
		return c, nil
	}
	seen, err := buildcache.SurveyAt(ctx, e.layout, e.to, p, flat)
	if err != nil {
		return c, err
	}
	for i, d := range documents {
		there := ""
		for _, name := range d.names {
			if _, ok := seen.Objects[name]; ok {
				there = name
			}
		}
		if there == "" || !c.offers(all[i].Node.Hash) {
			c.documents = append(c.documents, d)
			continue
		}
		known := packageOf(all[i].Node)
		known.File = there
		e.mirror.There = append(e.mirror.There, known)
	}
	return c, nil
}

// namesOf returns the possible names of the document of a package.
func (e *reading) namesOf(p closure.Chosen) ([]string, error) {
	names, ok := e.layout.DocumentNames(p.Node, buildcache.ToolchainIn(p.Record))
	for _, name := range names {
		id, parsed := e.layout.ParsePackageName(name)
		ok = ok && parsed && id.Hash == p.Node.Hash
	}
	if !ok {
		return nil, fmt.Errorf("index: %q is no name that Spack gives to a package", p.Node.ID())
	}
	return names, nil
}

// read reads the documents and the specs of packages.
func (e *reading) read(ctx context.Context, documents []document) error {
	var mu sync.Mutex // guards e.mirror, e.src.Findings and e.files while one package is added
	return parallel.Each(ctx, parallel.Readers, documents, func(ctx context.Context, d document) error {
		p, blobs, err := e.readPackage(ctx, d)
		if err != nil && !inventory.InContent(err) {
			return blame(d.from, fmt.Errorf("read %s: %w", d.names[0], err))
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			e.refuse(p, err.Error())
			return nil
		}
		maps.Copy(e.files.objects, blobs)
		e.mirror.Packages = append(e.mirror.Packages, p)
		return nil
	})
}

// readPackage returns a package and its blobs. With an error, it returns a package that holds only what the
// name tells.
func (e *reading) readPackage(ctx context.Context, d document) (*buildcache.Package, map[string]object, error) {
	names := d.names
	id, _ := e.layout.ParsePackageName(names[0])
	named := &buildcache.Package{File: names[0], SpecName: id}
	var text []byte
	err := error(mirror.ErrNotExist)
	for _, name := range names {
		if errors.Is(err, mirror.ErrNotExist) {
			named.File = name
			text, _, err = mirror.Read(ctx, d.from, name, buildcache.MaxDocument)
		}
	}
	if errors.Is(err, mirror.ErrNotExist) {
		named.File = names[0]
		return named, nil, fmt.Errorf("the index offers it, and it is not there: %w", err)
	}
	if err != nil {
		return named, nil, err
	}
	p, err := e.layout.ParseDocument(named.File, text, e.specs)
	if err != nil {
		return named, nil, err
	}
	k := &keeper{Reader: d.from}
	if err := e.layout.ReadSpec(ctx, k, p, e.specs); err != nil {
		return named, nil, err
	}
	blobs := make(map[string]object)
	for i := range p.Blobs {
		b := &p.Blobs[i]
		if b.Size < 0 { // of layout v2
			info, err := d.from.Stat(ctx, b.Name)
			if err != nil {
				return named, nil, err
			}
			b.Size = info.Size
		}
		blobs[b.Name] = object{d.from, b.Size, k.taken(b.Name, &e.kept)}
	}
	return p, blobs, nil
}

// readKeys reads the keys that the mirrors offer to clients. A key that does not match its name is not
// copied.
func (e *reading) readKeys(ctx context.Context) (all []source.Key, spoilt []buildcache.Finding, err error) {
	if e.NoKeys {
		return nil, nil, nil
	}
	known := make(map[key.Fingerprint]bool)
	for _, from := range e.offering {
		keys, _, err := e.layout.ReadKeyIndex(ctx, from)
		if err != nil {
			return nil, nil, blame(from, err)
		}
		for _, f := range keys {
			if known[f] {
				continue
			}
			k, err := e.readKey(ctx, from, f)
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			if err != nil {
				spoilt = append(spoilt, buildcache.Warning.In(e.layout.KeyName(f), "this key is not copied: "+err.Error()))
				continue
			}
			known[f] = true
			all = append(all, k)
		}
	}
	return all, spoilt, nil
}

func (e *reading) readKey(ctx context.Context, from mirror.Reader, f key.Fingerprint) (k source.Key, err error) {
	k.Fingerprint = f
	if k.Objects, err = e.layout.ReadKey(ctx, from, f); err == nil {
		k.Public, err = buildcache.PublicKey(k.Objects)
	}
	return k, err
}

// remote reads files of other mirrors.
type remote struct {
	mirror.Reader                 // the first mirror, for objects of no package
	ctx           context.Context // of the run: see transfer.New
	objects       map[string]object
}

// An object is an object of one of the mirrors.
type object struct {
	from mirror.Reader
	size int64
	kept []byte // its content, if already known
}

func (r *remote) of(name string) mirror.Reader {
	if o, ok := r.objects[name]; ok {
		return o.from
	}
	return r.Reader
}

// Open implements mirror.Reader.
func (r *remote) Open(ctx context.Context, name string) (*mirror.Object, error) {
	return r.of(name).Open(ctx, name)
}

// Stat implements mirror.Reader.
func (r *remote) Stat(ctx context.Context, name string) (mirror.Info, error) {
	return r.of(name).Stat(ctx, name)
}

// Content implements source.Files.
func (r *remote) Content(name string) (blob.Source, error) {
	o, ok := r.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, mirror.ErrNotExist)
	}
	return transfer.New(r.ctx, o.from, name, o.size, o.kept), nil
}

// packageOf returns a package with what its node in an index tells.
func packageOf(n *spec.Node) *buildcache.Package {
	p := &buildcache.Package{}
	p.Package, p.Version, p.Hash = n.Name, n.Version, n.Hash
	return p
}
