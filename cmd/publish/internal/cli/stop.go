package cli

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// A SignalError is the cause of a context that a signal has ended.
type SignalError struct{ syscall.Signal }

// Error implements error.
func (e SignalError) Error() string { return "stopped by " + e.Signal.String() }

// ErrTimeout is the cause of a context that --timeout has ended.
var ErrTimeout = errors.New("the timeout has passed")

// WithTimeout returns a context that --timeout ends, with ErrTimeout as its cause; 0: it does not end.
func WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, ErrTimeout)
}

// Stopped returns the cause of a context that has ended if err follows from that, and otherwise err.
func Stopped(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, context.DeadlineExceeded) && errors.Is(cause, ErrTimeout) || errors.Is(err, context.Canceled) && cause != nil {
		return cause
	}
	return err
}
