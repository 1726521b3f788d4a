package mirror

import (
	"context"
	"errors"
)

// DiscardUploads discards the unfinished uploads of names below a prefix. Credentials that may not list or discard uploads leave them
// to the lifecycle rule of the bucket, which is no error.
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
