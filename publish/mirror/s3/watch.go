package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
)

// watched ends requests in which nothing moves, so that they can be repeated. Both clients
// send through it.
type watched struct {
	next     sdk.HTTPClient
	patience time.Duration
	observe  func(Request) // may be nil
}

// stalledError is what a request fails with that was ended. The retryer takes it for
// what it is: a failed connection.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string         { return "no byte moved for " + e.after.String() }
func (e *stalledError) ConnectionError() bool { return true }
func (e *stalledError) Timeout() bool         { return true }

// slowError is what the body of an answer fails with that arrives too slowly. The request is
// not repeated, because the body would end no sooner.
type slowError struct{ over time.Duration }

func (e *slowError) Error() string {
	return fmt.Sprintf("the answer arrives at less than %d bytes a second for %s", leastRate, e.over)
}

// leastRate is how many bytes a second an answer must have, on average over the time that a
// request may stall.
const leastRate = 1 << 10

// assembly is how many times longer a multipart upload may take to be completed: some
// implementations copy all its parts then, and say nothing meanwhile.
const assembly = 10

func (c *watched) Do(r *http.Request) (*http.Response, error) {
	began := time.Now()
	op := operationOf(r)
	w := &watch{patience: c.patience}
	if op == "CompleteMultipartUpload" {
		w.patience *= assembly
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	w.cancel = cancel
	w.timer = time.AfterFunc(w.patience, w.expire)
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &watchedBody{ReadCloser: r.Body, w: w}
	}
	answer, err := c.next.Do(r)
	if err != nil {
		err = w.reason(ctx, err)
		w.end()
	} else {
		w.pause()
		answer.Body = &watchedAnswer{body: answer.Body, ctx: ctx, w: w}
		inspect(op, answer)
	}
	if c.observe != nil {
		c.observe(Request{Operation: op, Status: statusOfAnswer(answer), Err: err, Took: time.Since(began), Date: dateOf(answer)})
	}
	return answer, err
}

func statusOfAnswer(r *http.Response) int {
	if r == nil {
		return 0
	}
	return r.StatusCode
}

func dateOf(r *http.Response) time.Time {
	if r == nil {
		return time.Time{}
	}
	date, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

func sdkOperation(ctx context.Context) string { return awsmiddleware.GetOperationName(ctx) }

// A watch cancels a request when its timer is not put back in time. The time that we take
// ourselves, to read a file or because of the rate limit, does not count.
type watch struct {
	patience time.Duration
	cancel   context.CancelCauseFunc

	// mu is held while the timer is set or stopped. After ended it is never set again.
	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

func (w *watch) expire() { w.cancel(&stalledError{w.patience}) }

func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.timer.Reset(w.patience)
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
	w.cancel(nil)
}

// reason is err, or what made us end the request.
func (w *watch) reason(ctx context.Context, err error) error {
	if stalled, ok := context.Cause(ctx).(*stalledError); ok {
		return stalled
	}
	return err
}

// watchedBody is read whenever the connection takes more.
type watchedBody struct {
	io.ReadCloser
	w *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.w.pause()
	defer b.w.resume()
	return b.ReadCloser.Read(p)
}

// watchedAnswer is only watched while it is being read: what the caller does between two
// reads is no stall.
type watchedAnswer struct {
	body io.ReadCloser
	ctx  context.Context
	w    *watch

	got    int64         // bytes
	waited time.Duration // for them
	slow   error         // they came too slowly
}

func (a *watchedAnswer) Read(p []byte) (int, error) {
	if a.slow != nil {
		return 0, a.slow
	}
	a.w.resume()
	defer a.w.pause()
	began := time.Now()
	n, err := a.body.Read(p)
	if err != nil && err != io.EOF {
		err = a.w.reason(a.ctx, err)
	}
	a.got += int64(n)
	if a.waited += time.Since(began); a.waited >= a.w.patience {
		if float64(a.got) < leastRate*a.waited.Seconds() {
			a.slow = &slowError{a.w.patience}
		}
		a.got, a.waited = 0, 0
	}
	return n, err
}

func (a *watchedAnswer) Close() error {
	defer a.w.end()
	return a.body.Close()
}
