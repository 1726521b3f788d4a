package mirror

import "context"

// Counted is a store that calls stored after each object that was stored.
func Counted(s Store, stored func(Upload)) Store { return counted{s, stored} }

type counted struct {
	Store
	stored func(Upload)
}

// Unwrap returns the store that is counted: see ProverOf.
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
