package session

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A keeper provides credentials and renews them before they expire.
//
// An early renewal delays at most one caller. The others use the old credentials, and so do all if the renewal
// fails. A failed renewal is repeated a little later. Callers wait only when the old credentials are no longer
// valid.
//
// The SDK's CredentialsCache makes all requests wait for each renewal, fails them if the renewal fails although the
// old credentials are still valid, and cannot be cancelled.
type keeper struct {
	// assume gets new credentials in at most so many attempts.
	assume func(ctx context.Context, attempts int) (lease, error)
	// attempts is the number of attempts when there are no valid credentials.
	attempts int
	log      *slog.Logger

	// turn is held by the caller that renews. It is a channel, so that a context can end the wait for it.
	turn chan struct{}

	// mu guards the fields below. It is never held during a wait.
	mu    sync.Mutex
	lease lease
	// failure is the error of the renewal at the time failed. Callers that were waiting then receive it, too,
	// instead of trying again.
	failure error
	failed  time.Time
}

func newKeeper(assume func(context.Context, int) (lease, error), attempts int, log *slog.Logger) *keeper {
	return &keeper{assume: assume, attempts: attempts, log: log, turn: make(chan struct{}, 1)}
}

// A lease is credentials with their deadlines on the local clock.
type lease struct {
	creds aws.Credentials
	begun time.Time
	renew time.Time // after this they should be renewed
	last  time.Time // after this they are no longer provided
}

const (
	// window is the earliest time before expiry at which credentials are renewed.
	window = 5 * time.Minute
	// reserve is how long before expiry credentials are no longer provided, so that a request arrives in time.
	reserve = 30 * time.Second
	// quick is how long an early renewal may take. One request waits for it while the others continue.
	quick = 10 * time.Second
	// retryPause is the longest time until a failed renewal is repeated.
	retryPause = 30 * time.Second
)

// newLease returns a lease on credentials that are valid for so long. All times shrink with the validity, so that
// even sessions of seconds overlap: the window is at most half of it, and the reserve a tenth.
func newLease(creds aws.Credentials, life time.Duration) lease {
	now := time.Now()
	early := min(window, life/2)
	// Random, so that publishers that began together do not renew together.
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

// Retrieve returns credentials that are valid long enough for a request.
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

// renewed returns new credentials, or the current ones if they are new enough. The turn is held.
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

// renewEarly makes one attempt, and keeps the old credentials if it fails.
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

// refused is called when a service has refused credentials as expired that the keeper considers valid: a clock is
// wrong, or they were revoked. It ignores credentials that are only a moment old.
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
