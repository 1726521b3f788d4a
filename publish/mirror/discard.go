package mirror

import (
	"context"
	"errors"
)

// DiscardUploads discards the unfinished uploads of names that start with a prefix. Without the permission to list
// or discard uploads it does nothing and returns no error: the bucket's lifecycle rule removes them.
func DiscardUploads(ctx context.Context, s Sweeper, prefix string, names map[string]bool) error {
	for l, err := range s.Leftovers(ctx, prefix) {
		if errors.Is(err, ErrDenied) {
			return nil
		}
		if err != nil {
			return err
		}
		if names[l.Name] {
			if err := s.Discard(ctx, l); err != nil && !errors.Is(err, ErrDenied) {
				return err
			}
		}
	}
	return nil
}
