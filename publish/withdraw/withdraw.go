// Package withdraw takes packages back that a mirror has published, and gives them again.
//
// A withdrawn package keeps its record in the index, because Spack installs a package without a dependency whose record is
// missing, but the index does not offer it. Its document gives way to a tombstone, so a client that knows its hash from
// elsewhere, such as a lock file, does not get it either. The pointer of the index says what is withdrawn; every publisher reads it
// and obeys. Tarballs stay until they are pruned.
//
// The index comes first and the document after it, and the other way round to give a package again: what the index offers
// can be installed at every moment. An interrupted command is repeated.
package withdraw

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// A Package is one that is withdrawn or given again.
type Package struct {
	Hash spec.Hash
	ID   string // name@version
	// Documents are the names that its document may have.
	Documents []string
}

// A Mirror is where packages are withdrawn.
type Mirror struct {
	Layout buildcache.Layout
	Store  mirror.Store
	// Deleter removes documents of layout v2, in which no tombstone can take their place.
	Deleter mirror.Deleter
}

// A Result is what has changed.
type Result struct {
	Index reindex.Result // of the whole mirror
	// Stale are the fixed names whose content is other than before.
	Stale []string
	// Lost are the packages that could not be given again, because content that they need is gone, and what that is. They are
	// withdrawn no more, and can be published.
	Lost map[spec.Hash]string
}

// Withdraw withdraws packages. Those that are withdrawn already get the new reason, and what an interrupted withdrawal has
// left is completed.
func (m Mirror) Withdraw(ctx context.Context, packages []Package, reason string) (Result, error) {
	var out Result
	now, by := time.Now().UTC().Truncate(time.Second), history.AuthorOf(ctx).By
	there := make(map[spec.Hash][]string) // documents
	for _, p := range packages {
		names, err := m.documents(ctx, p)
		if err != nil {
			return out, err
		}
		there[p.Hash] = names
	}
	withdrawal := func(p Package) history.Withdrawal {
		w := history.Withdrawal{Package: p.ID, Reason: reason, Time: now, By: by}
		if names := append(there[p.Hash], p.Documents...); len(names) > 0 {
			w.Document = names[0]
		}
		return w
	}
	err := m.eachIndex(ctx, &out, func(f buildcache.Layout) error {
		r, err := reindex.Edit(ctx, f, m.Store, func(_ context.Context, was *buildcache.Pointer, x *buildcache.Indices) error {
			for _, p := range packages {
				if f.ViewName() != "" && !x.Has(p.Hash) {
					continue
				}
				x.Withhold(p.Hash)
				if w, ok := was.Withdrawn[p.Hash]; !ok || w.Reason != reason {
					was.Past = was.Withdrawing(p.Hash, withdrawal(p))
				}
			}
			return nil
		})
		out.note(f, r)
		return err
	})
	if err != nil {
		return out, err
	}
	for _, p := range packages {
		for _, name := range there[p.Hash] {
			w := withdrawal(p)
			w.Document = name
			buried, err := m.bury(ctx, w)
			if err != nil {
				return out, fmt.Errorf("withdraw %s: %w", name, err)
			}
			if buried {
				out.Stale = append(out.Stale, name)
			}
		}
	}
	return out, nil
}

// note records what became of an index.
func (r *Result) note(f buildcache.Layout, index reindex.Result) {
	if f.ViewName() == "" {
		r.Index = index
	}
	if index.Written {
		r.Stale = append(r.Stale, f.IndexNames()...)
	}
}

// Holds reports whether there is an object of any of some names.
func (m Mirror) Holds(ctx context.Context, names []string) (bool, error) {
	found, err := m.documents(ctx, Package{Documents: names})
	return len(found) > 0, err
}

// documents are the documents of a package that are there.
func (m Mirror) documents(ctx context.Context, p Package) ([]string, error) {
	var names []string
	for _, name := range p.Documents {
		info, err := mirror.Find(ctx, m.Store, name)
		if err != nil {
			return nil, err
		}
		if info.Name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// eachIndex calls do for the index of the whole mirror, and then for each named index.
func (m Mirror) eachIndex(ctx context.Context, out *Result, do func(f buildcache.Layout) error) error {
	if err := do(m.Layout); err != nil {
		return err
	}
	views, err := m.views(ctx)
	if err != nil {
		return err
	}
	for _, f := range views {
		if err := do(f); err != nil {
			return fmt.Errorf("view %s: %w", f.ViewName(), err)
		}
	}
	return nil
}

// views are the named indices of the mirror.
func (m Mirror) views(ctx context.Context) ([]buildcache.Layout, error) {
	var views []buildcache.Layout
	if !m.Layout.NamesContent() {
		return nil, nil // which has none
	}
	names, err := buildcache.Views(ctx, m.Store)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if f, ok := m.Layout.View(name); ok && layout.CheckView(name) == nil {
			views = append(views, f)
		}
	}
	return views, nil
}

// tries is how often a document is read again that another publisher replaces meanwhile.
const tries = 20

// bury puts a tombstone in the place of a document, or, in layout v2, beside it, and deletes the document. It reports whether the
// document is other than before. A tombstone that says the same already stays as it is.
func (m Mirror) bury(ctx context.Context, w history.Withdrawal) (bool, error) {
	for range tries {
		text, info, err := mirror.Read(ctx, m.Store, w.Document, buildcache.MaxDocument)
		if errors.Is(err, mirror.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		t := &tombstone.Tombstone{Withdrawal: w, Text: string(text)}
		if was, ok := tombstone.Parse(text); ok {
			if was.Reason == w.Reason {
				return false, nil
			}
			t.Text = was.Text
		}
		if err = m.replace(ctx, t, info.Version); !errors.Is(err, mirror.ErrConflict) {
			return err == nil, err
		}
	}
	return false, reindex.ErrUnresolved
}

// replace stores a tombstone in the place of the version was of its document.
func (m Mirror) replace(ctx context.Context, t *tombstone.Tombstone, was mirror.Version) error {
	text, err := t.Encode()
	if err != nil {
		return err
	}
	o := buildcache.NewObject(tombstoneName(m.Layout, t.Document), text, buildcache.JsonType, layout.Revalidate)
	if o.Name == t.Document {
		_, err = m.Store.Swap(ctx, o.Upload(), was)
		return err
	}
	there, err := mirror.Find(ctx, m.Store, o.Name) // if it is not, its version is mirror.Absent
	if err != nil {
		return err
	}
	if _, err = m.Store.Swap(ctx, o.Upload(), there.Version); err != nil {
		return err
	}
	return m.Deleter.Delete(ctx, t.Document, was)
}

// tombstoneName is where the tombstone of a document is. In layout v2 no document can stand for a package that is not available: its
// tombstone is kept apart.
func tombstoneName(f buildcache.Layout, document string) string {
	if f.NamesContent() {
		return document
	}
	return history.Dir + f.Name() + "/withdrawn/" + path.Base(document)
}

// A Withdrawn package is one that a mirror has withdrawn.
type Withdrawn struct {
	Hash spec.Hash `json:"hash"`
	history.Withdrawal
}

// List returns the packages that a mirror has withdrawn, by name.
func List(ctx context.Context, f buildcache.Layout, r mirror.Reader) ([]Withdrawn, error) {
	p, err := buildcache.PointerForUpdate(ctx, f, r)
	if err != nil {
		return nil, err
	}
	all := []Withdrawn{}
	for h, w := range p.Withdrawn {
		all = append(all, Withdrawn{h, w})
	}
	slices.SortFunc(all, func(a, b Withdrawn) int {
		return strings.Compare(a.Package+"/"+string(a.Hash), b.Package+"/"+string(b.Hash))
	})
	return all, nil
}
