package session

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A keeper hands out credentials and renews them before they expire.
//
// An early renewal delays one caller at most: the others go on with the old credentials, and so do all if the renewal fails,
// which is then repeated a little later. Callers wait only once the old credentials are no longer valid.
//
// The SDK's CredentialsCache makes all requests wait for every renewal, fails them if it fails although the old
// credentials are still valid, and cannot be cancelled.
type keeper struct {
	// assume gets new credentials, in at most so many attempts.
	assume func(ctx context.Context, attempts int) (lease, error)
	// attempts is how many are made when there is nothing to go on with.
	attempts int
	log      *slog.Logger

	// turn is held by the caller that renews. It is a channel, so that waiting for it ends with
	// the context.
	turn chan struct{}

	// mu guards what follows, and is never held while waiting.
	mu    sync.Mutex
	lease lease
	// failure is why there was nothing to hand out at failed. Callers that were waiting
	// then receive it too, and do not try the same again.
	failure error
	failed  time.Time
}

func newKeeper(assume func(context.Context, int) (lease, error), attempts int, log *slog.Logger) *keeper {
	return &keeper{assume: assume, attempts: attempts, log: log, turn: make(chan struct{}, 1)}
}

// A lease is credentials with the times at which something is to be done about them, by
// the local clock.
type lease struct {
	creds aws.Credentials
	begun time.Time
	renew time.Time // from here on they should be renewed
	last  time.Time // from here on they are not handed out any more
}

const (
	// window is how long before the end credentials are renewed at the earliest.
	window = 5 * time.Minute
	// reserve is what a request needs to arrive in time.
	reserve = 30 * time.Second
	// quick is how long a renewal may take for which one request waits while the others
	// go on.
	quick = 10 * time.Second
	// retryPause is the longest time until a renewal that failed is tried again.
	retryPause = 30 * time.Second
)

// newLease is a lease on credentials that hold for so long. All times shrink with it, so that even
// sessions of seconds overlap: the window is at most half of it, and the reserve a tenth.
func newLease(creds aws.Credentials, life time.Duration) lease {
	now := time.Now()
	early := min(window, life/2)
	// Publishers that began together should not come back together.
	early -= rand.N(early/2 + 1)
	return lease{
		creds: creds,
		begun: now,
		renew: now.Add(life - early),
		last:  now.Add(life - min(reserve, life/10)),
	}
}

func (l lease) fresh(now time.Time) bool  { return now.Before(l.renew) && l.usable(now) }
func (l lease) usable(now time.Time) bool { return now.Before(l.last) }

// Retrieve returns credentials that hold long enough for a request.
func (k *keeper) Retrieve(ctx context.Context) (aws.Credentials, error) {
	asked := time.Now()
	now := k.current()
	if now.fresh(asked) {
		return now.creds, nil
	}
	if now.usable(asked) {
		select {
		case k.turn <- struct{}{}:
		default: // another caller is renewing them
			return now.creds, nil
		}
	} else {
		select {
		case k.turn <- struct{}{}:
		case <-ctx.Done():
			return aws.Credentials{}, ctx.Err()
		}
	}
	defer func() { <-k.turn }()
	return k.renewed(ctx, asked)
}

// renewed returns new credentials, or those there are. The turn is held.
func (k *keeper) renewed(ctx context.Context, asked time.Time) (aws.Credentials, error) {
	now := k.current()
	switch {
	case now.fresh(time.Now()):
		return now.creds, nil
	case now.usable(time.Now()):
		return k.renewEarly(ctx, now)
	}
	if err := k.failedSince(asked); err != nil {
		return aws.Credentials{}, err
	}
	next, err := k.assume(ctx, k.attempts)
	if err != nil {
		if ctx.Err() == nil {
			k.fail(err)
		}
		return aws.Credentials{}, err
	}
	k.hold(next)
	return next.creds, nil
}

// renewEarly makes one attempt, and keeps the old credentials if that fails.
func (k *keeper) renewEarly(ctx context.Context, old lease) (aws.Credentials, error) {
	brief, cancel := context.WithTimeout(ctx, min(quick, time.Until(old.last)))
	defer cancel()
	next, err := k.assume(brief, 1)
	if err == nil {
		k.hold(next)
		return next.creds, nil
	}
	if ctx.Err() != nil {
		return aws.Credentials{}, ctx.Err()
	}
	pause := min(retryPause, old.last.Sub(old.begun)/20)
	old.renew = time.Now().Add(pause)
	k.hold(old)
	k.log.Warn("credentials not renewed, those there are still hold",
		"until", old.last.UTC().Format(time.RFC3339), "again in", pause.Round(time.Millisecond).String(), "reason", err.Error())
	return old.creds, nil
}

// refused is called when a service took credentials for expired although we did not: a
// clock is wrong, or they were revoked. What is younger than a moment is not meant.
func (k *keeper) refused() {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lease
	if now := time.Now(); now.Sub(l.begun) > min(retryPause, l.last.Sub(l.begun)/4) {
		k.lease.renew, k.lease.last = now, now
	}
}

func (k *keeper) current() lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lease
}

func (k *keeper) hold(l lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lease, k.failure = l, nil
}

func (k *keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failure, k.failed = err, time.Now()
}

func (k *keeper) failedSince(asked time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure != nil && !k.failed.Before(asked) {
		return k.failure
	}
	return nil
}
