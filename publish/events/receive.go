package events

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// receive requests messages: by one long poll at a time while there are few, and by several requests at once while
// there are many. The first poll is short, to find out early whether the queue answers.
func (h *Host) receive(ctx context.Context) error {
	receivers, wait, pause := 1, time.Duration(0), time.Second
	for ctx.Err() == nil {
		if !h.hasRoom() {
			select {
			case <-ctx.Done():
			case <-h.room:
			}
			continue
		}
		full, err := h.receiveBy(ctx, receivers, wait)
		switch {
		case err == nil:
			pause = time.Second
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrNoQueue), refused(err) && !h.everAnswered():
			return err
		default: // includes expired credentials: new ones may come
			h.Log.Warn("the queue cannot be asked", "reason", err, "again in", pause)
			if err := smithytime.SleepWithContext(ctx, pause); err != nil {
				return nil
			}
			pause = min(2*pause, longestPause)
		}
		receivers, wait = 1, longPoll
		if full {
			receivers, wait = maxReceivers, 0 // no long polls while draining a backlog
		}
	}
	return nil
}

func refused(err error) bool {
	return errors.Is(err, mirror.ErrDenied) || errors.Is(err, mirror.ErrCredentials)
}

func (h *Host) everAnswered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ledger.queue.Answered != nil
}

func (h *Host) hasRoom() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held) < maxHeld
}

// receiveBy receives once and reports whether there are probably more messages.
func (h *Host) receiveBy(ctx context.Context, receivers int, wait time.Duration) (full bool, err error) {
	h.asking(time.Now())
	defer h.asking(time.Time{})
	counts := make([]int, receivers)
	var g defect.Group
	for i := range receivers {
		g.Go(func() error {
			messages, err := h.Queue.Receive(ctx, wait, h.Hidden)
			h.answered(ctx, err)
			counts[i] = len(messages)
			h.accept(ctx, messages)
			return err
		})
	}
	err = g.Wait()
	return slices.Max(counts) == aBatch, err
}

// asking records when a request to the queue began.
func (h *Host) asking(since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = since
}

// answered records an answer of the queue.
func (h *Host) answered(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // no request is in progress
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ledger.answered(time.Now(), err)
}

// learn requests from the queue how often it delivers a message. If that is forbidden, the host does not know which
// messages are dead.
func (h *Host) learn(ctx context.Context) error {
	for {
		n, err := h.Queue.Deliveries(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			h.mu.Lock()
			defer h.mu.Unlock()
			h.ledger.queue.Deliveries = n
			return nil
		case errors.Is(err, ErrNoQueue), refused(err):
			// The goroutine that receives messages finds out whether the error is final.
			h.Log.Info("which messages go to the dead-letter queue is not known", "reason", err)
			return nil
		}
		if smithytime.SleepWithContext(ctx, relearn) != nil {
			return nil
		}
	}
}

// accept holds the messages that concern a mirror, and settles the others at once.
func (h *Host) accept(ctx context.Context, messages []Message) {
	now := time.Now()
	var over []*held
	h.mu.Lock()
	h.ledger.queue.Received += int64(len(messages))
	for _, delivered := range messages {
		m := &held{Message: delivered}
		for _, at := range h.read(m) {
			m.parts++
			h.gather.add(now, at.mirror, at.name, m)
		}
		h.held[m] = true
		if m.parts == 0 {
			over = append(over, m)
		}
	}
	h.mu.Unlock()
	signal(h.changed)
	h.finish(ctx, over)
}

// A place is the name of an object in a mirror.
type place struct{ mirror, name string }

// read returns the places that a message names in this host's mirrors. Messages that concern no index are settled;
// messages about other places are left in the queue.
func (h *Host) read(m *held) []place {
	objects, err := Stored(m.Body)
	if err != nil {
		m.left, m.strange = err.Error(), true
	}
	var places []place
	for _, o := range objects {
		full := harmless("s3://" + o.Bucket + "/" + o.Name)
		if m.object == "" {
			m.object = full
		}
		if m.at.IsZero() || !o.At.IsZero() && o.At.Before(m.at) {
			m.at = o.At
		}
		name, ok := below(h.Prefix, o.Name)
		if o.Bucket != h.Bucket || !ok {
			m.strange = true
			m.left = full + " is not in " + h.place("")
			continue
		}
		if mirror, name, ok := layout.Split(name); ok {
			places = append(places, place{mirror, name})
		}
	}
	if m.at.IsZero() {
		m.at = m.Sent
	}
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.mirror+"/"+a.name, b.mirror+"/"+b.name) })
	return slices.Compact(places)
}

func below(prefix, name string) (string, bool) {
	if prefix == "" {
		return name, true
	}
	return strings.CutPrefix(name, prefix+"/")
}
