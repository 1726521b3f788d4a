package verify

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
)

// A Repair says how to repair the errors in a mirror, in this order, as far as that is known.
type Repair struct {
	// Remove are objects with wrong content. Publishing never replaces them.
	Remove []string `json:"remove,omitempty"`
	// Publish are the hashes of packages that then lack something: publish them again from where they were
	// built.
	Publish []string `json:"publish,omitempty"`
	// Index means that the index, or the index of keys, must be rebuilt.
	Index bool `json:"index,omitempty"`
	// Views must be set again. Their intended packages are unknown.
	Views []string `json:"views,omitempty"`
}

// Needed reports whether there is anything to repair.
func (r Repair) Needed() bool { return len(r.Remove)+len(r.Publish)+len(r.Views) > 0 || r.Index }

// damage is verifier.damage. An error in an index is repaired by rebuilding it, and one in a view by setting
// it.
func (c *check) damage(file, reason string, args ...any) {
	if view, ok := c.ParseViewName(file); ok {
		c.mendView(view)
	} else if checksum, _, _ := strings.Cut(path.Base(file), "."); file != "" && (file == c.indexName() || file == c.KeyIndexName() || checksum == "index") {
		c.mendIndex()
	}
	c.verifier.damage(file, reason, args...)
}

// unreadable reports an index or a view that could not be read. This program neither checks nor rebuilds one of
// a newer version.
func (c *check) unreadable(file string, err error) {
	if version, ok := errors.AsType[*index.VersionError](err); !ok || !version.Newer() {
		c.damage(file, "%v", err)
		return
	}
	c.verifier.damage(file, "%v: it was not checked: update this program", err)
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.verifier.newer = c.verifier.newer || file == c.indexName()
}

func (c *check) mendView(view string) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.result.Repair.Views = append(c.result.Repair.Views, view)
}

func (c *check) mendIndex() {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	c.result.Repair.Index = true
}

// mend records that packages, by the names of their documents, must be published again after an object was
// removed; empty: none.
func (c *check) mend(remove string, documents ...string) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	if remove != "" {
		c.result.Repair.Remove = append(c.result.Repair.Remove, remove)
	}
	for _, name := range documents {
		if p, ok := c.ParsePackageName(name); ok {
			c.result.Repair.Publish = append(c.result.Repair.Publish, string(p.Hash))
		}
	}
}

// there returns the name of an object if it exists; else it is empty.
func (c *check) there(name string) string {
	_, read := c.reader.size(name)
	if _, listed := c.listed[name]; read || listed {
		return name
	}
	return ""
}

// wrong returns the name of an object if an error says that its content is wrong; else it is empty.
func wrong(name string, err error) string {
	if mismatch := (*blob.MismatchError)(nil); errors.As(err, &mismatch) {
		return name
	}
	return ""
}

func (r *Repair) tidy() {
	for _, list := range []*[]string{&r.Remove, &r.Publish, &r.Views} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
}
