package mirrortest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// ErrInjected is the error of Drop, Lie and Cut: one that says nothing of what
// has happened, as a lost connection does.
var ErrInjected = errors.New("injected fault")

// ErrKilled is what every call returns after Kill. It matches context.Canceled, so
// that whoever was killed winds up as it does when it is interrupted.
var ErrKilled = fmt.Errorf("killed: %w", context.Canceled)

// Refusals are the errors by which a mirror says why it did not do something.
var Refusals = []error{
	mirror.ErrConflict,
	&mirror.DeniedError{Action: "s3:PutObject", Name: "the object", Detail: "injected"},
	mirror.ErrCredentials,
	mirror.ErrNoBucket,
	mirror.ErrFull,
	&mirror.FaultError{Fault: "injected"},
	&mirror.RegionError{Bucket: "cache", Asked: "us-east-1", Region: "eu-west-1"},
}

// A Fault is what goes wrong at some calls. Faults are data until they are given to
// Break, so one may be used in many tests.
type Fault struct {
	concerns func(Call) bool
	nth      int   // which of the calls that it concerns, from 1; 0 is each
	err      error // what the call returns
	acts     bool  // whether the store does what it was asked all the same
	stalls   bool  // whether the call first waits for the end of its context
	cuts     bool  // whether a reader gets only the first few: bytes of Open, names of List
	few      int64
	kills    bool // whether err is for every later call, too
}

// Drop loses each change of a name with the prefix on its way to the mirror: an
// error, and nothing is stored.
func Drop(prefix string) Fault { return Fault{concerns: changes(prefix), err: ErrInjected} }

// Lie loses the mirror's answers to changes: an error, though all is stored.
func Lie(prefix string) Fault {
	return Fault{concerns: changes(prefix), err: ErrInjected, acts: true}
}

// Fail refuses each call of any kind on a name with the prefix.
func Fail(prefix string, err error) Fault { return Fault{concerns: begins(prefix), err: err} }

// Conflict makes each Swap and Delete come too late.
func Conflict(prefix string) Fault {
	return Fault{err: mirror.ErrConflict, concerns: func(c Call) bool {
		return (c.Op == Swap || c.Op == Delete) && strings.HasPrefix(c.Name, prefix)
	}}
}

// Cut ends the bodies of Open after n bytes and the names of List after n names, both
// with an error.
func Cut(prefix string, n int64) Fault {
	return Fault{err: ErrInjected, acts: true, cuts: true, few: n, concerns: func(c Call) bool {
		return (c.Op == Open || c.Op == List) && strings.HasPrefix(c.Name, prefix)
	}}
}

// Stall keeps each call on a name with the prefix waiting until its context ends.
func Stall(prefix string) Fault {
	return Fault{concerns: begins(prefix), stalls: true, err: ErrInjected}
}

// Kill lets k calls of all through and none after them.
func Kill(k int) Fault {
	return Fault{concerns: begins(""), nth: k + 1, err: ErrKilled, kills: true}
}

// Nth is f at the k-th (from 1) of the calls that it concerns, and at no other. So
// Nth(k, Fail("", err)) is about the k-th call of all, Nth(k, Drop("")) about the k-th change.
func Nth(k int, f Fault) Fault {
	f.nth = k
	return f
}

// On is f at calls of op alone.
func On(op Op, f Fault) Fault {
	all := f.concerns
	f.concerns = func(c Call) bool { return c.Op == op && all(c) }
	return f
}

func begins(prefix string) func(Call) bool {
	return func(c Call) bool { return strings.HasPrefix(c.Name, prefix) }
}

func changes(prefix string) func(Call) bool {
	return func(c Call) bool { return c.Op.Mutates() && strings.HasPrefix(c.Name, prefix) }
}

// A Broken is a Store with faults. Its log holds all calls, also those that failed.
type Broken struct {
	Log
	store  Store
	faults []Fault

	mu     sync.Mutex // guards what follows; not held during a call
	met    []int      // how many calls each fault concerned so far
	killed bool

	looking sync.Mutex // held while look runs, so that it runs once at a time
	look    func(Call)
}

// Break returns store with faults. Where several faults concern a call, the first has it.
// Without any fault it is a way to log and to look at what happens to store.
func Break(store Store, faults ...Fault) *Broken {
	return &Broken{store: store, faults: faults, met: make([]int, len(faults))}
}

// AfterEach has look called after every call, when the mirror has done what it does and
// the caller does not know yet. One call of look runs at a time. It must be set before
// the first call, and look must not use b.
func (b *Broken) AfterEach(look func(Call)) { b.look = look }

func (b *Broken) seen(c Call) {
	if b.look == nil {
		return
	}
	b.looking.Lock()
	defer b.looking.Unlock()
	b.look(c)
}

// meet logs a call and returns the fault that it meets.
func (b *Broken) meet(ctx context.Context, c Call) Fault {
	b.Log.add(c)
	f := b.pick(c)
	if f.stalls {
		<-ctx.Done()
		f.err = fmt.Errorf("%w: %w", f.err, context.Cause(ctx))
	}
	if f.err != nil {
		f.err = fmt.Errorf("%s: %w", c, f.err)
	} else {
		f.acts = true
	}
	return f
}

func (b *Broken) pick(c Call) Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.killed {
		return Fault{err: ErrKilled}
	}
	var picked Fault
	for i, f := range b.faults {
		if !f.concerns(c) {
			continue
		}
		b.met[i]++
		if f.nth == 0 || f.nth == b.met[i] || f.kills && f.nth < b.met[i] {
			b.killed = b.killed || f.kills
			if picked.err == nil {
				picked = f
			}
		}
	}
	return picked
}

// do makes one call of the store, or does not, as the fault wants.
func (b *Broken) do(ctx context.Context, op Op, name string, call func() error) error {
	c := Call{op, name}
	f := b.meet(ctx, c)
	defer b.seen(c)
	if !f.acts {
		return f.err
	}
	if err := call(); err != nil {
		return err
	}
	if f.cuts {
		return nil // the error comes later
	}
	return f.err
}

// Open is the store's, with faults.
func (b *Broken) Open(ctx context.Context, name string) (*mirror.Object, error) {
	c := Call{Open, name}
	f := b.meet(ctx, c)
	defer b.seen(c)
	if !f.acts {
		return nil, f.err
	}
	o, err := b.store.Open(ctx, name)
	if err == nil && f.cuts {
		o.Body = &cutBody{ReadCloser: o.Body, left: f.few, err: f.err}
	}
	return o, err
}

// cutBody fails before its end.
type cutBody struct {
	io.ReadCloser
	left int64
	err  error
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("%w: %w", c.err, io.ErrUnexpectedEOF)
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// Stat is the store's, with faults.
func (b *Broken) Stat(ctx context.Context, name string) (info mirror.Info, err error) {
	err = b.do(ctx, Stat, name, func() (err error) {
		info, err = b.store.Stat(ctx, name)
		return err
	})
	return info, err
}

// List is the store's, with faults.
func (b *Broken) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return broken(ctx, b, Call{List, r.Prefix}, b.store.List(ctx, r))
}

// Leftovers is the store's, with faults.
func (b *Broken) Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error] {
	return broken(ctx, b, Call{Leftovers, prefix}, b.store.Leftovers(ctx, prefix))
}

func broken[T any](ctx context.Context, b *Broken, c Call, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		f := b.meet(ctx, c)
		defer b.seen(c)
		if !f.acts {
			yield(none, f.err)
			return
		}
		n := int64(0)
		for item, err := range all {
			if f.cuts && n == f.few {
				break
			}
			n++
			if !yield(item, err) || err != nil {
				return
			}
		}
		if f.err != nil {
			yield(none, f.err)
		}
	}
}

// Create is the store's, with faults.
func (b *Broken) Create(ctx context.Context, u mirror.Upload) error {
	return b.do(ctx, Create, u.Name, func() error { return b.store.Create(ctx, u) })
}

// Swap is the store's, with faults.
func (b *Broken) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	is := mirror.Absent
	err := b.do(ctx, Swap, u.Name, func() (err error) {
		is, err = b.store.Swap(ctx, u, was)
		return err
	})
	if err != nil {
		is = mirror.Absent
	}
	return is, err
}

// Delete is the store's, with faults.
func (b *Broken) Delete(ctx context.Context, name string, was mirror.Version) error {
	return b.do(ctx, Delete, name, func() error { return b.store.Delete(ctx, name, was) })
}

// Discard is the store's, with faults.
func (b *Broken) Discard(ctx context.Context, l mirror.Leftover) error {
	return b.do(ctx, Discard, l.Name, func() error { return b.store.Discard(ctx, l) })
}
