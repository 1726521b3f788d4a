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

// ErrInjected is the error of Drop, Lie and Cut. Like a lost connection, it says nothing about the result.
var ErrInjected = errors.New("injected fault")

// ErrKilled is the error of every call after Kill. It matches context.Canceled, so that a killed caller ends as an
// interrupted one does.
var ErrKilled = fmt.Errorf("killed: %w", context.Canceled)

// Refusals are the errors by which a mirror refuses a call.
var Refusals = []error{
	mirror.ErrConflict,
	&mirror.DeniedError{Action: "s3:PutObject", Name: "the object", Detail: "injected"},
	mirror.ErrCredentials,
	mirror.ErrNoBucket,
	mirror.ErrFull,
	&mirror.FaultError{Fault: "injected"},
	&mirror.RegionError{Bucket: "cache", Asked: "us-east-1", Region: "eu-west-1"},
}

// A Fault is a failure of some calls. It has no state until it is passed to Break, so one may be used in many
// tests.
type Fault struct {
	concerns func(Call) bool
	nth      int   // which of the matching calls, from 1; 0 for each
	err      error // what the call returns
	acts     bool  // whether the store carries out the call nevertheless
	stalls   bool  // whether the call first waits for the end of its context
	cuts     bool  // whether a reader gets only the first few: bytes of Open, names of List
	few      int64
	kills    bool // whether every later call fails with err, too
}

// Drop loses each change of a name with the prefix before it reaches the mirror: the call fails, and nothing is
// stored.
func Drop(prefix string) Fault { return Fault{concerns: changes(prefix), err: ErrInjected} }

// Lie loses the answers of the mirror to changes: the call fails, but everything is stored.
func Lie(prefix string) Fault {
	return Fault{concerns: changes(prefix), err: ErrInjected, acts: true}
}

// Fail makes each call on a name with the prefix fail.
func Fail(prefix string, err error) Fault { return Fault{concerns: begins(prefix), err: err} }

// Conflict makes each Swap and Delete fail because of another writer.
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

// Kill lets k calls through and none after them.
func Kill(k int) Fault {
	return Fault{concerns: begins(""), nth: k + 1, err: ErrKilled, kills: true}
}

// Nth returns f for only the k-th (from 1) of its matching calls: Nth(k, Fail("", err)) matches the k-th call of
// all, and Nth(k, Drop("")) the k-th change.
func Nth(k int, f Fault) Fault {
	f.nth = k
	return f
}

// On returns f for calls of op only.
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

// A Broken is a Store with faults. Its log has all calls, including failed ones.
type Broken struct {
	Log
	store  Store
	faults []Fault

	mu     sync.Mutex // guards the fields below; not held during a call
	met    []int      // the number of matching calls of each fault so far
	killed bool

	looking sync.Mutex // held while look runs, so that only one runs at a time
	look    func(Call)
}

// Break returns store with faults. If several faults match a call, the first applies. Without faults it only logs
// the calls and lets a test observe them.
func Break(store Store, faults ...Fault) *Broken {
	return &Broken{store: store, faults: faults, met: make([]int, len(faults))}
}

// AfterEach sets a function that is called after every call, when the mirror is done and the caller does not know
// the result yet. Only one call of look runs at a time. AfterEach must be called before the first call, and look
// must not use b.
func (b *Broken) AfterEach(look func(Call)) { b.look = look }

func (b *Broken) seen(c Call) {
	if b.look == nil {
		return
	}
	b.looking.Lock()
	defer b.looking.Unlock()
	b.look(c)
}

// meet logs a call and returns the fault that matches it.
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

// do makes a call of the store, or skips it, as the fault demands.
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

// Open is the Open of the store, with faults.
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

// cutBody is a body that fails before its end.
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

// Stat is the Stat of the store, with faults.
func (b *Broken) Stat(ctx context.Context, name string) (info mirror.Info, err error) {
	err = b.do(ctx, Stat, name, func() (err error) {
		info, err = b.store.Stat(ctx, name)
		return err
	})
	return info, err
}

// List is the List of the store, with faults.
func (b *Broken) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return broken(ctx, b, Call{List, r.Prefix}, b.store.List(ctx, r))
}

// Leftovers is the Leftovers of the store, with faults.
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

// Create is the Create of the store, with faults.
func (b *Broken) Create(ctx context.Context, u mirror.Upload) error {
	return b.do(ctx, Create, u.Name, func() error { return b.store.Create(ctx, u) })
}

// Swap is the Swap of the store, with faults.
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

// Delete is the Delete of the store, with faults.
func (b *Broken) Delete(ctx context.Context, name string, was mirror.Version) error {
	return b.do(ctx, Delete, name, func() error { return b.store.Delete(ctx, name, was) })
}

// Discard is the Discard of the store, with faults.
func (b *Broken) Discard(ctx context.Context, l mirror.Leftover) error {
	return b.do(ctx, Discard, l.Name, func() error { return b.store.Discard(ctx, l) })
}
