package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

const (
	firstTelling   = 5 * time.Second
	longestTelling = 5 * time.Minute
)

// tell meets what is owed to caches, until ctx ends. All that is owed of a mirror is met
// together. It is never given up. The worker of a mirror that was removed ends when nothing is owed.
func (k *worker) tell(ctx context.Context) error {
	for ctx.Err() == nil {
		owed, err := k.d.o.Queue.Owed(ctx, k.m.Key())
		if err != nil {
			k.trouble(ctx, "looking for what is owed", err)
			continue
		}
		if len(owed) == 0 {
			if k.removed && !k.owes(ctx) {
				return nil
			}
			waitOr(ctx, k.nextTelling(ctx), k.toTell)
			continue
		}
		if err := k.meet(ctx, owed); err != nil {
			k.trouble(ctx, "keeping what was told to caches", err)
		}
	}
	return ctx.Err()
}

// owes reports whether anything is owed, now or later; an error is no reason to stop.
func (k *worker) owes(ctx context.Context) bool {
	all, err := k.d.o.Queue.Obligations(ctx)
	return err != nil || slices.ContainsFunc(all, func(o queue.Obligation) bool { return o.Mirror == k.m.Key() })
}

func (k *worker) nextTelling(ctx context.Context) time.Duration {
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

// meet tells caches, and puts down that they were told.
func (k *worker) meet(ctx context.Context, owed []queue.Obligation) error {
	var ids []int64
	var contents [][]byte
	tries := 0
	for _, o := range owed {
		ids = append(ids, o.ID)
		contents = append(contents, o.Content)
		tries = max(tries, o.Tries)
	}
	rctx, cancel := k.d.graced(ctx)
	defer cancel()
	done := k.d.underWay()
	err := k.m.Work.Tell(rctx, contents)
	done()
	k.d.progress()
	if rctx.Err() != nil {
		return nil // they are due still
	}
	keep := context.WithoutCancel(ctx)
	if err == nil {
		k.d.counts.told(k.m.Name)
		if err := k.d.o.Queue.Meet(keep, ids...); err != nil {
			return err
		}
		k.d.events.Send(event.Event{Kind: "caches", Mirror: k.m.Name, State: "told", Obligations: ids})
		return nil
	}
	pause := backoff(firstTelling, longestTelling, tries+1)
	k.d.o.Log.Warn("caches may serve an old index", "mirror", k.m.Name, "since", owed[0].Since.Format(time.RFC3339), "again in", pause.Round(time.Second).String(), "reason", err.Error())
	k.d.counts.tellFailures.Add(1)
	if err := k.d.o.Queue.Defer(keep, time.Now().Add(pause), err.Error(), ids...); err != nil {
		return err
	}
	k.d.events.Send(event.Event{Kind: "caches", Mirror: k.m.Name, State: "failed", Obligations: ids, Reason: err.Error()})
	return nil
}
