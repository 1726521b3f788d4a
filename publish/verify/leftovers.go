package verify

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A leftoverLister lists unfinished uploads, and discards none.
type leftoverLister interface {
	Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error]
}

// leftovers reports unfinished uploads. They are not damage: a publisher may be uploading, and the next one
// continues.
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
