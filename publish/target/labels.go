package target

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A labelled store sets another Cache-Control on objects.
type labelled struct {
	Store
	caching Caching
}

// Unwrap returns the underlying store: see mirror.ProverOf.
func (l labelled) Unwrap() any { return l.Store }

// Create implements mirror.Writer.
func (l labelled) Create(ctx context.Context, u mirror.Upload) error {
	return l.Store.Create(ctx, l.caching.label(u))
}

// Swap implements mirror.Swapper.
func (l labelled) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	return l.Store.Swap(ctx, l.caching.label(u), was)
}

func (c Caching) label(u mirror.Upload) mirror.Upload {
	switch {
	case u.CacheControl == layout.Immutable && c.Immutable != "":
		u.CacheControl = c.Immutable
	case u.CacheControl == layout.Revalidate && c.Mutable != "":
		u.CacheControl = c.Mutable
	}
	return u
}
