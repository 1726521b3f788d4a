package events_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/events/eventstest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// hosted runs a host while do looks at it.
func hosted(t *testing.T, c events.Config, do func(h *events.Host)) *events.Host {
	t.Helper()
	c.Bucket, c.Address = bucket, "sqs://queue"
	h := events.New(c)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	do(h)
	cancel()
	running.Wait()
	return h
}

// storedAt is a notification of something that was stored then.
func storedAt(name string, at time.Time) string {
	return strings.Replace(stored(name), "2026-11-20T10:00:00.000Z", at.UTC().Format("2006-01-02T15:04:05.000Z"), 1)
}

// A host tells what came of messages, what it has in hand and for how long that has been waiting, and
// how things are with each mirror.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		q.MaxDeliveries = 2
		bad := ""
		heal := func(_ context.Context, j events.Changes) (events.Result, error) {
			time.Sleep(5 * time.Second)
			o := events.Result{Indices: []events.IndexStatus{{Layout: "v3", Packages: len(j.Names), Bytes: 100, Written: true}}, Invalidated: true, Left: map[string]string{}}
			if bad != "" {
				o.Left[bad] = "its content is not there"
			}
			return o, nil
		}
		h := hosted(t, events.Config{Queue: q, Update: heal}, func(h *events.Host) {
			if err := h.Ready(); err == nil {
				t.Error("ready before the queue has answered")
			}
			synctest.Wait()
			if s := h.Status(); h.Ready() != nil || !s.Healthy || s.Queue.Answered == nil || len(s.Mirrors) != 0 || s.Queue.Deliveries != 2 || s.Queue.Address != "sqs://queue" {
				t.Errorf("idle: %v, %+v", h.Ready(), s)
			}
			began := time.Now()
			bad = strings.TrimPrefix(documentOf("noble", 7), "noble/")
			q.Send(storedAt(documentOf("noble", 1), began.Add(-time.Hour)))
			q.Send(storedAt("noble/"+bad, began.Add(-time.Minute)))
			q.Send("hello")
			time.Sleep(time.Second)
			s := h.Status()
			if len(s.Mirrors) != 1 || s.Mirrors[0].Name != "s3://cache/noble" || s.Mirrors[0].Waiting != 2 || s.Queue.Held != 2 || !s.Queue.Oldest.Equal(began.Add(-time.Hour)) {
				t.Errorf("waiting: %+v", s)
			}
			if len(s.Left) != 1 || s.Left[0].Object != "" || s.Left[0].Deliveries != 1 || !strings.Contains(s.Left[0].Reason, "not a notification") {
				t.Errorf("left: %+v", s.Left)
			}
			time.Sleep(4 * time.Second)
			if m := h.Status().Mirrors[0]; m.Waiting != 0 || m.Working == nil || m.Last != nil {
				t.Errorf("working: %+v", m)
			}
			time.Sleep(4 * time.Second)
			s = h.Status()
			m := s.Mirrors[0]
			if m.Working != nil || m.Last == nil || m.Last.Names != 2 || m.Last.Left != 1 || m.Last.Messages != 2 || m.Last.Seconds != 5 || m.Last.Lag != 3608 || m.Switched == nil || m.Invalidated == nil || m.Healed == nil {
				t.Errorf("done: %+v, %+v", m, m.Last)
			}
			if fmt.Sprint(m.Indices) != "[{v3 2 100 true}]" {
				t.Errorf("indices: %v", m.Indices)
			}
			if len(s.Left) != 2 || s.Left[0].Object != "s3://cache/noble/"+bad || s.Left[0].Reason != "its content is not there" || !s.Left[0].Again.Equal(s.Left[0].At.Add(30*time.Second)) || s.Queue.Again != 2 {
				t.Errorf("left: %+v", s.Left)
			}
			// Both are delivered once more, which is the last time for them.
			time.Sleep(time.Minute)
			s = h.Status()
			if len(s.Left) != 0 || len(s.Dead) != 2 || s.Dead[0].Again != nil || s.Dead[0].Deliveries != 2 {
				t.Errorf("left: %+v, dead: %+v", s.Left, s.Dead)
			}
			if want := (events.Messages{Received: 5, Handled: 1, Left: 2, Dead: 2}); s.Queue.Messages != want {
				t.Errorf("messages: %+v, want %+v", s.Queue.Messages, want)
			}
			time.Sleep(time.Minute)
			if dead := q.Dead(); len(dead) != 2 {
				t.Errorf("the queue says that %q are dead", dead)
			}
			c := h.Counted().Mirrors["s3://cache/noble"]
			buckets, count, sum := c.Latency.Buckets()
			if c.Updates != 2 || c.Switches != 2 || c.Invalidations != 2 || sum != 3608 || buckets[3600] != 0 || count != 1 {
				t.Errorf("counts: %+v", c)
			}
			// What is in hand when it stops is given back.
			q.Send(stored(documentOf("noble", 3)))
			synctest.Wait()
		})
		if s := h.Status(); !s.Stopping || s.Queue.Returned != 1 || !errors.Is(h.Ready(), events.ErrStopping) {
			t.Errorf("stopped: %+v, %v", s.Queue, h.Ready())
		}
	})
}

// Whoever owes it to caches to be told says so until it has happened, or until another host may have done it.
func TestOwedToCaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		var deaf atomic.Bool
		deaf.Store(true)
		heal := func(context.Context, events.Changes) (events.Result, error) {
			if deaf.Load() {
				return events.Result{Indices: []events.IndexStatus{{Layout: "v3", Packages: 1, Written: true}}, InvalidationFailed: true}, errors.New("published, but not invalidated")
			}
			return events.Result{Invalidated: true}, nil
		}
		g := &gate{Queue: q}
		hosted(t, events.Config{Queue: g, Update: heal, Class: func(error) string { return "invalidation" }}, func(h *events.Host) {
			q.Send(stored(documentOf("noble", 1)))
			time.Sleep(10 * time.Second)
			first := h.Status()
			if len(first.Obligations) != 1 || first.Obligations[0].Mirror != "s3://cache/noble" || first.Obligations[0].Tries != 1 || first.Mirrors[0].Switched == nil || first.Mirrors[0].Healed != nil || first.Mirrors[0].Last.Error == "" {
				t.Fatalf("owed: %+v", first)
			}
			time.Sleep(time.Minute)
			if s := h.Status(); len(s.Obligations) != 1 || s.Obligations[0].Tries != 2 || !s.Obligations[0].Since.Equal(first.Obligations[0].Since) {
				t.Errorf("owed: %+v", s.Obligations)
			}
			if c := h.Counted(); c.InvalidationFailures != 2 || c.Mirrors["s3://cache/noble"].Failures["invalidation"] != 2 {
				t.Errorf("counts: %+v", c)
			}
			deaf.Store(false)
			time.Sleep(5 * time.Minute)
			if s := h.Status(); len(s.Obligations) != 0 || len(s.Left) != 0 || s.Mirrors[0].Last.Error != "" {
				t.Errorf("still owed: %+v, left %+v", s.Obligations, s.Left)
			}
			// It fails again, and another host gets the message, and does it.
			deaf.Store(true)
			q.Send(stored(documentOf("noble", 2)))
			time.Sleep(10 * time.Second)
			g.closed.Store(true)
			time.Sleep(time.Minute)
			elsewhere, err := q.Receive(t.Context(), 0, time.Hour)
			if len(h.Status().Obligations) != 1 || err != nil || len(elsewhere) != 1 || q.Delete(t.Context(), []string{elsewhere[0].Receipt}) != nil {
				t.Fatalf("owed: %+v, elsewhere %v, %v", h.Status().Obligations, elsewhere, err)
			}
			time.Sleep(5 * time.Minute)
			if s := h.Status(); len(s.Obligations) != 0 || len(s.Left) != 0 {
				t.Errorf("owed by another: %+v, left %+v", s.Obligations, s.Left)
			}
		})
	})
}

// gate is a queue that hands out nothing to a host while it is closed.
type gate struct {
	*eventstest.Queue
	closed atomic.Bool
}

func (g *gate) Receive(ctx context.Context, wait, hidden time.Duration) ([]events.Message, error) {
	if g.closed.Load() {
		return nil, smithytime.SleepWithContext(ctx, wait)
	}
	return g.Queue.Receive(ctx, time.Second, hidden)
}

// A queue that cannot be asked is no reason to start the host anew, and is said. A question that never
// comes back is a reason, and a mirror at which nothing moves; but not one where something does.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		var away atomic.Bool
		q.Fault = func(call string) error {
			if call == "Receive" && away.Load() {
				return errors.New("no route to host")
			}
			return nil
		}
		stuck := make(chan struct{})
		heal := func(ctx context.Context, _ events.Changes) (events.Result, error) {
			select {
			case <-stuck:
			case <-ctx.Done():
			}
			return events.Result{}, ctx.Err()
		}
		hosted(t, events.Config{Queue: q, Update: heal}, func(h *events.Host) {
			time.Sleep(time.Hour)
			if h.Health() != nil || h.Ready() != nil {
				t.Errorf("idle: %v, %v", h.Health(), h.Ready())
			}
			away.Store(true)
			time.Sleep(time.Hour)
			if err := h.Ready(); h.Health() != nil || err == nil || !strings.Contains(err.Error(), "no route to host") || h.Status().Queue.Error == "" || h.Counted().QueueErrors == 0 {
				t.Errorf("away: %v, %v", h.Health(), err)
			}
			away.Store(false)
			q.Send(stored(documentOf("noble", 1)))
			time.Sleep(30 * time.Minute) // the longest pause between two questions is half of that
			if err := h.Health(); err == nil || !strings.Contains(err.Error(), "no progress") || h.Status().Healthy {
				t.Errorf("stuck: %v", err)
			}
			h.Progress()
			if err := h.Health(); err != nil {
				t.Errorf("moving: %v", err)
			}
			close(stuck)
			time.Sleep(time.Hour)
			if err := h.Health(); err != nil {
				t.Errorf("done: %v", err)
			}
		})
		silent := events.New(events.Config{Queue: &mute{Queue: q}, Bucket: bucket})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		time.AfterFunc(5*time.Minute, func() {
			if err := silent.Health(); err == nil || !strings.Contains(err.Error(), "has not answered") {
				t.Errorf("a question that never comes back: %v", err)
			}
		})
		if err := silent.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// mute is a queue that does not answer.
type mute struct{ events.Queue }

func (*mute) Receive(ctx context.Context, _, _ time.Duration) ([]events.Message, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Whoever may not ask how often a message is delivered counts no dead ones, and serves the queue.
func TestDeliveriesMayBeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		q.MaxDeliveries = 2
		var tries atomic.Int64
		q.Fault = func(call string) error {
			if call != "Deliveries" {
				return nil
			}
			if tries.Add(1) == 1 {
				return errors.New("the network is away")
			}
			return &mirror.DeniedError{Action: "sqs:GetQueueAttributes", Name: "queue"}
		}
		hosted(t, events.Config{Queue: q, Update: (&healer{}).heal}, func(h *events.Host) {
			q.Send("hello")
			time.Sleep(time.Hour)
			if s := h.Status(); s.Queue.Deliveries != 0 || s.Queue.Dead != 0 || s.Queue.Left != 2 || len(s.Left) != 0 || tries.Load() != 2 {
				t.Errorf("%d questions; %+v", tries.Load(), s)
			}
		})
	})
}

// However many mirrors and messages there are, what is remembered of them is bounded.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := eventstest.New(1)
		fails := func(context.Context, events.Changes) (events.Result, error) { return events.Result{}, errors.New("no") }
		hosted(t, events.Config{Queue: q, Update: fails}, func(h *events.Host) {
			for i := range 1200 {
				q.Send(stored(documentOf(fmt.Sprintf("m%04d", i), 1)))
			}
			time.Sleep(time.Minute)
			if s := h.Status(); len(s.Mirrors) != 1000 || len(s.Left) != 100 || s.Queue.Again < 1000 {
				t.Errorf("%d mirrors, %d of %d messages", len(s.Mirrors), len(s.Left), s.Queue.Again)
			}
		})
	})
}
