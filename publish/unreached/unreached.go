// Package unreached says in few words that a server of AWS, or of its kind, did not answer.
package unreached

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// An unreachedError says in few words that a server did not answer. The words of the SDK have the status and the
// numbers of an answer that there was not.
type unreachedError struct {
	error         // of the SDK
	server string // scheme, host and port
	why    error
	tries  int
}

func (e *unreachedError) Error() string {
	said := fmt.Sprintf("%s cannot be reached: %v", e.server, e.why)
	if e.tries > 1 {
		said += fmt.Sprintf(" (tried %d times)", e.tries)
	}
	return said
}

func (e *unreachedError) Unwrap() error { return e.error }

// Error returns an unreachedError if err says that there was no answer, and err itself if there was one.
func Error(err error) error {
	var scheme *mirror.SchemeError
	if errors.As(err, &scheme) {
		return scheme
	}
	var unreached *url.Error
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 || !errors.As(err, &unreached) {
		return err
	}
	u, parseErr := url.Parse(unreached.URL)
	if parseErr != nil || u.Host == "" {
		return err
	}
	e := &unreachedError{error: err, server: u.Scheme + "://" + u.Host, why: unreached.Err}
	var exceeded *retry.MaxAttemptsError
	if errors.As(err, &exceeded) {
		e.tries = exceeded.Attempt
	}
	return e
}
