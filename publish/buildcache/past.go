package buildcache

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Recall fills in the place and the past of an index from the history if the pointer lacks them: those of the
// generation after the newest record. If several records may be the newest, every package that any of them
// keeps out is kept out.
func (p *Pointer) Recall(ctx context.Context, f Layout, r mirror.Reader, l mirror.Lister) error {
	if p.Generation > 0 || p.Recalled {
		return nil
	}
	records, newest, err := history.Latest(ctx, r, l, f.IndexID(), p.Digest())
	if err != nil && !errors.Is(err, mirror.ErrDenied) {
		return fmt.Errorf("history: %w", err)
	}
	if p.Recalled = true; p.Version != mirror.Absent {
		p.Generation = 1
	}
	if newest > 0 {
		if now, err := mirror.Find(ctx, l, f.IndexNames()[0]); err != nil {
			return fmt.Errorf("history: %w", err)
		} else if now.Version == p.Version { // otherwise it was replaced, and an update based on it fails anyway
			p.Generation = newest + 1
		}
	}
	for _, last := range records {
		p.Past = p.Past.And(last.Past)
	}
	return nil
}

// prepare calls prepared. It clears the record's name in the pointer if the record was not stored.
func (p *Pointer) prepare(prepared Prepared) error {
	if prepared == nil {
		p.Record = ""
		return nil
	}
	recorded, err := prepared(p)
	if !recorded {
		p.Record = ""
	}
	return err
}

// Parent returns how a record refers to the index that the pointer names; nil if the index has no generation.
func (p *Pointer) Parent() *history.Parent {
	if p.Generation == 0 {
		return nil
	}
	return &history.Parent{Generation: p.Generation, ID: p.Record, Digest: p.Digest()}
}

// Head returns where the history of the pointer's index begins.
func (p *Pointer) Head(f Layout) history.Head {
	return history.Head{Index: f.IndexID(), Place: p.Place, Digest: p.Digest()}
}

// Names reports whether the pointer names x, even if the index documents are missing. It is false in a layout
// that does not name content.
func (p *Pointer) Names(ctx context.Context, x *indices.Set) (bool, error) {
	if p.Manifest == nil {
		return false, nil
	}
	sources, err := x.Contents(ctx, p.salt(p))
	if err != nil {
		return false, err
	}
	for i, content := range sources {
		var ref IndexRef
		if content != nil {
			if ref.Digest, err = blob.Sum(ctx, content); err != nil {
				return false, err
			}
			ref.Size = content.Size()
		}
		if ref != p.Refs[i] {
			return false, nil
		}
	}
	return true, nil
}

// next returns the place of the index that replaces this one. digest is that of the new indices.
func (p *Pointer) next(digest string) history.Place {
	n := p.Generation + 1
	return history.Place{Generation: n, Record: history.NewID(n, p.Parent(), digest)}
}

// WhyKeptOut returns why the index does not offer a package that the mirror holds; empty if it may be
// offered.
func (p *Pointer) WhyKeptOut(h spec.Hash) string {
	if w, ok := p.Withdrawn[h]; ok {
		return w.String()
	}
	if p.IsWithheld(h) {
		return "it was taken out of the index by a rollback, or when its withdrawal was undone after a prune, and stays out until it is published again"
	}
	return ""
}
