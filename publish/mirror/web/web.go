// Package web reads a mirror as its users do: over HTTP, through whatever caches are on
// the way.
//
// What it returns is the object's own bytes or an error: no encoding is undone, no end
// comes too early, and no page that a server shows instead counts. No error shows the
// password of a URL, nor where a redirect led.
//
// A server cannot make it ask another host, ask a private address that the URL does not name, wait without
// end, or hold more than a bounded amount of memory.
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
	// maxHeaders is far above what caches add to an answer.
	maxHeaders = 256 << 10
	// Of what a server says with an error, so much is looked at: the documents of S3 are smaller.
	maxComplaint = 4 << 10

	firstPause   = 250 * time.Millisecond
	longestPause = 15 * time.Second
)

// Options configure a Mirror beyond its URL. The zero value is fit for use.
type Options struct {
	// Revalidate asks every cache on the way to look whether what it has is current.
	// Not all do: CloudFront does not, unless it is set up to.
	Revalidate bool
	// Timeout is how long the server may say nothing, before an answer or within it. A body
	// must have 1 KiB a second, on average over twice this time. Default 30 s.
	Timeout time.Duration
	// Attempts is how often a request is sent in all while the network fails or the
	// server is busy or broken. Default 5, which takes up to 15 s.
	Attempts int
	// Concurrency is how many requests may be in flight at once, each until its body is closed. 0: any number.
	Concurrency int
	// Transport sends the requests. Default is one like http.DefaultTransport.
	Transport http.RoundTripper
}

// A Mirror is a mirror at a URL. It is a mirror.Reader.
type Mirror struct {
	base   *url.URL // the path has no slash at its end
	opts   Options
	client *http.Client

	inFlight *semaphore.Weighted // bounds requests
	unsized  *semaphore.Weighted // bounds the large bodies that are read whole to know their size
}

// Open returns the mirror whose names are below base, an http or https URL. It sends nothing.
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

// Close closes connections that are kept open for the next request.
func (m *Mirror) Close() { m.client.CloseIdleConnections() }

// String is the mirror's URL as it may be shown.
func (m *Mirror) String() string { return show(m.base) }

// show is a URL without what may be secret in it.
func show(u *url.URL) string {
	public := *u
	public.User = nil
	public.RawQuery, public.Fragment = "", ""
	return redact.Without(public.String()) // whatever is taken for something else in it
}

// bare is an error of net/http without the URL that it puts in front.
func bare(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// Open returns an object. Its body is read from the network, so a slow reader may keep
// the server waiting, but not the other way round for longer than Options.Timeout.
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

// Stat tells what Open would open.
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
	info.Modified, _ = http.ParseTime(h.Get("Last-Modified")) // the zero time if it does not say
	// The ETag of S3 may be an MD5, but nothing tells that it is one.
	info.Version = mirror.Version(h.Get("ETag"))
	if info.Version == mirror.Absent {
		info.Version = mirror.Version(fmt.Sprintf("%d at %s", size, h.Get("Last-Modified")))
	}
	return info
}

// ask sends a request until there is an answer that does not pass. It returns only
// answers that have the object.
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

// pause is how long to wait after the n-th attempt: what the server wishes, if that is
// bearable, but not all clients equally long.
func pause(n int, wish time.Duration) time.Duration {
	wait := min(firstPause<<(n-1), longestPause)
	wait = wait/2 + rand.N(wait)
	return max(wait, min(wish, longestPause))
}

// A passingError is one after which it is worth asking again.
type passingError struct {
	err   error
	after time.Duration // when the server wishes to be asked again
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
		err = m.unanswered(patience, err) // before end, which hides the cause
		end()
		return nil, err
	}
	watch.Stop() // until somebody waits for the body
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

// escape is a name in a URL's path. S3 takes a bare + for a space, so everything but
// letters, digits and the four harmless ones is encoded.
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

// unanswered words what kept an answer from coming. All but our own rules may pass.
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
	// What the server says after the number is its own text and says no more.
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
			return fmt.Errorf("this server speaks https: want https://%s", answer.Request.URL.Host) // in the words of Go and of nginx
		}
		return fmt.Errorf("the server says %s%s", said, codeIn(text))
	}
}

// complaint is the error code in what S3 and CloudFront's origin say, if there is one.
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

// retryAfter reads seconds. The other form, a date, is rare and as good as none.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}
