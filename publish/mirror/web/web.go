// Package web reads a mirror as its clients do: over HTTP, through the caches in between.
//
// It returns the object's own bytes or an error. Encoded bodies, bodies that end too early and error pages are
// errors. No error message shows the password of a URL or the target of a redirect.
//
// A server cannot make it request another host, request a private address that the URL does not name, wait without
// end, or use an unbounded amount of memory.
package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

const (
	userAgent = "slurm-factory-publish"

	maxRedirects = 5
	// maxHeaders is far above what caches add to an answer, in bytes.
	maxHeaders = 256 << 10
	// maxComplaint is how much of an error answer is read, in bytes. Error documents of S3 are smaller.
	maxComplaint = 4 << 10

	firstPause   = 250 * time.Millisecond
	longestPause = 15 * time.Second
)

// Options configure a Mirror. The zero value is ready for use.
type Options struct {
	// Revalidate asks the caches on the way to revalidate what they have. Not all caches obey: CloudFront does so
	// only if it is configured to.
	Revalidate bool
	// Timeout is how long the server may send nothing, before an answer or within it. In addition, a body must have
	// 1 KiB a second, on average over twice this time. Default 30 s.
	Timeout time.Duration
	// Attempts is the maximum number of times that a request is sent while the network fails or the server is busy
	// or broken. Default 5, which takes up to 15 s.
	Attempts int
	// Concurrency is the maximum number of requests in flight. A request is in flight until its body is closed. 0
	// sets no limit.
	Concurrency int
	// Transport sends the requests. The default resembles http.DefaultTransport.
	Transport http.RoundTripper
}

// A Mirror is a mirror at a URL. It implements mirror.Reader.
type Mirror struct {
	base   *url.URL // the path has no slash at its end
	opts   Options
	client *http.Client

	inFlight *semaphore.Weighted // bounds requests
	unsized  *semaphore.Weighted // bounds large bodies of unknown size
}

// Open returns the mirror at base, an http or https URL. It sends no request.
func Open(base string, opts Options) (*Mirror, error) {
	u, err := parse(base)
	if err != nil {
		return nil, err
	}
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.Attempts == 0 {
		opts.Attempts = 5
	}
	if opts.Transport == nil {
		opts.Transport = http.DefaultTransport
	}
	if t, ok := opts.Transport.(*http.Transport); ok {
		opts.Transport = guarded(t, u.Hostname())
	}
	return &Mirror{
		base: u, opts: opts, client: &http.Client{Transport: opts.Transport, CheckRedirect: follow},
		inFlight: semaphore.NewWeighted(int64(cmp.Or(opts.Concurrency, math.MaxInt))), unsized: semaphore.NewWeighted(maxUnsizedAtOnce),
	}, nil
}

func parse(base string) (*url.URL, error) {
	u, err := redact.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("mirror URL: %w", err)
	}
	shown := show(u)
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("mirror URL %s: want http://host or https://host", shown)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("mirror URL %s: it must not have a query or a fragment", shown)
	}
	u.RawPath = strings.TrimRight(u.EscapedPath(), "/")
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return nil, fmt.Errorf("mirror URL %s: %w", shown, err)
	}
	return u, nil
}

// Close closes idle connections.
func (m *Mirror) Close() { m.client.CloseIdleConnections() }

// String returns the mirror's URL without secrets.
func (m *Mirror) String() string { return show(m.base) }

// show returns a URL without the parts that may be secret.
func show(u *url.URL) string {
	public := *u
	public.User = nil
	public.RawQuery, public.Fragment = "", ""
	return redact.Without(public.String()) // also secrets that the parser took for another part
}

// bare returns an error of net/http without the URL in front.
func bare(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// Open returns an object. Its body is read from the network. A slow reader may keep the server waiting; the server
// may keep the reader waiting for at most Options.Timeout.
func (m *Mirror) Open(ctx context.Context, name string) (*mirror.Object, error) {
	answer, err := m.ask(ctx, http.MethodGet, name)
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", name, m, err)
	}
	size, body := answer.ContentLength, answer.Body
	if size < 0 {
		if size, body, err = m.readUnsized(ctx, answer.Body); err != nil {
			return nil, fmt.Errorf("open %s of %s: %w", name, m, err)
		}
	}
	return &mirror.Object{Info: infoOf(name, size, answer.Header), Body: body}, nil
}

// Stat describes the object that Open would open.
func (m *Mirror) Stat(ctx context.Context, name string) (mirror.Info, error) {
	answer, err := m.ask(ctx, http.MethodHead, name)
	if err != nil {
		return mirror.Info{}, fmt.Errorf("stat %s of %s: %w", name, m, err)
	}
	answer.Body.Close()
	if answer.ContentLength >= 0 {
		return infoOf(name, answer.ContentLength, answer.Header), nil
	}
	o, err := m.Open(ctx, name)
	if err != nil {
		return mirror.Info{}, err
	}
	return o.Info, o.Body.Close()
}

func infoOf(name string, size int64, h http.Header) mirror.Info {
	info := mirror.Info{Name: name, Size: size}
	info.Modified, _ = http.ParseTime(h.Get("Last-Modified")) // zero if the server does not report it
	// The ETag of S3 may be an MD5, but nothing says whether it is.
	info.Version = mirror.Version(h.Get("ETag"))
	if info.Version == mirror.Absent {
		info.Version = mirror.Version(fmt.Sprintf("%d at %s", size, h.Get("Last-Modified")))
	}
	return info
}

// ask sends a request, and repeats it while the error is a passingError. An answer without an error has the object.
func (m *Mirror) ask(ctx context.Context, method, name string) (*http.Response, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, errors.New("not a clean relative name")
	}
	for attempt := 1; ; attempt++ {
		answer, err := m.askOnce(ctx, method, name)
		var busy *passingError
		if err == nil || ctx.Err() != nil || !errors.As(err, &busy) || attempt >= m.opts.Attempts {
			return answer, err
		}
		select {
		case <-time.After(pause(attempt, busy.after)):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, while waiting after: %w", ctx.Err(), err)
		}
	}
}

// pause returns how long to wait after the n-th attempt: at least as long as the server requests, up to a limit,
// with random jitter.
func pause(n int, wish time.Duration) time.Duration {
	wait := min(firstPause<<(n-1), longestPause)
	wait = wait/2 + rand.N(wait)
	return max(wait, min(wish, longestPause))
}

// A passingError is an error after which a retry may succeed.
type passingError struct {
	err   error
	after time.Duration // the delay that the server requests
}

func (e *passingError) Error() string { return e.err.Error() }
func (e *passingError) Unwrap() error { return e.err }

var errSilent = errors.New("the server has gone silent")

func (m *Mirror) askOnce(ctx context.Context, method, name string) (*http.Response, error) {
	if err := m.inFlight.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	patience, giveUp := context.WithCancelCause(ctx)
	watch := time.AfterFunc(m.opts.Timeout, func() { giveUp(errSilent) })
	end := sync.OnceFunc(func() {
		watch.Stop()
		giveUp(nil)
		m.inFlight.Release(1)
	})
	answer, err := m.client.Do(m.request(patience, method, name))
	if err != nil {
		err = m.unanswered(patience, err) // before end, which replaces the cause
		end()
		return nil, err
	}
	watch.Stop() // until a reader waits for the body
	answer.Body = &watchedBody{ReadCloser: answer.Body, timeout: m.opts.Timeout, watch: watch, ctx: patience, end: end}
	if err := judge(method, name, answer); err != nil {
		answer.Body.Close()
		return nil, err
	}
	return answer, nil
}

func (m *Mirror) request(ctx context.Context, method, name string) *http.Request {
	u := *m.base
	u.Path += "/" + name
	u.RawPath += "/" + escape(name)
	r := &http.Request{Method: method, URL: &u, Host: u.Host, Header: http.Header{
		"User-Agent":      {userAgent},
		"Accept-Encoding": {"identity"},
	}}
	if m.opts.Revalidate {
		r.Header.Set("Cache-Control", "no-cache")
	}
	return r.WithContext(ctx)
}

// escape returns a name as part of a URL's path. It encodes everything but letters, digits and -._~, because S3
// decodes a bare + as a space.
func escape(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("/-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unanswered describes why no answer came. All errors but those of our own rules are passingErrors.
func (m *Mirror) unanswered(ctx context.Context, err error) error {
	err = bare(err)
	if untrusted := mirror.Untrusted(m.base.Host, err); untrusted != nil {
		return untrusted
	}
	switch {
	case mirror.SpeaksHTTP(err):
		return fmt.Errorf("this server speaks http: want http://%s", m.base.Host)
	case errors.Is(err, errRedirects), errors.Is(err, errDowngrade), errors.Is(err, errElsewhere), errors.Is(err, errPrivate):
		return err
	case context.Cause(ctx) == errSilent:
		return &passingError{err: fmt.Errorf("%w for %v", errSilent, m.opts.Timeout)}
	}
	return &passingError{err: err}
}

// judge returns an error unless the answer has the object.
func judge(method, name string, answer *http.Response) error {
	// The text after the status code comes from the server and says no more than the code.
	said := strings.TrimSpace(fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode)))
	switch code := answer.StatusCode; code {
	case http.StatusOK:
		if coding := answer.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
			return fmt.Errorf("it comes with Content-Encoding %q: these are not the object's bytes", coding)
		}
		return nil
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w (%s)", mirror.ErrNotExist, said)
	case http.StatusForbidden, http.StatusUnauthorized:
		return &mirror.DeniedError{Action: method, Name: name, Detail: said + complaint(answer)}
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &passingError{err: fmt.Errorf("the server says %s%s", said, complaint(answer)), after: retryAfter(answer.Header)}
	default:
		text := beginning(answer)
		if code == http.StatusBadRequest && answer.Request.URL.Scheme == "http" && bytes.Contains(text, []byte("HTTP request")) && bytes.Contains(text, []byte("HTTPS")) {
			return fmt.Errorf("this server speaks https: want https://%s", answer.Request.URL.Host) // as Go and nginx word it
		}
		return fmt.Errorf("the server says %s%s", said, codeIn(text))
	}
}

// complaint returns the error code in an answer of S3 or CloudFront, or an empty string.
func complaint(answer *http.Response) string { return codeIn(beginning(answer)) }

func beginning(answer *http.Response) []byte {
	said, _ := io.ReadAll(io.LimitReader(answer.Body, maxComplaint))
	return said
}

func codeIn(said []byte) string {
	_, after, found := bytes.Cut(said, []byte("<Code>"))
	code, _, closed := bytes.Cut(after, []byte("</Code>"))
	if !found || !closed || len(code) > 100 {
		return ""
	}
	return fmt.Sprintf(": %q", code)
}

// retryAfter reads a Retry-After header in seconds. The other form, a date, is rare and counts as none.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}
