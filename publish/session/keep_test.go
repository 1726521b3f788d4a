package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	smithytime "github.com/aws/smithy-go/time"
)

// An office gives credentials out, one after the other.
type office struct {
	life     time.Duration
	takes    time.Duration
	closed   atomic.Bool
	silent   atomic.Bool
	given    atomic.Int32
	tried    atomic.Int32
	attempts atomic.Int32 // that were permitted at last
}

var errClosed = errors.New("closed")

func (o *office) assume(ctx context.Context, attempts int) (lease, error) {
	o.tried.Add(1)
	o.attempts.Store(int32(attempts))
	if o.silent.Load() {
		<-ctx.Done()
		return lease{}, ctx.Err()
	}
	if err := smithytime.SleepWithContext(ctx, o.takes); err != nil {
		return lease{}, err
	}
	if o.closed.Load() {
		return lease{}, errClosed
	}
	return newLease(aws.Credentials{AccessKeyID: fmt.Sprint("key ", o.given.Add(1))}, o.life), nil
}

func (o *office) keeper(log *strings.Builder) *keeper {
	return newKeeper(o.assume, 6, slog.New(slog.NewTextHandler(log, nil)))
}

func ask(t *testing.T, k *keeper) string {
	t.Helper()
	creds, err := k.Retrieve(t.Context())
	if err != nil {
		return err.Error()
	}
	return creds.AccessKeyID
}

func TestWhenCredentialsAreRenewed(t *testing.T) {
	for _, row := range []struct{ life, early, reserve time.Duration }{
		{time.Hour, 5 * time.Minute, 30 * time.Second},
		{15 * time.Minute, 5 * time.Minute, 30 * time.Second},
		{2 * time.Minute, time.Minute, 12 * time.Second},
		{2 * time.Second, time.Second, 200 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			first, last := row.life, time.Duration(0)
			for range 1000 {
				l := newLease(aws.Credentials{}, row.life)
				if used := l.last.Sub(l.begun); used != row.life-row.reserve {
					t.Errorf("of %v, %v are used", row.life, used)
				}
				renew := l.renew.Sub(l.begun)
				first, last = min(first, renew), max(last, renew)
			}
			if first < row.life-row.early || last > row.life-row.early/2 || last-first < row.early/4 {
				t.Errorf("of %v, renewed after %v to %v", row.life, first, last)
			}
		})
	}
}

// One request renews, the others go on with what there is.
func TestRenewingStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour}
		k := o.keeper(&strings.Builder{})
		if got := ask(t, k); got != "key 1" {
			t.Fatal(got)
		}
		time.Sleep(58 * time.Minute) // in the window, whatever its jitter
		o.takes = 5 * time.Second
		got := make(chan string)
		go func() { got <- ask(t, k) }()
		synctest.Wait()
		for range 100 {
			began := time.Now()
			if now := ask(t, k); now != "key 1" || time.Since(began) != 0 {
				t.Fatalf("%s after %v", now, time.Since(began))
			}
		}
		if now := <-got; now != "key 2" {
			t.Errorf("who renewed has %s", now)
		}
		if now := ask(t, k); now != "key 2" {
			t.Errorf("and then %s", now)
		}
	})
}

// All who need the first credentials wait for them, and they are got once.
func TestManyAskAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour, takes: time.Second}
		k := o.keeper(&strings.Builder{})
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				if got := ask(t, k); got != "key 1" {
					t.Error(got)
				}
			})
		}
		all.Wait()
		if n := o.tried.Load(); n != 1 {
			t.Errorf("%d times", n)
		}
	})
}

func TestAFailureInsideTheWindowIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour}
		var log strings.Builder
		k := o.keeper(&log)
		ask(t, k)
		o.closed.Store(true)
		time.Sleep(58 * time.Minute)
		o.tried.Store(0)
		for range 30 { // a minute
			if got := ask(t, k); got != "key 1" {
				t.Fatal(got)
			}
			time.Sleep(2 * time.Second)
		}
		if n := o.tried.Load(); n != 2 || o.attempts.Load() != 1 {
			t.Errorf("tried %d times in a minute, %d attempts each", n, o.attempts.Load())
		}
		if want := `level=WARN msg="credentials not renewed, those there are still hold" until=2000-01-01T00:59:30Z "again in"=30s reason=closed`; !strings.Contains(log.String(), want) {
			t.Errorf("not logged: %s\n%s", want, &log)
		}
		o.closed.Store(false)
		if got := ask(t, k); got != "key 2" {
			t.Errorf("it passed, and yet %s", got)
		}
	})
}

func TestAfterExpiryItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour}
		k := o.keeper(&strings.Builder{})
		ask(t, k)
		o.closed.Store(true)
		time.Sleep(time.Hour - 31*time.Second)
		if got := ask(t, k); got != "key 1" {
			t.Errorf("%s while the credentials hold", got)
		}
		time.Sleep(time.Second)
		if got := ask(t, k); got != "closed" || o.attempts.Load() != 6 {
			t.Errorf("%s in %d attempts", got, o.attempts.Load())
		}
	})
}

// A failure is that of all who were waiting, and not a reason for each to try in turn.
func TestAFailureIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour, takes: 17 * time.Second}
		o.closed.Store(true)
		k := o.keeper(&strings.Builder{})
		began := time.Now()
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				if got := ask(t, k); got != "closed" {
					t.Error(got)
				}
			})
		}
		all.Wait()
		if n := o.tried.Load(); n != 1 || time.Since(began) != 17*time.Second {
			t.Errorf("%d times in %v", n, time.Since(began))
		}
		// Who comes later tries again.
		time.Sleep(time.Second)
		o.closed.Store(false)
		if got := ask(t, k); got != "key 1" {
			t.Error(got)
		}
	})
}

// An STS that is silent holds one request up for some seconds, and no other.
func TestSilenceInsideTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour}
		k := o.keeper(&strings.Builder{})
		ask(t, k)
		time.Sleep(58 * time.Minute)
		o.silent.Store(true)
		began := time.Now()
		if got := ask(t, k); got != "key 1" {
			t.Error(got)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		began = time.Now()
		if got := ask(t, k); got != "key 1" || time.Since(began) != 0 {
			t.Errorf("the next has %s after %v", got, time.Since(began))
		}
	})
}

// When whoever renews gives up, the next one does it.
func TestTheNextTakesOver(t *testing.T) {
	for name, past := range map[string]time.Duration{"without credentials": 0, "inside the window": 58 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &office{life: time.Hour}
				k := o.keeper(&strings.Builder{})
				want := "key 1"
				if past > 0 {
					ask(t, k)
					time.Sleep(past)
					want = "key 2"
				}
				o.silent.Store(true)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() {
					_, err := k.Retrieve(ctx)
					ended <- err
				}()
				synctest.Wait()
				o.silent.Store(false)
				next := make(chan string)
				go func() { // waits for its turn, if it needs one
					if past > 0 {
						time.Sleep(time.Second)
					}
					next <- ask(t, k)
				}()
				synctest.Wait()
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("who gave up has %v", err)
				}
				if got := <-next; got != want {
					t.Errorf("the next has %s, want %s", got, want)
				}
			})
		})
	}
}

func TestWaitingForOthersEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour, takes: time.Minute}
		k := o.keeper(&strings.Builder{})
		done := make(chan string)
		go func() { done <- ask(t, k) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.Retrieve(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-done
	})
}

// Credentials that a service takes for expired are renewed, and not again and again.
func TestRefusedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{life: time.Hour}
		k := o.keeper(&strings.Builder{})
		ask(t, k)
		k.refused()
		if got := ask(t, k); got != "key 1" {
			t.Errorf("%s, although they were new", got)
		}
		time.Sleep(time.Minute)
		for range 64 { // requests that were on their way together
			k.refused()
		}
		if got := ask(t, k); got != "key 2" {
			t.Errorf("%s", got)
		}
		k.refused() // the last of them
		if got := ask(t, k); got != "key 2" {
			t.Errorf("%s", got)
		}
	})
}
