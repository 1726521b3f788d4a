package publish

import (
	"context"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// Rebuilt is what came of making an index anew.
type Rebuilt struct {
	Layout  string   `json:"layout"`
	Before  int      `json:"before"` // packages offered
	After   int      `json:"after"`
	Changed bool     `json:"changed"`
	Digest  string   `json:"digest"`
	Stale   []string `json:"stale"` // fixed names whose content is other than before
}

// Rebuild makes the index and the key index of a mirror anew, of everything that is
// there, for each layout that is there. A document that cannot be read, or is not
// to be trusted, fails it with a FindingsError; the index is then as it was.
func Rebuild(ctx context.Context, s Store, trust Trust) ([]Rebuilt, error) {
	var all []Rebuilt
	for _, f := range []format{v3{}, v2{}} {
		r, err := rebuildLayout(ctx, f, s, trust)
		if err != nil {
			return all, fmt.Errorf("%s index: %w", f.layout(), err)
		}
		if r != nil {
			all = append(all, *r)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: there is no mirror at the destination", ErrSource)
	}
	return all, nil
}

func rebuildLayout(ctx context.Context, f format, s Store, trust Trust) (*Rebuilt, error) {
	p, err := f.readPointer(ctx, s)
	if err != nil {
		return nil, err
	}
	seen, err := lookAll(ctx, f, s, p)
	if err != nil {
		return nil, err
	}
	if len(seen.packages(f)) == 0 && len(seen.objects) == 0 {
		return nil, nil
	}
	out := &Rebuilt{Layout: f.layout()}
	if keys := seen.keys(f); len(keys) > 0 {
		if err := out.keys(ctx, f, s, keys); err != nil {
			return nil, err
		}
	}
	ix := IndexPlan{Mode: IndexRebuild}
	r := &rebuilder{format: f, store: s, trust: trust}
	if err := r.rebuild(ctx, &ix); err != nil {
		return nil, err
	}
	out.Before, out.After, out.Changed, out.Digest = ix.Before, ix.After, ix.Changes, ix.was.Digest.String()
	if ix.Changes {
		out.Stale = append(out.Stale, f.indexWrites()...)
	}
	return out, nil
}

func (r *Rebuilt) keys(ctx context.Context, f format, s Store, keys []key.Fingerprint) error {
	have, _, err := f.readKeyIndex(ctx, s)
	if err != nil || len(union(have, keys)) == len(have) {
		return err
	}
	if err := addKeys(ctx, f, s, keys); err != nil {
		return fmt.Errorf("key index: %w", err)
	}
	name, _, err := f.keyIndex(keys)
	r.Stale = append(r.Stale, name)
	return err
}
