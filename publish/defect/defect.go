// Package defect turns panics into errors, so that a defect in the work on one mirror, one package or one request
// stops nothing else.
//
// If a goroutine panics, Go ends the process with exit code 2, which means wrong usage here. So goroutines are
// started by a Group, and work for others is called by Caught.
package defect

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// An Error is a panic.
type Error struct {
	Why   any
	Stack string // of the goroutine that panicked
}

func (e *Error) Error() string { return fmt.Sprintf("a defect of this program: %v", e.Why) }

// Unwrap returns the value of the panic if it is an error.
func (e *Error) Unwrap() error {
	err, _ := e.Why.(error)
	return err
}

// Caught returns the error of do, or an *Error if it panics.
func Caught(do func() error) (err error) {
	defer func() {
		why := recover()
		if why == nil {
			return
		}
		if known, ok := why.(*Error); ok { // from a goroutine that do has waited for
			err = known
			return
		}
		err = &Error{why, string(debug.Stack())}
	}()
	return do()
}

// StackOf returns the stack of the *Error in the chain of err, or an empty string.
func StackOf(err error) string {
	var defect *Error
	if errors.As(err, &defect) {
		return defect.Stack
	}
	return ""
}

// A Group is an errgroup.Group in which a panic is an error. The zero value is ready.
type Group struct {
	own    errgroup.Group
	shared *errgroup.Group
}

// WithContext returns a group whose context ends when a function fails, or all have returned.
func WithContext(ctx context.Context) (*Group, context.Context) {
	g, gctx := errgroup.WithContext(ctx)
	return &Group{shared: g}, gctx
}

func (g *Group) group() *errgroup.Group {
	if g.shared != nil {
		return g.shared
	}
	return &g.own
}

// Go calls do in another goroutine, as soon as the limit allows.
func (g *Group) Go(do func() error) { g.group().Go(func() error { return Caught(do) }) }

// SetLimit limits the number of functions that run at once.
func (g *Group) SetLimit(n int) { g.group().SetLimit(n) }

// Wait returns the first error once all functions have returned.
func (g *Group) Wait() error { return g.group().Wait() }
