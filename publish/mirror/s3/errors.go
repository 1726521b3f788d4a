package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
)

// An act is an operation that IAM permits or denies.
type act struct {
	verb   string // for people
	action string // for IAM
}

var (
	reading        = act{"read", "s3:GetObject"}
	looking        = act{"look at", "s3:GetObject"}
	listingKeys    = act{"list", "s3:ListBucket"}
	writing        = act{"write", "s3:PutObject"}
	deleting       = act{"delete", "s3:DeleteObject"}
	listingUploads = act{"list the unfinished uploads of", "s3:ListBucketMultipartUploads"}
	listingParts   = act{"list the parts of", "s3:ListMultipartUploadParts"}
	discarding     = act{"discard an upload of", "s3:AbortMultipartUpload"}
)

// failed translates an error of S3 about an act on a key into an error of package mirror.
func (b *Bucket) failed(a act, key string, err error) error {
	return fmt.Errorf("%s s3://%s/%s: %w", a.verb, b.opts.Bucket, key, b.translate(a, key, err))
}

func (b *Bucket) translate(a act, key string, err error) error {
	code, message := answer.Code(err), answer.Message(err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, mirror.ErrCredentials):
		return withoutCredentials(err)
	case answer.FromAnother(err, b.opts.EndpointURL) != nil:
		return answer.FromAnother(err, b.opts.EndpointURL)
	case !slices.Contains([]string{"", b.Region()}, answer.Region(err)):
		return &mirror.RegionError{Bucket: b.opts.Bucket, Asked: b.Region(), Region: answer.Region(err)}
	case a == writing && answer.Status(err) == http.StatusNotImplemented:
		return answer.Lacking(err)
	case answer.Redirect(err) != "":
		return mirror.Faultf("it redirects requests to %s, and no credentials are sent there", answer.Quoted(answer.Redirect(err)))
	case code == "NoSuchBucket":
		return fmt.Errorf("%w: %s", mirror.ErrNoBucket, b.opts.Bucket)
	case credentials.Refused(code):
		return fmt.Errorf("%w: %s: %s", mirror.ErrCredentials, code, message)
	case answer.Full(err):
		return fmt.Errorf("%w: %s: %s", mirror.ErrFull, code, message)
	case a == listingKeys && code == "NoSuchKey": // S3 never answers a listing with it
		return &mirror.NotS3Error{Server: b.opts.EndpointURL, Status: answer.Status(err), Said: code + " for a listing"}
	case code == "NoSuchKey" || code == "NotFound":
		return mirror.ErrNotExist
	case answer.Status(err) == http.StatusForbidden:
		return &mirror.DeniedError{Action: cmp.Or(answer.Denied(err), a.action), Name: key, Detail: b.detail(a, code, message)}
	}
	return answer.InFewWords(err)
}

// withoutCredentials returns the error of the credentials, without the SDK's chain of calls around it.
func withoutCredentials(err error) error {
	if why := (*credentials.Error)(nil); errors.As(err, &why) {
		return why
	}
	return err
}

func (b *Bucket) detail(a act, code, message string) string {
	said := strings.TrimSuffix(code+": "+message, ": ")
	if a.action == reading.action {
		said += " (S3 answers the same for an object that is not there, unless s3:ListBucket is permitted)"
	}
	return said
}
