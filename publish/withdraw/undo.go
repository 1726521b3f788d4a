package withdraw

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// ErrUntrusted means that the signature of a withdrawn package does not meet Mirror.Trust, so the package is
// not restored.
var ErrUntrusted = errors.New("not given again")

// Judge returns an ErrUntrusted if Trust refuses any of some withdrawn packages. It ignores damaged and missing
// documents.
func (m Mirror) Judge(ctx context.Context, packages []Withdrawn) error {
	if !m.Trust.RequireSigned && m.Trust.Keys == nil {
		return nil
	}
	var errs []error
	for _, w := range packages {
		if _, ok := m.Layout.ParsePackageName(w.Document); !ok {
			continue
		}
		text, err := m.remains(ctx, w.Withdrawal)
		if err != nil {
			return err
		}
		if _, err := m.Layout.ParseDocument(w.Document, text, spec.NewReader(buildcache.MaxHeld)); err != nil {
			continue
		}
		if err := m.Trust.Objection(text); err != nil {
			errs = append(errs, fmt.Errorf("%s/%s is %w: %w", w.Package, w.Hash.Short(), ErrUntrusted, err))
		}
	}
	return errors.Join(errs...)
}

// remains returns the document of a withdrawn package, from its tombstone or as an interrupted undo restored
// it; empty if it is gone.
func (m Mirror) remains(ctx context.Context, w history.Withdrawal) ([]byte, error) {
	for _, name := range []string{tombstone.Name(m.Layout, w.Document), w.Document} {
		text, _, err := mirror.Read(ctx, m.Store, name, buildcache.MaxPointer+buildcache.MaxDocument)
		if errors.Is(err, mirror.ErrNotExist) {
			continue
		}
		if t, ok := tombstone.Parse(text); ok && err == nil {
			text = []byte(t.Text)
		}
		return text, err
	}
	return nil, nil
}

// Undo restores withdrawn packages in every index that offered them. It changes nothing if any of them is not
// trusted. If content of a package is gone, its tombstone stays, so that no document refers to missing content,
// and the index keeps the package out until it is published.
func (m Mirror) Undo(ctx context.Context, packages []Withdrawn) (Result, error) {
	out := Result{Lost: make(map[spec.Hash]string), Needs: make(map[spec.Hash][]string)}
	if err := notice.Refuse(ctx, m.Store); err != nil { // it may be about to delete what comes back
		return out, err
	}
	if err := m.Judge(ctx, packages); err != nil {
		return out, err
	}
	var whole []*buildcache.Package
	var gone []spec.Hash
	for _, w := range packages {
		if _, ok := m.Layout.ParsePackageName(w.Document); !ok {
			return out, fmt.Errorf("%s: %q is no name of its document: publish the package again under another hash", w.Package, w.Document)
		}
		why, err := m.incomplete(ctx, w.Withdrawal)
		if err != nil {
			return out, err
		}
		if why != "" {
			out.Lost[w.Hash], gone = why, append(gone, w.Hash)
			continue
		}
		restored, err := m.exhume(ctx, w.Withdrawal)
		if err != nil {
			return out, fmt.Errorf("restore %s: %w", w.Document, err)
		}
		if restored {
			out.Stale = append(out.Stale, w.Document)
		}
		found, finding, err := reindex.ReadPackage(ctx, m.Layout, m.Store, m.Trust, w.Document)
		switch {
		case err != nil:
			return out, err
		case found == nil:
			out.Lost[w.Hash] = finding
		default:
			whole = append(whole, found)
		}
	}
	r, err := reindex.Edit(ctx, m.Layout, m.Store, func(ctx context.Context, was *buildcache.Pointer, x *indices.Set) error {
		if err := notice.Refuse(ctx, m.Store); err != nil { // one may have begun since
			return err
		}
		missing, err := reindex.Missing(ctx, m.Layout, m.Store, was, whole)
		if err != nil {
			return err
		}
		for _, w := range packages {
			if _, ok := was.Withdrawn[w.Hash]; !ok {
				continue
			}
			was.Past = was.Restoring(w.Hash)
			if was.IsWithheld(w.Hash) { // a rollback took it out, before or since
				out.Lost[w.Hash] = was.WhyKeptOut(w.Hash)
				continue
			}
			if slices.Contains(gone, w.Hash) {
				was.Past = was.Withholding(w.Hash)
			}
			i := slices.IndexFunc(whole, func(p *buildcache.Package) bool { return p.Hash == w.Hash })
			switch {
			case i < 0:
			case len(missing[whole[i]]) > 0:
				out.Lost[w.Hash] = missing[whole[i]][0].Name + " is gone"
				was.Past = was.Withholding(w.Hash)
			default:
				x.Add(whole[i].Spec)
			}
		}
		return nil
	})
	out.note(m.Layout, r)
	if err == nil {
		for _, p := range whole {
			out.Needs[p.Hash] = r.Pointer.WithdrawnNeeds(p.Spec)
		}
		err = m.alignViews(ctx, &out, make(map[string]mirror.Version))
	}
	return out, err
}

// incomplete says which content of a withdrawn package is gone; empty: none.
func (m Mirror) incomplete(ctx context.Context, w history.Withdrawal) (string, error) {
	text, err := m.remains(ctx, w)
	if err != nil || text == nil {
		return "its document is gone", err
	}
	p, err := m.Layout.ParseDocument(w.Document, text, spec.NewReader(buildcache.MaxHeld))
	if err != nil {
		return err.Error(), nil
	}
	missing, err := reindex.Missing(ctx, m.Layout, m.Store, buildcache.NewPointer(m.Layout), []*buildcache.Package{p})
	for _, o := range missing[p] {
		if o.Name != p.File { // a separate tombstone means that the document is gone
			return o.Name + " is gone", err
		}
	}
	return "", err
}

// exhume restores the document that a tombstone has replaced. It reports whether that was necessary.
func (m Mirror) exhume(ctx context.Context, w history.Withdrawal) (bool, error) {
	name := tombstone.Name(m.Layout, w.Document)
	text, info, err := mirror.Read(ctx, m.Store, name, buildcache.MaxPointer+buildcache.MaxDocument)
	if errors.Is(err, mirror.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	t, ok := tombstone.Parse(text)
	if !ok || t.Document != w.Document {
		return false, nil // it is the document itself
	}
	p, err := m.Layout.ParseDocument(w.Document, []byte(t.Text), spec.NewReader(buildcache.MaxHeld))
	if err != nil {
		return false, err
	}
	u := buildcache.DocumentOf(p).Upload()
	if name != w.Document {
		if err = m.Store.Create(ctx, u); errors.Is(err, mirror.ErrExist) {
			return false, nil // another publisher has stored it again
		}
		return err == nil, err
	}
	if _, err = m.Store.Swap(ctx, u, info.Version); errors.Is(err, mirror.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}
