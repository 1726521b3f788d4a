package session

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// A pacer is a retryer that sends less while a service asks to slow down: about twice as many attempts as the
// service accepts. A service that refuses one request in a hundred is hardly slowed down, and a service that
// refuses all of them receives few.
//
// The SDK's adaptive mode answers each refusal with a rate below the current one, and takes seconds to raise it
// again: with one refusal in a hundred, 700 small uploads took eleven times as long.
type pacer struct {
	aws.RetryerV2
	retrying func(attempt, most int, err error) // Options.Retrying

	// mu is held while the two counts are read or changed, never during a wait.
	mu       sync.Mutex
	asked    float64 // recent attempts
	accepted float64 // recent attempts that the service did not refuse
	counted  time.Time
}

const (
	// memory is the half-life of the counts.
	memory = 2 * time.Second
	// attemptsPerAccepted is the number of attempts for each accepted one.
	attemptsPerAccepted = 2
	// meanDelay is by how much an attempt is delayed, on average.
	meanDelay = 200 * time.Millisecond
)

// GetAttemptToken returns when an attempt may be made. Its result receives the error of the attempt.
func (p *pacer) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	for rand.Float64() < p.putOff() {
		t := time.NewTimer(jitter(2 * meanDelay))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
	release, err := p.RetryerV2.GetAttemptToken(ctx)
	if err != nil {
		return nil, err
	}
	return func(err error) error {
		p.count(!throttled(err))
		return release(err)
	}, nil
}

// RetryDelay returns how long to wait before the next attempt.
func (p *pacer) RetryDelay(attempt int, err error) (time.Duration, error) {
	if p.retrying != nil {
		p.retrying(attempt+1, p.MaxAttempts(), err)
	}
	return p.RetryerV2.RetryDelay(attempt, err)
}

// putOff returns the probability that an attempt should wait.
func (p *pacer) putOff() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	return (p.asked - attemptsPerAccepted*p.accepted) / (p.asked + 1)
}

func (p *pacer) count(accepted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	p.asked++
	if accepted {
		p.accepted++
	}
}

// forget reduces the counts with time. mu is held.
func (p *pacer) forget() {
	now := time.Now()
	fade := math.Exp2(-float64(now.Sub(p.counted)) / float64(memory))
	p.asked, p.accepted, p.counted = p.asked*fade, p.accepted*fade, now
}

var throttles = retry.IsErrorThrottles(retry.DefaultThrottles)

func throttled(err error) bool { return err != nil && throttles.IsErrorThrottle(err).Bool() }

// Delays before a retry double, and each is shortened at random.
const (
	firstDelay     = 50 * time.Millisecond
	throttledDelay = 250 * time.Millisecond
	longestDelay   = 20 * time.Second
)

func delay(attempt int, err error) (time.Duration, error) {
	d := firstDelay
	if throttled(err) {
		d = throttledDelay
	}
	for range attempt - 1 {
		d = min(2*d, longestDelay)
	}
	return jitter(d), nil
}

func jitter(d time.Duration) time.Duration { return rand.N(d + 1) }
