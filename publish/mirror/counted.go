package mirror

import "context"

// Counted returns a store that calls stored after it has stored an object.
func Counted(s Store, stored func(Upload)) Store { return counted{s, stored} }

type counted struct {
	Store
	stored func(Upload)
}

// Unwrap returns the underlying store: see ProverOf.
func (c counted) Unwrap() any { return c.Store }

// Create implements Writer.
func (c counted) Create(ctx context.Context, u Upload) error {
	err := c.Store.Create(ctx, u)
	if err == nil {
		c.stored(u)
	}
	return err
}

// Swap implements Swapper.
func (c counted) Swap(ctx context.Context, u Upload, was Version) (Version, error) {
	now, err := c.Store.Swap(ctx, u, was)
	if err == nil {
		c.stored(u)
	}
	return now, err
}
