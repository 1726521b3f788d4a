package elsewhere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"
)

// ErrNoIndex means that a location holds no mirror, or a mirror without an index.
var ErrNoIndex = fmt.Errorf("%w: there is no index of a Spack mirror", source.ErrNothing)

// noIndex returns ErrNoIndex with the names of mirrors below the locations.
func noIndex(ctx context.Context, from []mirror.Reader) error {
	var below []string
	for _, r := range from {
		if l, ok := r.(mirror.Lister); ok {
			found, err := roots.Find(ctx, l)
			if err != nil {
				return errors.Join(ErrNoIndex, blame(r, err))
			}
			below = append(below, slices.DeleteFunc(found, func(path string) bool { return path == "" })...)
		}
	}
	if len(below) == 0 {
		return ErrNoIndex
	}
	return fmt.Errorf("%w, but of mirrors below it: %s", ErrNoIndex, alike.Few(below))
}

// blame marks an error as one of a mirror that is read.
func blame(m mirror.Reader, err error) error {
	if err == nil {
		return nil
	}
	return &transfer.ReadError{From: m, Err: err}
}

// A deniedError is that the pointer of an index may not be read. A store that may not be listed denies what is
// not there, so it counts only if the mirror has no index of another layout either.
type deniedError struct{ error }

func (e *deniedError) Unwrap() error { return e.error }

// readIndex reads an index of a mirror; nil: there is none. With check, Spack must be able to read each
// record. The error may be a *deniedError.
func readIndex(ctx context.Context, l buildcache.Layout, m mirror.Reader, check bool) (*indices.Set, error) {
	p, err := l.ReadPointer(ctx, m)
	if errors.Is(err, mirror.ErrDenied) {
		return nil, &deniedError{blame(m, err)}
	}
	if err != nil || p.Version == mirror.Absent {
		return nil, blame(m, err)
	}
	p.Checked = p.Checked || !check
	x, err := buildcache.ReadChecked(ctx, l, m, p)
	return x, blame(m, inventory.Damage(l, err))
}

// Offered returns the packages that the indices of mirrors offer.
func Offered(ctx context.Context, mirrors ...mirror.Reader) (map[spec.Hash]bool, error) {
	offered := make(map[spec.Hash]bool)
	for _, m := range mirrors {
		there := false
		var denied error
		for _, l := range buildcache.Layouts() {
			x, err := readIndex(ctx, l, m, false)
			switch hidden := new(deniedError); {
			case errors.As(err, &hidden):
				denied = cmp.Or(denied, err)
				continue
			case err != nil:
				return nil, err
			case x == nil:
				continue
			}
			there = true
			for r := range x.Records() {
				if r.InBuildcache {
					offered[r.Hash] = true
				}
			}
		}
		switch {
		case there:
		case denied != nil:
			return nil, denied
		default:
			return nil, noIndex(ctx, []mirror.Reader{m})
		}
	}
	return offered, nil
}
