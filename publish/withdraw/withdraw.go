// Package withdraw withdraws published packages of a mirror, and restores them.
//
// The index keeps the record of a withdrawn package, because Spack installs a package without a dependency
// whose record is missing, but does not offer it. The document is replaced by a tombstone, so a client that
// knows the hash from elsewhere, such as a lock file, does not get the package either. The pointer of the index
// names the withdrawn packages; every publisher reads and obeys it. Tarballs stay until they are pruned.
//
// The index is changed before the document, and after it to restore a package: every offered package can be
// installed at all times. An interrupted command is repeated.
package withdraw

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// A Package is a package to withdraw or to restore.
type Package struct {
	Hash spec.Hash
	ID   string // name@version
	// Documents are the possible names of its document.
	Documents []string
}

// A Mirror is a mirror whose packages are withdrawn.
type Mirror struct {
	Layout buildcache.Layout
	Store  mirror.Store
	// Deleter removes documents of layout v2, where a tombstone cannot replace them.
	Deleter mirror.Deleter
	Trust   buildcache.Trust // trust for packages to restore
}

// A Result says what has changed.
type Result struct {
	Index reindex.Result // of the whole mirror
	// Stale are the fixed names whose content has changed.
	Stale []string
	// Lost are the packages that could not be restored, because their content is gone, with the missing
	// content. They are no longer withdrawn, and can be published.
	Lost map[spec.Hash]string
	// Unread says why views could not be read. They were skipped; a withdrawn package that they offer cannot be
	// installed.
	Unread []error
	// Needs names, for restored packages, their dependencies that are still withdrawn.
	Needs map[spec.Hash][]string
}

// Withdraw withdraws packages. Packages that are withdrawn already get the new reason, and an interrupted
// withdrawal is completed.
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
	r, err := reindex.Edit(ctx, m.Layout, m.Store, func(_ context.Context, was *buildcache.Pointer, x *indices.Set) error {
		for _, p := range packages {
			x.Withhold(p.Hash)
			if w, ok := was.Withdrawn[p.Hash]; !ok || w.Reason != reason {
				was.Past = was.Withdrawing(p.Hash, withdrawal(p))
			}
		}
		return nil
	})
	out.note(m.Layout, r)
	if err != nil {
		return out, err
	}
	aligned := make(map[string]mirror.Version)
	if err := m.alignViews(ctx, &out, aligned); err != nil {
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
	// A writer that died may have added packages to a view that it had found before.
	return out, m.alignViews(ctx, &out, aligned)
}

// note records the change of an index.
func (r *Result) note(f buildcache.Layout, index reindex.Result) {
	if f.ViewName() == "" {
		r.Index = index
	}
	if index.Written {
		r.Stale = append(r.Stale, f.IndexNames()...)
	}
}

// Unindexed reads the packages that the mirror holds but no index names, among those with matching documents.
// Another program may have dropped them from the index, and healing would bring them back. Incomplete packages
// are left out: healing does not bring them back either.
func (m Mirror) Unindexed(ctx context.Context, known func(spec.Hash) bool, meant func(document string, id layout.SpecName) bool) ([]*spec.Spec, error) {
	p, err := buildcache.PointerForUpdate(ctx, m.Layout, m.Store)
	if err != nil {
		return nil, err
	}
	seen, err := Documents(ctx, m.Layout, m.Store, p)
	if err != nil {
		return nil, err
	}
	var specs []*spec.Spec
	for name, id := range seen.Packages(m.Layout) {
		if known(id.Hash) || !meant(name, id) {
			continue
		}
		found, _, err := reindex.ReadPackage(ctx, m.Layout, m.Store, buildcache.Trust{}, name)
		if err != nil {
			return nil, err
		}
		if found != nil {
			specs = append(specs, found.Spec)
		}
	}
	return specs, nil
}

// Documents lists the documents of a mirror, without their content if the layout stores it separately.
func Documents(ctx context.Context, f buildcache.Layout, s mirror.Store, p *buildcache.Pointer) (*buildcache.Survey, error) {
	ranges := f.Ranges(p.Packages())
	if f.NamesContent() {
		ranges = slices.DeleteFunc(ranges, func(r mirror.Range) bool { return strings.HasPrefix(r.Prefix, f.Payload()) })
	}
	seen := &buildcache.Survey{Pointer: p, Ranges: ranges}
	return seen, seen.List(ctx, s)
}

// Holds reports whether an object with any of some names exists.
func (m Mirror) Holds(ctx context.Context, names []string) (bool, error) {
	found, err := m.documents(ctx, Package{Documents: names})
	return len(found) > 0, err
}

// documents returns the existing documents of a package.
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

// alignViews aligns the named indices with the withdrawals, except those unchanged since they were aligned.
// It skips views that are damaged or of a newer version, and records them in Unread. Layout v2 has no views.
func (m Mirror) alignViews(ctx context.Context, out *Result, aligned map[string]mirror.Version) error {
	if !m.Layout.NamesContent() {
		return nil
	}
	views, err := m.views(ctx)
	if err != nil {
		return err
	}
	out.Unread = nil
	for _, info := range views {
		name, _ := m.Layout.ParseViewName(info.Name)
		f, ok := m.Layout.View(name)
		if version, done := aligned[name]; !ok || done && version == info.Version {
			continue
		}
		r, err := m.Align(ctx, f)
		out.note(f, r)
		if reindex.NeedsRebuild(err) {
			err = fmt.Errorf("%w: %w; `publish view set` makes it again", reindex.ErrUnreadable, err)
		}
		if unread(err) {
			out.Unread = append(out.Unread, fmt.Errorf("view %s was passed over: %w", name, err))
			continue
		}
		if err != nil {
			return fmt.Errorf("view %s: %w", name, err)
		}
		aligned[name] = r.Version()
	}
	return nil
}

// unread reports whether an error says that an index is damaged or of a newer version.
func unread(err error) bool {
	var newer *index.VersionError
	return reindex.NeedsRebuild(err) || errors.As(err, &newer)
}

// views lists the pointers of the named indices.
func (m Mirror) views(ctx context.Context) ([]mirror.Info, error) {
	var views []mirror.Info
	for info, err := range m.Store.List(ctx, mirror.Range{Prefix: m.Layout.Pointers()}) {
		if err != nil {
			return nil, fmt.Errorf("list views: %w", err)
		}
		if name, ok := m.Layout.ParseViewName(info.Name); ok && layout.CheckView(name) == nil {
			views = append(views, info)
		}
	}
	return views, nil
}

// tries is how often a document is read again after another publisher has replaced it.
const tries = 20

// bury replaces a document by a tombstone or, in layout v2, stores the tombstone beside it and deletes the
// document. It reports whether anything has changed. An equal tombstone stays.
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
	return false, conflict.ErrUnresolved
}

// replace replaces version was of a document by a tombstone.
func (m Mirror) replace(ctx context.Context, t *tombstone.Tombstone, was mirror.Version) error {
	text, err := t.Encode()
	if err != nil {
		return err
	}
	o := buildcache.NewObject(tombstone.Name(m.Layout, t.Document), text, buildcache.JsonType, layout.Revalidate)
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

// A Withdrawn is a package that a mirror has withdrawn.
type Withdrawn struct {
	Hash spec.Hash `json:"hash"`
	history.Withdrawal
}

// Undoable returns the packages that a mirror or any of its views has withdrawn, by name. After an interrupted
// undo, a view may have a withdrawal that the mirror does not have.
func (m Mirror) Undoable(ctx context.Context) ([]Withdrawn, error) {
	all, err := List(ctx, m.Layout, m.Store)
	if err != nil || !m.Layout.NamesContent() {
		return all, err
	}
	views, err := m.views(ctx)
	if err != nil {
		return nil, err
	}
	for _, info := range views {
		name, _ := m.Layout.ParseViewName(info.Name)
		f, ok := m.Layout.View(name)
		if !ok {
			continue
		}
		more, err := List(ctx, f, m.Store)
		if unread(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("view %s: %w", name, err)
		}
		for _, w := range more {
			if !slices.ContainsFunc(all, func(a Withdrawn) bool { return a.Hash == w.Hash }) {
				all = append(all, w)
			}
		}
	}
	slices.SortFunc(all, byName)
	return all, nil
}

func byName(a, b Withdrawn) int {
	return strings.Compare(a.Package+"/"+string(a.Hash), b.Package+"/"+string(b.Hash))
}

// List returns the packages that an index has withdrawn, by name, even if an earlier pointer was put back.
func List(ctx context.Context, f buildcache.Layout, r mirror.Reader) ([]Withdrawn, error) {
	p, err := buildcache.PointerForUpdate(ctx, f, r)
	if err == nil {
		_, err = putback.Recall(ctx, f, r, p)
	}
	if err != nil {
		return nil, err
	}
	all := []Withdrawn{}
	for h, w := range p.Withdrawn {
		all = append(all, Withdrawn{h, w})
	}
	slices.SortFunc(all, byName)
	return all, nil
}
