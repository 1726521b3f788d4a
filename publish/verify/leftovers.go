package verify

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A leftoverLister is the half of a mirror.Sweeper that discards nothing.
type leftoverLister interface {
	Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error]
}

// leftovers reports unfinished uploads. They are no damage: a publisher may be at it, and
// the next one goes on where it stopped.
func (v *verifier) leftovers(ctx context.Context, s leftoverLister) {
	for l, err := range s.Leftovers(ctx, "") {
		if err != nil {
			v.report(buildcache.Warning, "", "unfinished uploads were not looked for: %v", err)
			return
		}
		if slices.ContainsFunc(buildcache.Layouts(), func(f buildcache.Layout) bool { return f.Owns(l.Name) }) {
			age := time.Since(l.Started).Truncate(time.Minute)
			v.report(buildcache.Warning, l.Name, "an upload of it, begun at %s (%s ago), is not finished", l.Started.UTC().Format(time.RFC3339), age)
		}
	}
}
