package elsewhere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// A NotInViewError means that a view lacks packages that its mirror offers.
type NotInViewError struct {
	View, Query string
	Packages    []string // that the mirror offers
}

func (e *NotInViewError) Error() string {
	return fmt.Sprintf("nothing in the view %s matches %q, only outside of it: %s", e.View, e.Query, alike.Few(e.Packages))
}

// outside returns the error for a query that matches nothing in a view of mirrors.
func outside(ctx context.Context, from []mirror.Reader, view string, q *query.Query) error {
	var all []*indices.Set
	for _, m := range from {
		for _, l := range buildcache.Layouts() {
			x, err := readIndex(ctx, l, m, false)
			if denied := new(deniedError); err != nil && !errors.As(err, &denied) {
				return err
			}
			if x != nil {
				all = append(all, x)
			}
		}
	}
	c := closure.Of(all...)
	found, err := c.Matching(q)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return c.Unmatched(q)
	}
	return &NotInViewError{view, q.String(), c.Names(found)}
}
