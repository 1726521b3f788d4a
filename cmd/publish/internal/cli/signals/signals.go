// Package signals stops the program in an orderly way on signals.
package signals

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// Caught are the signals that stop the program: SIGINT, SIGTERM, and SIGHUP unless it is ignored, as under
// nohup. A command that reloads its configuration on SIGHUP takes over that signal.
type Caught struct {
	all      chan os.Signal
	done     chan struct{}
	reloads  atomic.Bool
	pipes    chan os.Signal
	forceful func(syscall.Signal)
}

// Catch calls cancel on the first signal and exit on the second, which ends the process. A closed terminal may
// send SIGHUP twice, so a repeated SIGHUP does not count as the second signal.
func Catch(cancel, exit func(syscall.Signal)) *Caught {
	s := &Caught{all: make(chan os.Signal, 4), done: make(chan struct{}), pipes: make(chan os.Signal, 1), forceful: exit}
	// A closed pipe is an error of the write, like a full disk, and does not stop the program half-way.
	signal.Notify(s.pipes, syscall.SIGPIPE)
	signal.Notify(s.all, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(s.all, syscall.SIGHUP)
	}
	go s.watch(cancel)
	return s
}

func (s *Caught) watch(cancel func(syscall.Signal)) {
	stopped := false
	for {
		var got syscall.Signal
		select {
		case <-s.done:
			return
		case one := <-s.all:
			got = one.(syscall.Signal)
		}
		switch {
		case got == syscall.SIGHUP && (stopped || s.reloads.Load()):
		case stopped:
			s.forceful(got)
		default:
			stopped = true
			cancel(got)
		}
	}
}

// Stop restores the default effect of the signals.
func (s *Caught) Stop() {
	signal.Stop(s.all)
	signal.Stop(s.pipes)
	close(s.done)
}

// Hangups makes SIGHUP reload the configuration from now on. The channel holds a signal until the caller reads
// it.
func (s *Caught) Hangups() (hangups <-chan os.Signal, leave func()) {
	c := make(chan os.Signal, 1)
	if s != nil {
		s.reloads.Store(true)
	}
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
