// Package mirrortest tests mirrors, and programs that write to mirrors.
//
// Mem is a mirror in memory, stricter than any real one: it fails the test when a caller does what it must not do,
// even if a real mirror would accept it. Break makes any mirror fail at chosen calls. Run is the suite that every
// mirror passes.
package mirrortest

import (
	"slices"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Store is a mirror with all interfaces.
type Store interface {
	mirror.Reader
	mirror.Lister
	mirror.Writer
	mirror.Swapper
	mirror.Deleter
	mirror.Sweeper
}

// Op is a method of a mirror.
type Op string

// The methods of a Store.
const (
	Open      Op = "open"
	Stat      Op = "stat"
	List      Op = "list"
	Create    Op = "create"
	Swap      Op = "swap"
	Delete    Op = "delete"
	Leftovers Op = "leftovers"
	Discard   Op = "discard"
)

// Mutates reports whether the method changes a mirror.
func (o Op) Mutates() bool {
	return o == Create || o == Swap || o == Delete || o == Discard
}

// A Call is one call of a mirror. Its Name is the prefix for List and Leftovers.
type Call struct {
	Op   Op
	Name string
}

func (c Call) String() string { return string(c.Op) + " " + c.Name }

// A Log holds the calls in the order in which they began.
type Log struct {
	mu    sync.Mutex // guards calls
	calls []Call
}

func (l *Log) add(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
}

// Calls returns all calls so far.
func (l *Log) Calls() []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// Mutations returns the calls so far that could change the mirror.
func (l *Log) Mutations() []Call {
	return slices.DeleteFunc(l.Calls(), func(c Call) bool { return !c.Op.Mutates() })
}

// Forget empties the log.
func (l *Log) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = nil
}
