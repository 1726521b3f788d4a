package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	smithytime "github.com/aws/smithy-go/time"
	"github.com/sethvargo/go-githubactions"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// GitHub is the TokenSource of a job on GitHub. Its errors are *AuthErrors that say what the job lacks.
type GitHub struct {
	// Getenv reads the environment that GitHub gave the job.
	Getenv func(string) string
	// Client sends the requests to GitHub, with the proxy and the certificates to use. Nil means
	// http.DefaultTransport.
	Client *http.Client
	// Log receives a line when a request to GitHub is repeated. It may be nil.
	Log *slog.Logger

	skew atomic.Int64 // nanoseconds by which GitHub's clock is ahead of the local one
}

const (
	tokenTries   = 5
	tokenTimeout = 10 * time.Second // of one request
	tokenPause   = 500 * time.Millisecond
	longestPause = 8 * time.Second
)

// Token requests a token from GitHub, and repeats the request if that may help.
func (g *GitHub) Token(ctx context.Context, audience string) (string, error) {
	pause := tokenPause
	for try := 1; ; try++ {
		token, err := g.ask(ctx, audience)
		switch {
		case err == nil:
			return token, nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case !passes(err) || try == tokenTries:
			return "", g.explain(err, try)
		}
		g.log().Info("GitHub gave no token, asking again", "try", try, "reason", reason(err))
		if err := smithytime.SleepWithContext(ctx, pause/2+jitter(pause/2)); err != nil {
			return "", err
		}
		pause = min(2*pause, longestPause)
	}
}

var errEmptyToken = errors.New("the answer has no token")

// ask makes one request.
func (g *GitHub) ask(ctx context.Context, audience string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	client := http.Client{}
	if g.Client != nil {
		client = *g.Client
	}
	client.Transport = &dated{next: client.Transport, skew: &g.skew}
	action := githubactions.New(
		githubactions.WithGetenv(g.Getenv),
		githubactions.WithHTTPClient(&client),
		githubactions.WithWriter(io.Discard))
	token, err := action.GetIDToken(ctx, audience)
	if err == nil && token == "" {
		err = errEmptyToken
	}
	return token, err
}

// passes reports whether another request may succeed.
func passes(err error) bool {
	var untrusted *mirror.CertificateError
	var missing *githubactions.EnvMissingError
	var refused *githubactions.RequestFailedError
	switch {
	case errors.As(err, &missing), errors.As(err, &untrusted):
		return false
	case errors.As(err, &refused):
		return refused.StatusCode >= 500 || refused.StatusCode == http.StatusTooManyRequests || refused.StatusCode == http.StatusRequestTimeout
	}
	return true
}

// Skew returns by how much GitHub's clock was ahead of the local one at its latest answer.
func (g *GitHub) Skew() time.Duration { return time.Duration(g.skew.Load()) }

func (g *GitHub) log() *slog.Logger {
	if g.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return g.Log
}

// dated reads the clock of the server from its answers.
type dated struct {
	next http.RoundTripper
	skew *atomic.Int64
}

func (d *dated) RoundTrip(r *http.Request) (*http.Response, error) {
	next := d.next
	if next == nil {
		next = http.DefaultTransport
	}
	answer, err := next.RoundTrip(r)
	if untrusted := mirror.Untrusted(r.URL.Host, err); untrusted != nil {
		return nil, untrusted
	}
	if err != nil {
		return nil, err
	}
	if theirs, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		d.skew.Store(int64(time.Until(theirs) + time.Second/2)) // it has no fraction of a second
	}
	return answer, nil
}

// reason returns GitHub's message, on one line and without the request token.
func reason(err error) string {
	var refused *githubactions.RequestFailedError
	if errors.As(err, &refused) {
		return strings.TrimSpace(fmt.Sprintf("%d %s %s", refused.StatusCode, http.StatusText(refused.StatusCode), oneLine(refused.Body)))
	}
	return oneLine(err.Error())
}

// oneLine returns a foreign text in a form that fits into one line.
func oneLine(s string) string {
	if s = joined(s); len(s) > longestQuote {
		s = strings.ToValidUTF8(s[:longestQuote], "") + "..."
	}
	return s
}

// joined returns a text of several lines as one line.
func joined(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
}

const longestQuote = 400
