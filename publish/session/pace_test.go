package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
)

var slowDown = &smithy.GenericAPIError{Code: "SlowDown"}

// attempts makes attempts for a while, one a millisecond if it is let, and returns how
// many that were.
func attempts(t *testing.T, p *pacer, during time.Duration, answer func(n int) error) int {
	t.Helper()
	n := 0
	for began := time.Now(); time.Since(began) < during; n++ {
		ended, err := p.GetAttemptToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		ended(answer(n))
	}
	return n
}

func accept(int) error { return nil }
func refuse(int) error { return slowDown }

func TestOneRefusalOfAHundredSlowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Options{}.retryer().(*pacer)
		n := attempts(t, p, 10*time.Second, func(n int) error {
			if n%100 == 99 {
				return slowDown
			}
			return nil
		})
		if n < 9900 {
			t.Errorf("%d attempts in 10 s, want 10000", n)
		}
	})
}

func TestRefusalsAreAnsweredByFewerAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Options{}.retryer().(*pacer)
		attempts(t, p, 5*time.Second, refuse) // it takes a moment
		if n := attempts(t, p, 10*time.Second, refuse); n > 100 {
			t.Errorf("%d attempts in 10 s at a service that refuses all", n)
		}
		attempts(t, p, 10*time.Second, accept)
		if n := attempts(t, p, 10*time.Second, accept); n < 9900 {
			t.Errorf("%d attempts in 10 s, although all is well again", n)
		}
	})
}

func TestOtherErrorsAreNoReasonToSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Options{}.retryer().(*pacer)
		if n := attempts(t, p, time.Second, func(int) error { return errors.New("reset") }); n < 990 {
			t.Errorf("%d attempts in 1 s", n)
		}
	})
}

func TestWaitingForAnAttemptEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Options{}.retryer().(*pacer)
		for range 1_000_000 {
			p.count(false)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.GetAttemptToken(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v", err)
		}
	})
}

func TestDelays(t *testing.T) {
	for range 100 {
		for attempt, most := range map[int]time.Duration{1: firstDelay, 3: 4 * firstDelay, 30: longestDelay} {
			if d, err := delay(attempt, errors.New("reset")); err != nil || d < 0 || d > most {
				t.Errorf("attempt %d: %v, %v, want at most %v", attempt, d, err, most)
			}
		}
	}
}
