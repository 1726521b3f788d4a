package publish

import (
	"context"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

func (a *application) writeIndex(ctx context.Context, m *running) error {
	planned := m.Index
	if planned.Mode == IndexNone || !planned.Changes {
		return nil
	}
	a.progress.Step(m.Path, "index")
	var now reindex.Result
	var err error
	if planned.Mode == IndexRebuild {
		// Damage to other packages must not stop a publisher that only adds its own.
		now, err = reindex.RebuildIndex(ctx, m.format, a.counted(m.Path, m.store), a.rebuilding(m, m.lost))
		if err != nil {
			return fmt.Errorf("index: %w", err)
		}
		a.warn(m.Path, now.Findings)
	} else {
		now, err = m.merge.Write(ctx, m.format, a.counted(m.Path, m.store), a.resend(m))
		a.warn(m.Path, now.Findings)
		if reindex.NeedsRebuild(err) { // the plan has not read it
			a.warn(m.Path, []buildcache.Finding{buildcache.Warning.In(m.format.IndexNames()[0], fmt.Sprintf("%v: it is made anew", err))})
			now, err = reindex.RebuildIndex(ctx, m.format, a.counted(m.Path, m.store), a.rebuilding(m, true))
			a.warn(m.Path, now.Findings)
		}
		if err != nil {
			return err
		}
	}
	if !now.Written {
		now.Bytes = planned.Bytes
	}
	a.withdrawn(m, now.Pointer)
	m.out.Index.Changes, m.out.Index.Result = now.Written, now
	// If another publisher has already merged what this one has, nothing is written, but caches may have
	// what was there before.
	if now.Written || now.Version() != planned.Version() {
		a.stale(m.Path, m.format.IndexNames()...)
	}
	return nil
}

// rebuilding says what a rebuilt index gets: also what is published although a rollback has taken it out.
func (a *application) rebuilding(m *running, lenient bool) reindex.Rebuilding {
	published := make(map[spec.Hash]bool)
	for _, p := range m.out.Packages {
		published[p.Hash] = p.Status != Rejected
	}
	return reindex.Rebuilding{Trust: a.plan.options.Trust, Lenient: lenient, Release: func(h spec.Hash) bool { return published[h] }}
}

// withdrawn reports the packages that were withdrawn while they were published.
func (a *application) withdrawn(m *running, now *buildcache.Pointer) {
	if now == nil {
		return
	}
	var found []buildcache.Finding
	for i := range m.out.Packages {
		p := &m.out.Packages[i]
		w, ok := now.Withdrawn[p.Hash]
		if !ok || p.Status == Withdrawn {
			continue
		}
		p.Status, p.Reason = Withdrawn, w.Reason
		found = append(found, buildcache.Warning.In(p.SourceFile(), withdrawn(w)))
	}
	a.warn(m.Path, found)
}
