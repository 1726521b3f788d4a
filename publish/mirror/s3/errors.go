package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// An act is something that IAM permits or denies.
type act struct {
	verb   string // for people
	action string // for IAM
}

var (
	reading        = act{"read", "s3:GetObject"}
	looking        = act{"look at", "s3:GetObject"}
	listing        = act{"list", "s3:ListBucket"}
	writing        = act{"write", "s3:PutObject"}
	deleting       = act{"delete", "s3:DeleteObject"}
	listingUploads = act{"list the unfinished uploads of", "s3:ListBucketMultipartUploads"}
	listingParts   = act{"list the parts of", "s3:ListMultipartUploadParts"}
	discarding     = act{"discard an upload of", "s3:AbortMultipartUpload"}
)

// failed says in the mirror's words what S3 said about an act on a key.
func (b *Bucket) failed(a act, key string, err error) error {
	return fmt.Errorf("%s s3://%s/%s: %w", a.verb, b.opts.Bucket, key, b.translate(a, key, err))
}

func (b *Bucket) translate(a act, key string, err error) error {
	code, message := codeOf(err), messageOf(err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, mirror.ErrCredentials):
		return withoutCredentials(err)
	case b.notS3(err) != nil:
		return b.notS3(err)
	case b.elsewhere(err) != "":
		return &mirror.RegionError{Bucket: b.opts.Bucket, Asked: b.Region(), Region: b.elsewhere(err)}
	case a == writing && statusOf(err) == http.StatusNotImplemented:
		return lacking(code, message)
	case redirects(err) != "":
		return mirror.Faultf("it redirects requests to %s, and no credentials are sent there", quoted(redirects(err)))
	case code == "NoSuchBucket":
		return fmt.Errorf("%w: %s", mirror.ErrNoBucket, b.opts.Bucket)
	case credentials.Refused(code):
		return fmt.Errorf("%w: %s: %s", mirror.ErrCredentials, code, message)
	case noRoom[code] || statusOf(err) == http.StatusInsufficientStorage:
		return fmt.Errorf("%w: %s: %s", mirror.ErrFull, code, message)
	case code == "NoSuchKey" || code == "NotFound":
		return mirror.ErrNotExist
	case statusOf(err) == http.StatusForbidden:
		return &mirror.DeniedError{Action: denied(a, message), Name: key, Detail: b.detail(a, code, message)}
	}
	return inFewWords(err)
}

// withoutCredentials returns what was wrong with the credentials, without the steps of the SDK that asked for them.
func withoutCredentials(err error) error {
	if why := (*credentials.Error)(nil); errors.As(err, &why) {
		return why
	}
	return err
}

// notS3 returns what a server is that refuses a request in other words than those of S3; nil: it is S3, or a proxy
// that says that S3 is away.
func (b *Bucket) notS3(err error) error {
	status := statusOf(err)
	if codeOf(err) != notS3Code || status < 400 || status >= 500 {
		return nil
	}
	server := b.opts.EndpointURL
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil && answer.Response.Request != nil {
		u := answer.Response.Request.URL
		server = u.Scheme + "://" + u.Host
	}
	return &mirror.NotS3Error{Server: server, Status: status, Said: messageOf(err)}
}

// A refusedError says in few words what a server answered. The words of the SDK repeat the status, and name an
// operation of its own.
type refusedError struct {
	error         // of the SDK
	status        int
	code, message string
	request       string // its number, for the support of the store
}

func (e *refusedError) Error() string {
	said := fmt.Sprintf("%d %s", e.status, strings.TrimSuffix(e.code+": "+e.message, ": "))
	if e.request != "" {
		said += " (request " + e.request + ")"
	}
	return said
}

func (e *refusedError) Unwrap() error { return e.error }

// inFewWords returns an error that says the same as one of the SDK.
func inFewWords(err error) error {
	code := codeOf(err)
	var answer interface{ ServiceRequestID() string }
	if statusOf(err) == 0 || code == "" {
		return unanswered(err)
	}
	e := &refusedError{error: err, status: statusOf(err), code: code, message: messageOf(err)}
	if errors.As(err, &answer) {
		e.request = answer.ServiceRequestID()
	}
	return e
}

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

// unanswered returns an unreachedError if err says that there was no answer, and err itself if there was one.
func unanswered(err error) error {
	var scheme *mirror.SchemeError
	if errors.As(err, &scheme) {
		return scheme
	}
	var unreached *url.Error
	if statusOf(err) != 0 || !errors.As(err, &unreached) {
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

var noRoom = map[string]bool{
	"InsufficientStorage":            true,
	"QuotaExceeded":                  true,
	"XMinioStorageFull":              true,
	"XMinioAdminBucketQuotaExceeded": true,
}

var performing = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)`)

// denied is the action that is missing. S3 may name one that the act implies, such as
// kms:GenerateDataKey.
func denied(a act, message string) string {
	if said := performing.FindStringSubmatch(message); said != nil {
		return said[1]
	}
	return a.action
}

func (b *Bucket) detail(a act, code, message string) string {
	said := strings.TrimSuffix(code+": "+message, ": ")
	if a.action == reading.action {
		said += " (S3 answers the same for an object that is not there, unless s3:ListBucket is permitted)"
	}
	return said
}

var expecting = regexp.MustCompile(`expecting ['"]([a-z0-9-]+)['"]`)

// elsewhere returns the region that the bucket is in according to a refusal, if that
// is what it was refused for.
func (b *Bucket) elsewhere(err error) string {
	region := ""
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil {
		return ""
	}
	switch answer.HTTPStatusCode() {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		region = answer.Response.Header.Get("X-Amz-Bucket-Region")
	}
	if said := expecting.FindStringSubmatch(messageOf(err)); said != nil && codeOf(err) == "AuthorizationHeaderMalformed" {
		region = said[1]
	}
	if region == b.Region() {
		return ""
	}
	return region
}

// redirects is where an answer says that the request should be sent instead. It is not followed:
// the request has credentials and content for the host that the user has named, and no other.
func redirects(err error) string {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.HTTPStatusCode()/100 != 3 {
		return ""
	}
	to := answer.Response.Header.Get("Location")
	u, err := url.Parse(to)
	switch {
	case err != nil:
		return to
	case u.Host == "":
		return "another path"
	}
	return u.Scheme + "://" + u.Host
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func messageOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorMessage()
	}
	return ""
}

// statusOf is the HTTP status of a refusal; 0: there was no answer.
func statusOf(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}
