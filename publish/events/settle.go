package events

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	smithytime "github.com/aws/smithy-go/time"
)

// keep hides held messages again, long before they would be delivered to other hosts.
func (h *Host) keep(ctx context.Context) error {
	for smithytime.SleepWithContext(ctx, h.Hidden/3) == nil {
		h.mu.Lock()
		all := slices.Collect(maps.Keys(h.held))
		h.mu.Unlock()
		for some := range slices.Chunk(all, batches*aBatch) {
			if err := h.beat(ctx, some); err != nil && ctx.Err() == nil {
				h.Log.Warn("messages may be delivered to others, too, while they are worked on", "reason", err)
			}
		}
	}
	return nil
}

// beat hides those of the messages again that are still held.
func (h *Host) beat(ctx context.Context, some []*held) error {
	h.beats <- struct{}{}
	defer func() { <-h.beats }()
	h.mu.Lock()
	some = slices.DeleteFunc(slices.Clone(some), func(m *held) bool { return !h.held[m] })
	h.mu.Unlock()
	if len(some) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.Hidden/3)
	defer cancel()
	return h.Queue.Hide(ctx, receipts(some), h.Hidden)
}

// afterBeats waits until no request is in progress that would hide these messages for a shorter time than the next
// one. The messages are no longer held, so no later request includes them.
func (h *Host) afterBeats() {
	h.beats <- struct{}{}
	<-h.beats
}

// finish deletes messages, or leaves them in the queue for later.
func (h *Host) finish(ctx context.Context, over []*held) {
	var done []*held
	later := make(map[time.Duration][]*held)
	h.mu.Lock()
	now := time.Now()
	for _, m := range over {
		delete(h.held, m)
		if m.left == "" {
			h.ledger.handled(m)
			done = append(done, m)
			continue
		}
		p := m.pause()
		later[p] = append(later[p], m)
		level := slog.LevelInfo // the content of a package often arrives a little later
		if m.Deliveries > 1 || m.strange {
			level = slog.LevelWarn
		}
		if h.ledger.leave(m, now, now.Add(p), now.Add(p+h.Hidden)) {
			h.Log.Error("a message is dead", "message", m.ID, "object", m.object, "deliveries", m.Deliveries, "reason", m.left)
			continue
		}
		h.Log.Log(ctx, level, "a message is left in the queue", "message", m.ID, "object", m.object, "deliveries", m.Deliveries, "again in", p, "reason", m.left)
	}
	h.mu.Unlock()
	signal(h.room)
	// A failure is harmless: the message is delivered again and then finds everything in order.
	if err := h.Queue.Delete(ctx, receipts(done)); err != nil && ctx.Err() == nil {
		h.Log.Warn("messages could not be deleted and will come again", "reason", err)
	}
	if len(later) > 0 {
		h.afterBeats()
	}
	for p, messages := range later {
		if err := h.Queue.Hide(ctx, receipts(messages), p); err != nil && ctx.Err() == nil {
			h.Log.Warn("messages may come again too early", "reason", err)
		}
	}
}

// giveBack returns held messages to the queue. A stopping host has little time. If this fails, other hosts receive
// the messages a little later.
func (h *Host) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	h.mu.Lock()
	all := receipts(slices.Collect(maps.Keys(h.held)))
	h.ledger.queue.Returned += int64(len(all))
	h.mu.Unlock()
	if err := h.Queue.Hide(ctx, all, 0); err != nil {
		h.Log.Warn("messages could not be given back and will come again later", "reason", err)
	}
}

func receipts(messages []*held) []string {
	all := make([]string, len(messages))
	for i, m := range messages {
		all[i] = m.Receipt
	}
	return all
}
