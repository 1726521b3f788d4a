// Package eventstest provides a queue in memory. It does everything that a queue may do: it delivers out of order,
// twice, and again if a message was not deleted in time.
package eventstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/events"
)

// A Queue is an events.Queue. It takes the time from package time, so it works in a
// bubble of package synctest.
type Queue struct {
	// Twice is the probability that a message is delivered to two at once.
	Twice float64
	// MaxDeliveries is how often a message is delivered before it is dead. 0: for ever.
	MaxDeliveries int
	// Fault is called before each call with the name of the method. Its error is the result of the call.
	Fault func(call string) error
	// Deleting receives each message that is deleted.
	Deleting func(body string)

	mu       sync.Mutex // guards what follows
	messages []*message
	dead     []string
	changed  chan struct{} // closed when a message may have become visible
	receipts int
	receives int
	seed     *rand.Rand
}

type message struct {
	id         int
	body       string
	sent       time.Time
	visible    time.Time
	deliveries int
	receipt    string // of the last delivery
}

// New returns an empty queue, whose whims follow from seed.
func New(seed uint64) *Queue {
	return &Queue{changed: make(chan struct{}), seed: rand.New(rand.NewPCG(seed, 0))}
}

// Send puts a message into the queue.
func (q *Queue) Send(body string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = append(q.messages, &message{id: q.receipts, body: body, sent: time.Now(), visible: time.Now()})
	q.receipts++
	q.wake()
}

func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Left are the messages that were neither deleted nor died, and how often each was delivered.
func (q *Queue) Left() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := make(map[string]int)
	for _, m := range q.messages {
		left[m.body] += m.deliveries
	}
	return left
}

// Visible is how many messages would be delivered now.
func (q *Queue) Visible() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, m := range q.messages {
		if !m.visible.After(time.Now()) {
			n++
		}
	}
	return n
}

// Dead are the messages that were delivered too often.
func (q *Queue) Dead() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.dead)
}

// Receives is how often messages were requested.
func (q *Queue) Receives() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.receives
}

func (q *Queue) fault(call string) error {
	if q.Fault == nil {
		return nil
	}
	return q.Fault(call)
}

// Receive implements events.Queue.
func (q *Queue) Receive(ctx context.Context, wait, hidden time.Duration) ([]events.Message, error) {
	if err := q.fault("Receive"); err != nil {
		return nil, err
	}
	q.mu.Lock()
	q.receives++
	q.mu.Unlock()
	for until := time.Now().Add(wait); ; {
		got, changed, next := q.deliver(hidden)
		left := time.Until(until)
		if len(got) > 0 || left <= 0 {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-time.After(min(left, next)):
		}
	}
}

// deliver returns at most ten messages, what is closed when there may be more, and when one that
// is hidden will not be any more.
func (q *Queue) deliver(hidden time.Duration) (got []events.Message, changed chan struct{}, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	next = time.Hour
	q.seed.Shuffle(len(q.messages), func(i, j int) { q.messages[i], q.messages[j] = q.messages[j], q.messages[i] })
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool {
		if m.visible.After(now) {
			next = min(next, m.visible.Sub(now))
			return false
		}
		if len(got) == 10 {
			return false
		}
		if q.MaxDeliveries > 0 && m.deliveries >= q.MaxDeliveries {
			q.dead = append(q.dead, m.body)
			return true
		}
		m.deliveries++
		q.receipts++
		m.receipt = fmt.Sprint("receipt-", q.receipts)
		if q.seed.Float64() >= q.Twice {
			m.visible = now.Add(hidden)
		}
		got = append(got, events.Message{ID: fmt.Sprint(m.id), Receipt: m.receipt, Body: []byte(m.body), Deliveries: m.deliveries, Sent: m.sent})
		return false
	})
	return got, q.changed, next
}

// Deliveries implements events.Queue.
func (q *Queue) Deliveries(context.Context) (int, error) {
	return q.MaxDeliveries, q.fault("Deliveries")
}

// Hide implements events.Queue.
func (q *Queue) Hide(_ context.Context, receipts []string, hidden time.Duration) error {
	if err := q.fault("Hide"); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if slices.Contains(receipts, m.receipt) {
			m.visible = time.Now().Add(hidden)
		}
	}
	q.wake()
	return nil
}

// Delete implements events.Queue. As in SQS, it needs the receipt of the last delivery.
func (q *Queue) Delete(_ context.Context, receipts []string) error {
	if err := q.fault("Delete"); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool {
		gone := slices.Contains(receipts, m.receipt)
		if gone && q.Deleting != nil {
			q.Deleting(m.body)
		}
		return gone
	})
	return nil
}
