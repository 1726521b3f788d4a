// Package wire sends requests. It ends a request in which no byte moves, bounds answers, and does not follow
// redirects.
package wire

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
)

// A Request describes one HTTP request.
type Request struct {
	Operation string // S3's name: PutObject
	Status    int    // of the answer; 0 if there was none
	Err       error  // why there was none
	Took      time.Duration
	Date      time.Time // by the clock of the server; zero if the answer has none
}

// A Client ends requests in which no byte moves, so that they can be repeated.
type Client struct {
	Next     sdk.HTTPClient
	Patience time.Duration // the longest time without progress
	Observe  func(Request) // is called for each request; may be nil
}

// A stalledError is the error of a request that was ended. The retryer treats it as a failed connection.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string         { return "no byte moved for " + e.after.String() }
func (e *stalledError) ConnectionError() bool { return true }
func (e *stalledError) Timeout() bool         { return true }

// A SlowError is the error of an answer whose body arrives too slowly. The request is not repeated, because the
// body would be as slow again.
type SlowError struct{ over time.Duration }

func (e *SlowError) Error() string {
	return fmt.Sprintf("the answer arrives at less than %d bytes a second for %s", leastRate, e.over)
}

// leastRate is the minimum rate of an answer in bytes a second, on average over the time that a request may stall.
const leastRate = 1 << 10

// assembly is the factor by which completing a multipart upload may take longer: some implementations copy all its
// parts without sending anything.
const assembly = 10

// Do sends a request.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	began := time.Now()
	op := operationOf(r)
	w := &watch{patience: c.Patience}
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
	reply, err := c.Next.Do(r)
	if err != nil {
		err = w.reason(ctx, err)
		w.end()
	} else {
		w.pause()
		reply.Body = &watchedAnswer{body: reply.Body, ctx: ctx, w: w}
		answer.Inspect(op, reply)
	}
	if c.Observe != nil {
		c.Observe(Request{Operation: op, Status: statusOf(reply), Err: err, Took: time.Since(began), Date: dateOf(reply)})
	}
	return reply, err
}

func statusOf(r *http.Response) int {
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

// A watch cancels a request unless its timer is reset in time. Time spent in this process, to read a file or
// because of the rate limit, does not count.
type watch struct {
	patience time.Duration
	cancel   context.CancelCauseFunc

	// mu is held while the timer is set or stopped. The timer is not set after ended.
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

// reason returns the reason for which the watch ended the request, or err.
func (w *watch) reason(ctx context.Context, err error) error {
	if stalled, ok := context.Cause(ctx).(*stalledError); ok {
		return stalled
	}
	return err
}

// watchedBody is a request body. The transport reads it whenever the connection can take more.
type watchedBody struct {
	io.ReadCloser
	w *watch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.w.pause()
	defer b.w.resume()
	return b.ReadCloser.Read(p)
}

// watchedAnswer is an answer's body. It is watched only during reads: the time between two reads belongs to the
// caller.
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
			a.slow = &SlowError{a.w.patience}
		}
		a.got, a.waited = 0, 0
	}
	return n, err
}

func (a *watchedAnswer) Close() error {
	defer a.w.end()
	return a.body.Close()
}

// operation is the context key for the operation of a request that bypasses the SDK.
type operation struct{}

// WithOperation returns a context that names the operation of requests that bypass the SDK.
func WithOperation(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, operation{}, name)
}

func operationOf(r *http.Request) string {
	if op, ok := r.Context().Value(operation{}).(string); ok {
		return op
	}
	return awsmiddleware.GetOperationName(r.Context())
}

// Unredirected returns a client that returns redirects instead of following them. The SDK's client would repeat
// some requests, with their signature, to any host that an answer names.
func Unredirected(c sdk.HTTPClient) sdk.HTTPClient {
	if b, ok := c.(*awshttp.BuildableClient); ok {
		c = b.Freeze()
	}
	h, ok := c.(*http.Client)
	if !ok {
		return c
	}
	stay := *h
	stay.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &stay
}
