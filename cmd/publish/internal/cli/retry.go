package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// Target returns what targets are opened with: warnings and retries are shown.
func (e Env) Target() target.Environment {
	t := target.Environment{Log: e.Log()}
	if e.Given != nil {
		t.AWS, t.Roots = e.Given.AWS, e.Given.Roots
	}
	if !e.Output.Quiet {
		r := &retries{env: e}
		t.Retrying = r.show
	}
	return t
}

// retries shows that requests are sent again, at most once in retryLine: many may fail at once.
type retries struct {
	env Env

	mu    sync.Mutex // guards shown
	shown time.Time
}

const (
	retryLine = time.Second
	retryFrom = 3 // attempts before are over in a tenth of a second
)

func (r *retries) show(attempt, most int, err error) {
	if attempt < retryFrom {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.shown) < retryLine {
		return
	}
	r.shown = time.Now()
	escape.Fprintf(r.env.Stderr, "%s, trying again (%d/%d)\n", reasonOf(err), attempt, most)
}

// reasonOf says in few words why a request failed.
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
