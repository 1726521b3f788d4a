package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

const (
	firstInvalidation   = 5 * time.Second
	longestInvalidation = 5 * time.Minute
)

// invalidate carries out obligations until ctx ends. All obligations of a mirror that are due are carried out
// together, and retried until they succeed. The worker of a removed mirror ends with its last obligation.
func (k *worker) invalidate(ctx context.Context) error {
	for ctx.Err() == nil {
		due, err := k.d.o.Queue.DueObligations(ctx, k.m.Key())
		if err != nil {
			k.trouble(ctx, "looking for obligations", err)
			continue
		}
		if len(due) == 0 {
			if k.removed && !k.hasObligations(ctx) {
				return nil
			}
			waitOr(ctx, k.nextInvalidation(ctx), k.toInvalidate)
			continue
		}
		if err := k.meet(ctx, due); err != nil {
			k.trouble(ctx, "recording an invalidation", err)
		}
	}
	return ctx.Err()
}

// hasObligations reports whether the mirror has obligations, due now or later. After an error it returns true, so
// that the worker does not stop.
func (k *worker) hasObligations(ctx context.Context) bool {
	all, err := k.d.o.Queue.Obligations(ctx)
	return err != nil || slices.ContainsFunc(all, func(o queue.Obligation) bool { return o.Mirror == k.m.Key() })
}

func (k *worker) nextInvalidation(ctx context.Context) time.Duration {
	pause := k.m.Scan
	all, err := k.d.o.Queue.Obligations(ctx)
	if err != nil {
		return pause
	}
	for _, o := range all {
		if o.Mirror == k.m.Key() && o.State == queue.Due {
			pause = min(pause, max(time.Until(o.NextAt), time.Millisecond))
		}
	}
	return pause
}

// meet invalidates caches and records that.
func (k *worker) meet(ctx context.Context, due []queue.Obligation) error {
	var ids []int64
	var contents [][]byte
	tries := 0
	for _, o := range due {
		ids = append(ids, o.ID)
		contents = append(contents, o.Content)
		tries = max(tries, o.Tries)
	}
	rctx, cancel := k.d.graced(ctx)
	defer cancel()
	done := k.d.underWay()
	err := k.m.Work.Invalidate(rctx, contents)
	done()
	k.d.progress()
	if rctx.Err() != nil {
		return nil // still due
	}
	keep := context.WithoutCancel(ctx)
	if err == nil {
		k.d.counts.invalidated(k.m.Name)
		if err := k.d.o.Queue.Meet(keep, ids...); err != nil {
			return err
		}
		k.d.events.Send(event.Event{Kind: "caches", Mirror: k.m.Name, State: "invalidated", Obligations: ids})
		return nil
	}
	pause := backoff(firstInvalidation, longestInvalidation, tries+1)
	k.d.o.Log.Warn("caches may serve an old index", "mirror", k.m.Name, "since", due[0].Since.Format(time.RFC3339), "again in", pause.Round(time.Second).String(), "reason", err.Error())
	k.d.counts.invalidationFailures.Add(1)
	if err := k.d.o.Queue.Defer(keep, time.Now().Add(pause), err.Error(), ids...); err != nil {
		return err
	}
	k.d.events.Send(event.Event{Kind: "caches", Mirror: k.m.Name, State: "failed", Obligations: ids, Reason: err.Error()})
	return nil
}
