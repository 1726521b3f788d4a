package verify

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// A document is a document to check.
type document struct {
	names   []string // possible names
	offered string   // the package according to the index, for people; empty if the document was listed
}

// documents returns the listed documents or, without a listing, those of the packages in the index.
func (c *check) documents(views bool) []document {
	var docs []document
	for name := range c.listed {
		if buildcache.Superseded(c.Layout, name, func(signed string) bool { _, ok := c.listed[signed]; return ok }) {
			c.report(buildcache.Warning, name, "it is left over from before it was signed, and Spack reads the .sig beside it first: delete it, since Spack 0.23 stumbles over it where the key is not trusted yet")
		} else if _, ok := c.ParsePackageName(name); ok {
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
			names, ok := c.DocumentNames(k.node, buildcache.ToolchainIn(k.Node))
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
			c.mend("", name)
			c.damage(name, "%s offers %s, whose document is not there: %v", c.indexName(), d.offered, err)
			return
		}
		c.damage(name, "%v", err)
		return
	}
	p, err := c.ParseDocument(name, content, c.specs)
	if w, ok := errors.AsType[*tombstone.Error](err); ok {
		c.checkTombstone(name, w)
		return
	}
	if err != nil {
		if severityOf(err) == buildcache.Error {
			c.mend(name, name)
		}
		c.report(severityOf(err), name, "%v", err)
		return
	}
	c.checkSignature(p)
	if !c.checkContent(ctx, p) {
		return
	}
	if reason := c.pointer.WhyKeptOut(p.Spec.Root().Hash); reason != "" {
		c.keptOut(p, reason)
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

// checkTombstone checks the tombstone of a withdrawn package.
func (c *check) checkTombstone(name string, w *tombstone.Error) {
	id, _ := c.ParsePackageName(name)
	if c.pointer.WhyKeptOut(id.Hash) == "" {
		c.report(buildcache.Warning, name, "%v, and the index does not say so: the same publish withdraw once more completes that", w)
	}
}

// keptOut checks a sound package that is kept out of the index.
func (c *check) keptOut(p *buildcache.Package, reason string) {
	if _, ok := c.pointer.Withdrawn[p.Spec.Root().Hash]; ok {
		c.damage(p.File, "%s, and it can be installed by its hash: run publish withdraw again", reason)
	} else if c.index != nil && c.index.Has(p.Spec.Root().Hash) {
		c.damage(c.indexName(), "it offers %s, but %s", p.Spec.Root().ID(), reason)
	}
}

// checkContent checks the objects that the document of a package refers to. It reports whether the spec can be
// read and matches its name.
func (c *check) checkContent(ctx context.Context, p *buildcache.Package) bool {
	specErr := c.ReadSpec(ctx, c.reader, p, c.specs)
	specMissing := false
	for i, b := range p.Blobs {
		isSpec := i == p.SpecBlob()
		reason := c.missing(ctx, b)
		if reason != "" {
			c.mend(c.there(b.Name), p.File)
			c.damage(p.File, "%s", reason)
			specMissing = specMissing || isSpec
		}
		c.refer(p.File, b, reason != "" || isSpec)
	}
	if specErr != nil && !specMissing {
		if i := p.SpecBlob(); i >= 0 && wrong("spec", specErr) != "" {
			c.mend(p.Blobs[i].Name, p.File)
		}
		c.report(severityOf(specErr), p.File, "%v", specErr)
	}
	return p.Spec != nil
}

// severityOf returns the severity of an error about a package. A package for other versions of Spack is not
// damage: other clients read it.
func severityOf(err error) buildcache.Severity {
	if buildcache.IsForeign(err) {
		return buildcache.Warning
	}
	return buildcache.Error
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
		// Two good indices can differ in values that versions of Spack derive when they read a spec.
		if in, err := spec.Normalize(k.Node); err == nil && !index.SameJSON(in, root.Record) {
			c.report(buildcache.Warning, c.indexName(), "record of %s is not what %s says", root.ID(), p.File)
		}
	}
}

func sameSet(a, b []spec.Hash) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// reportUnindexed reports packages that the mirror holds but does not offer, unless a publisher has indexed
// them since the index was read.
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
			c.mendIndex()
			c.damage(name, "it is not in the index, so clients do not find it: run publish index")
		}
	}
}
