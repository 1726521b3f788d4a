// Package retrying shows that requests are retried.
package retrying

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// On returns a function that reports retries of requests on w, at most once per second: many may fail at once.
func On(w io.Writer) func(attempt, most int, err error) { return (&retries{out: w}).show }

// Line says that a request is retried, and why. It is empty for the first attempts, which take a tenth of a
// second.
func Line(attempt, most int, err error) string {
	if attempt < retryFrom {
		return ""
	}
	return fmt.Sprintf("%s, trying again (%d/%d)", reasonOf(err), attempt, most)
}

// retries remembers when a line was last shown.
type retries struct {
	out io.Writer

	mu    sync.Mutex // guards shown
	shown time.Time
}

const (
	retryLine = time.Second
	retryFrom = 3
)

func (r *retries) show(attempt, most int, err error) {
	line := Line(attempt, most, err)
	if line == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.shown) < retryLine {
		return
	}
	r.shown = time.Now()
	escape.Fprintf(r.out, "%s\n", line)
}

// reasonOf returns in a few words why a request failed.
func reasonOf(err error) string {
	var api interface { // of the SDK
		error
		ErrorCode() string
		ErrorMessage() string
	}
	var unreached *url.Error
	var op *net.OpError
	var errno syscall.Errno
	var dns *net.DNSError
	server := ""
	if errors.As(err, &unreached) {
		if u, parseErr := url.Parse(unreached.URL); parseErr == nil {
			server = u.Scheme + "://" + u.Host + ": "
		}
	}
	if proxy := (*mirror.ProxyError)(nil); errors.As(err, &proxy) {
		server = "proxy " + proxy.Proxy + ": "
	}
	switch {
	case errors.As(err, &dns):
		return server + dns.Err
	case errors.As(err, &errno):
		return server + errno.Error()
	case errors.As(err, &op):
		return server + op.Err.Error()
	case errors.As(err, &api):
		return fmt.Sprintf("%s %s", api.ErrorCode(), api.ErrorMessage())
	case unreached != nil:
		return server + unreached.Err.Error()
	}
	return err.Error()
}
