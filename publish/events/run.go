package events

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	smithytime "github.com/aws/smithy-go/time"
	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Message is one delivery of what a queue was sent.
type Message struct {
	ID         string
	Receipt    string // of this delivery
	Body       []byte
	Deliveries int // this one included; 0 where the queue does not say
}

// A Queue delivers each message at least once, in no order, until it is deleted. What was
// delivered is hidden for a while. Another queue gets what was delivered too often.
type Queue interface {
	// Receive returns messages as soon as there are any, or none after wait. They are hidden.
	Receive(ctx context.Context, wait, hidden time.Duration) ([]Message, error)
	// Hide hides messages for so long from now on. One that somebody else holds meanwhile, or
	// that is gone, is no error.
	Hide(ctx context.Context, receipts []string, hidden time.Duration) error
	// Delete takes messages from the queue.
	Delete(ctx context.Context, receipts []string) error
}

// ErrNoQueue: there is no queue of that name.
var ErrNoQueue = errors.New("no such queue")

// A Job is what was told of one mirror.
type Job struct {
	Mirror string   // its path below Config.Prefix; empty for that itself
	Names  []string // of objects that were stored in it, sorted
	// Again are those of Names that were told before. Whoever was told may have died at any
	// point of the job, such as before caches were.
	Again []string
}

// Done says what came of a job.
type Done struct {
	Job
	Messages int               // that told of it
	Left     map[string]string // names that must be told again, and why
	Took     time.Duration
	Err      error
}

// Config says what Run does.
type Config struct {
	Queue Queue
	// Bucket and Prefix are where the mirrors are. Messages about other places are left in
	// the queue, and so get to where somebody sees them.
	Bucket, Prefix string
	// Heal brings a mirror, and the caches in front of it, in line with what is there. It is
	// called for several mirrors at once, but not for one. left are names that are not in
	// order yet, and why; an error is about all of them. What is left, or failed, is told
	// again, after ever longer pauses.
	Heal func(ctx context.Context, j Job) (left map[string]string, err error)

	// Settle is how long nothing more is told of a mirror before Heal is called. Default 3 s.
	Settle time.Duration
	// Longest is how long that is waited for. Default 30 s.
	Longest time.Duration
	// Hidden is for how long a message is kept from other hosts. It is hidden anew while
	// it is worked on, and after a crash another host gets it when this time is over. Default 2 min.
	Hidden time.Duration
	// Mirrors is how many mirrors are healed at once. Default 4.
	Mirrors int
	// Log hears of what is left and of what fails. Nobody does if it is nil.
	Log *slog.Logger
	// Observe is told of each job, if it is set.
	Observe func(Done)
}

const (
	// longPoll is the longest that SQS waits. An idle host makes three requests a minute.
	longPoll = 20 * time.Second
	// maxReceivers is how many ask at once when messages are plenty.
	maxReceivers = 8
	// maxHeld is how many messages a host has in hand at once. SQS lets all hosts together
	// have 120,000.
	maxHeld = 5000
	// aBatch is how many messages SQS hands out at once: as many means that there are more.
	aBatch = 10
	// goodbye is how long giving messages back may take at the end.
	goodbye = 5 * time.Second
)

// Messages that are left come again after pauses that double between these. Those that nobody can do
// anything about come after the first one each time, and so soon are where somebody sees them.
const (
	firstPause   = 30 * time.Second
	longestPause = 15 * time.Minute
)

// pause is how long a message is hidden when it is left.
func (h *held) pause() time.Duration {
	if h.strange {
		return firstPause
	}
	return min(firstPause<<min(max(h.Deliveries-1, 0), 10), longestPause)
}

// Run serves a queue until its context ends, which is no error, or the queue cannot be asked any
// more. It returns when all that it started has stopped, and gives back to the queue what it
// has not finished.
func Run(ctx context.Context, c Config) error {
	r := newRun(c)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.receive(gctx) })
	g.Go(func() error { return r.keep(gctx) })
	g.Go(func() error { return r.work(gctx) })
	err := g.Wait()
	r.giveBack(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// A run is one host serving a queue.
type run struct {
	Config

	mu     sync.Mutex // guards what follows; never held during a request
	held   map[*held]bool
	gather *gathering

	told chan struct{} // something was added to gather, or a mirror is no longer busy
	room chan struct{} // held has become smaller
}

func newRun(c Config) *run {
	if c.Settle == 0 {
		c.Settle = 3 * time.Second
	}
	if c.Longest == 0 {
		c.Longest = 30 * time.Second
	}
	if c.Hidden == 0 {
		c.Hidden = 2 * time.Minute
	}
	if c.Mirrors == 0 {
		c.Mirrors = 4
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &run{
		Config: c, held: map[*held]bool{}, gather: newGathering(c.Settle, c.Longest),
		told: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// signal wakes whoever waits on c, now or when they come to.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// receive asks for messages, one long poll at a time while there are few, and several at
// once while there are many.
func (r *run) receive(ctx context.Context) error {
	receivers, pause := 1, time.Second
	for ctx.Err() == nil {
		if !r.hasRoom() {
			select {
			case <-ctx.Done():
			case <-r.room:
			}
			continue
		}
		full, err := r.receiveBy(ctx, receivers)
		switch {
		case err == nil:
			pause = time.Second
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrNoQueue), errors.Is(err, mirror.ErrDenied), errors.Is(err, mirror.ErrCredentials):
			return err
		default:
			r.Log.Warn("the queue cannot be asked", "reason", err, "again in", pause)
			if err := smithytime.SleepWithContext(ctx, pause); err != nil {
				return nil
			}
			pause = min(2*pause, longestPause)
		}
		receivers = 1
		if full {
			receivers = maxReceivers
		}
	}
	return nil
}

func (r *run) hasRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held) < maxHeld
}

// receiveBy reports whether there are probably more.
func (r *run) receiveBy(ctx context.Context, receivers int) (full bool, err error) {
	wait := longPoll
	if receivers > 1 {
		wait = 0 // nobody is to wait for who has got nothing
	}
	counts := make([]int, receivers)
	var g errgroup.Group
	for i := range receivers {
		g.Go(func() error {
			messages, err := r.Queue.Receive(ctx, wait, r.Hidden)
			counts[i] = len(messages)
			r.accept(ctx, messages)
			return err
		})
	}
	err = g.Wait()
	return slices.Max(counts) == aBatch, err
}

// accept holds messages that tell something, and settles the others at once.
func (r *run) accept(ctx context.Context, messages []Message) {
	now := time.Now()
	var over []*held
	r.mu.Lock()
	for _, m := range messages {
		h := &held{Message: m}
		for _, at := range r.read(h) {
			h.parts++
			r.gather.add(now, at.mirror, at.name, h)
		}
		r.held[h] = true
		if h.parts == 0 {
			over = append(over, h)
		}
	}
	r.mu.Unlock()
	signal(r.told)
	r.finish(ctx, over)
}

// A place is where an object is in a mirror.
type place struct{ mirror, name string }

// read returns what a message tells of our mirrors. Of the rest it is known that it changes no
// index, or the message is left.
func (r *run) read(h *held) []place {
	objects, err := Stored(h.Body)
	if err != nil {
		h.left, h.strange = err.Error(), true
	}
	var places []place
	for _, o := range objects {
		name, ok := below(r.Prefix, o.Name)
		if o.Bucket != r.Bucket || !ok {
			h.strange = true
			h.left = "s3://" + o.Bucket + "/" + o.Name + " is not in s3://" + strings.TrimSuffix(r.Bucket+"/"+r.Prefix, "/")
			continue
		}
		if mirror, name, ok := layout.Split(name); ok {
			places = append(places, place{mirror, name})
		}
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

// keep hides what is held anew, long before it would be delivered to others.
func (r *run) keep(ctx context.Context) error {
	for smithytime.SleepWithContext(ctx, r.Hidden/3) == nil {
		r.mu.Lock()
		all := receipts(slices.Collect(maps.Keys(r.held)))
		r.mu.Unlock()
		if err := r.Queue.Hide(ctx, all, r.Hidden); err != nil && ctx.Err() == nil {
			r.Log.Warn("messages may be delivered to others, too, while they are worked on", "reason", err)
		}
	}
	return nil
}

// work gives out what is due.
func (r *run) work(ctx context.Context) error {
	slots := make(chan struct{}, r.Mirrors)
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case slots <- struct{}{}:
		}
		w := r.next(ctx)
		if w == nil {
			return nil
		}
		workers.Go(func() {
			r.heal(ctx, w)
			<-slots
		})
	}
}

// next waits for what is due; nil when the context has ended.
func (r *run) next(ctx context.Context) *gathered {
	for {
		r.mu.Lock()
		w, wait := r.gather.take(time.Now())
		r.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if w != nil {
			return w
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-due:
		case <-r.told:
		}
	}
}

func (r *run) heal(ctx context.Context, w *gathered) {
	d := Done{Job: w.job()}
	began := time.Now()
	d.Left, d.Err = r.Heal(ctx, d.Job)
	if ctx.Err() != nil {
		return // whatever was not finished is given back
	}
	d.Took = time.Since(began)
	if d.Err != nil {
		d.Left = make(map[string]string)
		for _, name := range d.Names {
			d.Left[name] = d.Err.Error()
		}
		r.Log.Error("a mirror is not in line with what is there", "mirror", w.mirror, "names", len(d.Names), "reason", d.Err)
	}
	r.mu.Lock()
	for _, by := range w.by {
		d.Messages += len(by)
	}
	over := w.settled(d.Left)
	r.gather.done(w)
	r.mu.Unlock()
	signal(r.told)
	r.finish(ctx, over)
	if r.Observe != nil {
		r.Observe(d)
	}
}

// finish takes messages from the queue, or leaves them in it for later.
func (r *run) finish(ctx context.Context, over []*held) {
	var done []*held
	later := make(map[time.Duration][]*held)
	r.mu.Lock()
	for _, h := range over {
		delete(r.held, h)
		if h.left == "" {
			done = append(done, h)
			continue
		}
		p := h.pause()
		later[p] = append(later[p], h)
		level := slog.LevelInfo // the content of a package often comes a little later
		if h.Deliveries > 1 || h.strange {
			level = slog.LevelWarn
		}
		r.Log.Log(ctx, level, "a message is left in the queue", "message", h.ID, "deliveries", h.Deliveries, "again in", p, "reason", h.left)
	}
	r.mu.Unlock()
	signal(r.room)
	// A failure is no harm: the message comes again, and nothing is left to do then.
	if err := r.Queue.Delete(ctx, receipts(done)); err != nil && ctx.Err() == nil {
		r.Log.Warn("messages could not be deleted and will come again", "reason", err)
	}
	for p, messages := range later {
		if err := r.Queue.Hide(ctx, receipts(messages), p); err != nil && ctx.Err() == nil {
			r.Log.Warn("messages may come again too early", "reason", err)
		}
	}
}

// giveBack lets others have what is held. Whoever stops is in a hurry, and if this fails they
// get it a little later.
func (r *run) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	if err := r.Queue.Hide(ctx, receipts(slices.Collect(maps.Keys(r.held))), 0); err != nil {
		r.Log.Warn("messages could not be given back and will come again later", "reason", err)
	}
}

func receipts(messages []*held) []string {
	all := make([]string, len(messages))
	for i, h := range messages {
		all[i] = h.Receipt
	}
	return all
}
