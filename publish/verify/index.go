package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

func (c *check) indexName() string { return c.IndexNames()[0] }

// open reads the index and then lists the mirror, in that order: so the listing has everything that the index
// offers. It reports whether the mirror has this layout.
func (c *check) open(ctx context.Context) (bool, error) {
	p, err := c.ReadPointer(ctx, c.reader)
	switch {
	case err != nil && c.lister == nil && c.reader.absent(err):
		c.denied = err
		return false, nil
	case err != nil && (errors.Is(err, mirror.ErrDenied) || c.reader.failing()):
		return false, err // without this read permission, damage cannot be found
	case err != nil:
		c.broken = true
		c.damage(c.indexName(), "%v", err)
		p = &buildcache.Pointer{Version: mirror.Absent}
	case p.Broken != nil:
		c.broken = true
		c.unreadable(c.indexName(), p.Broken)
	case p.Version != mirror.Absent:
		if found, err := putback.Recall(ctx, c.Layout, c.reader.reader, p); err != nil {
			return false, err
		} else if found != nil {
			c.damage(c.indexName(), "%v", found)
		}
		if c.lister != nil { // the index of another program does not name withdrawn packages
			if err := p.Recall(ctx, c.Layout, c.reader.reader, c.lister); err != nil {
				return false, err
			}
		}
		c.readTheIndex(ctx, p)
		if p.Recalled && c.index != nil {
			p.Past = p.Releasing(c.index.Has) // as the next writer does
		}
	}
	c.pointer = p
	if c.lister == nil {
		return c.broken || c.index != nil, nil
	}
	found := buildcache.Survey{Ranges: c.Ranges(p.Packages())}
	if err := found.List(ctx, c.lister); err != nil {
		return false, err
	}
	c.listed = found.Objects
	there := c.broken || c.index != nil
	for name, info := range c.listed {
		c.result.Objects++
		c.result.Bytes += info.Size
		// A publish that has hardly begun leaves only blobs.
		there = there || !c.IsPayload(name)
	}
	return there, nil
}

func (c *check) readTheIndex(ctx context.Context, p *buildcache.Pointer) {
	name := c.indexName()
	x := indices.New(c.Generations())
	for i, ref := range p.Refs {
		if !ref.Digest.Known() {
			continue
		}
		part, err := c.readPart(ctx, name, p, i)
		if err != nil {
			c.broken = true
			c.unreadable(name, err)
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
	ref := p.Refs[i]
	blob, apart := c.BlobName(ref.Digest)
	if !apart {
		return index.Parse(p.Content, version)
	}
	return c.indexBlob(ctx, name, buildcache.Object{Name: blob, Size: ref.Size, Digest: ref.Digest}, version)
}

// others checks the records of an index manifest with unknown media types: their blobs must exist.
func (c *check) others(ctx context.Context, name string, m *manifest.Manifest) {
	if m == nil {
		return
	}
	for _, r := range m.Records {
		known := slices.ContainsFunc(c.Generations(), func(g indices.Generation) bool { return manifest.IndexType(g.Index) == r.MediaType })
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

// indexBlob reads the index document that a manifest refers to.
func (c *check) indexBlob(ctx context.Context, name string, b buildcache.Object, version int) (*index.Index, error) {
	if err := c.reader.sizable(b.Name, b.Size); err != nil {
		return nil, err
	}
	raw, err := c.content(ctx, name, b, buildcache.MaxIndex)
	if err != nil {
		c.mend(wrong(b.Name, err)) // otherwise an index with the same content would be refused
		return nil, err
	}
	return index.Parse(raw, version)
}

// content reads the blob that a manifest refers to.
func (c *check) content(ctx context.Context, name string, b buildcache.Object, limit int64) ([]byte, error) {
	c.refer(name, b, true)
	raw, err := buildcache.ReadBlob(ctx, c.reader, b, limit)
	if err == nil && int64(len(raw)) != b.Size {
		err = fmt.Errorf("%s has %d bytes, want %d", b.Name, len(raw), b.Size)
	}
	return raw, err
}

// checkIndex checks an index: every record can be read, all its dependencies have records, and ref_count is the
// number of dependents. It also checks that the offered packages exist.
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

// nodes parses the packages of records. An unreadable one is nil.
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

// offered checks that the offered packages exist, and that the index holds only these and their dependencies.
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
		need(h) // if it is not offered, that is reported
	}
	for h := range c.pointer.Withdrawn {
		need(h) // its record stays
	}
	for h, k := range records {
		if !k.InBuildcache {
			continue
		}
		need(h)
		if w, ok := c.pointer.Withdrawn[h]; ok { // publishing it again does not repair that
			c.damage(file, "it offers %s/%s, but %s: publish withdraw, given the same again, takes it out", w.Package, h.Short(), w)
			continue
		}
		if c.listed == nil || k.node == nil {
			continue
		}
		names, ok := c.DocumentNames(k.node, buildcache.ToolchainIn(k.Node))
		there := slices.ContainsFunc(names, func(n string) bool { _, ok := c.listed[n]; return ok })
		if !ok {
			names, there = []string{file}, hashes[h]
		}
		if !there {
			c.mend("", names[0])
			c.damage(names[0], "%s offers %s, whose document is not there", file, k.node.ID())
		}
	}
	for h, k := range records {
		if !needed[h] {
			c.report(buildcache.Warning, file, "record of %s/%s: no package here depends on it", k.Name, h.Short())
		}
	}
}

// needed checks that clients with an additional upstream mirror can install every package of an index. It
// ignores build dependencies.
func (c *check) needed(file string, records map[spec.Hash]known) {
	if c.Upstream == nil {
		return
	}
	depended := make(map[spec.Hash]bool)
	for _, k := range records {
		if k.InBuildcache && k.node != nil {
			for _, h := range k.node.Dependencies {
				depended[h] = true
			}
		}
	}
	var next []spec.Hash
	for h, k := range records {
		if k.InBuildcache && !depended[h] {
			next = append(next, h)
		}
	}
	seen := make(map[spec.Hash]bool)
	for ; len(next) > 0; next = next[1:] {
		k := records[next[0]]
		if k.node == nil || seen[next[0]] {
			continue
		}
		seen[next[0]] = true
		for _, h := range k.node.Needs() {
			n := records[h]
			if !n.InBuildcache && !c.Upstream[h] && (n.node == nil || !n.node.External) {
				if n.node != nil { // publishing it here repairs that, and no other index would
					names, _ := c.DocumentNames(n.node, buildcache.ToolchainIn(n.Node))
					c.mend("", names...)
				}
				c.verifier.damage(file, "%s needs %s/%s, which neither this mirror nor an upstream mirror offers", k.node.ID(), n.Name, h.Short())
			}
		}
		next = append(next, k.node.Needs()...)
	}
}

// checkHash compares index.json.hash with the index. A client without an ETag reads the index again if the hash
// differs from that of its copy. If the index is the same, it deletes its copy, and its next command fails
// (Spack 0.23 and 1.2, over file://, s3:// and plain http). A publisher may be between its two writes, so both
// objects are read again before they are reported as damaged.
func (c *check) checkHash(ctx context.Context) {
	if c.pointer.Version == mirror.Absent {
		return
	}
	const tries, pause = 4, 100 * time.Millisecond
	digest := c.pointer.Digest()
	for try := 1; ; try++ {
		name, hash, err := c.ReadChecksum(ctx, c.reader)
		switch {
		case err == nil && (name == "" || hash == digest):
			return
		case try < tries && ctx.Err() == nil:
			time.Sleep(pause)
			if p, err := c.ReadPointer(ctx, c.reader); err == nil {
				digest = p.Digest()
			}
			continue
		case err != nil:
			c.damage(name, "%v: clients may fail until it is there; publish index mends it", err)
		default:
			c.damage(name, "it is %.80q, the index has sha256 %s: clients may fail until it is right; publish index mends it", hash, digest)
		}
		return
	}
}
