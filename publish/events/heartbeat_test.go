package events_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/events/eventstest"
)

// A lateQueue carries out a heartbeat some time after it was sent.
type lateQueue struct {
	events.Queue
	heartbeat, late time.Duration
}

func (q lateQueue) Hide(ctx context.Context, receipts []string, hidden time.Duration) error {
	if hidden == q.heartbeat {
		time.Sleep(q.late)
	}
	return q.Queue.Hide(ctx, receipts, hidden)
}

// A message that is left for 30 s stays hidden for 30 s, also if a heartbeat that was sent before is
// carried out after.
func TestALateHeartbeatShortensNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hidden, pause = 15 * time.Second, 30 * time.Second
		q := eventstest.New(1)
		q.Send(stored(documentOf("m", 1)))
		var healed []time.Time
		heal := func(_ context.Context, j events.Changes) (events.Result, error) {
			time.Sleep(5 * time.Second) // to the middle of the first heartbeat
			healed = append(healed, time.Now())
			return events.Result{Left: map[string]string{j.Names[0]: "its content is not there yet"}}, nil
		}
		serve(t, events.Config{
			Queue: lateQueue{q, hidden, 2 * time.Second}, Bucket: bucket, Update: heal, Settle: time.Second, Hidden: hidden,
		}, time.Minute)
		if len(healed) != 2 {
			t.Fatalf("healed %d times in a minute, want 2", len(healed))
		}
		if between := healed[1].Sub(healed[0]); between < pause {
			t.Errorf("looked at again after %v, want at least %v", between, pause)
		}
	})
}
