package s3

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/time/rate"

	"github.com/vantagecompute/slurm-factory-publish/publish/endpoint"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/bucketname"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/wire"
)

// Options say where a bucket is and how to write to it.
type Options struct {
	// Bucket is its name. Required.
	Bucket string
	// Region of the bucket. Empty: AWS is asked; elsewhere the configured region, or
	// us-east-1, which is what other implementations call themselves.
	Region string
	// EndpointURL of an S3 that is not Amazon's: MinIO, Ceph, R2. Empty: AWS, or what
	// the AWS configuration says.
	EndpointURL string
	// PathStyle puts the bucket into the path and not into the host name. Implied by an
	// endpoint outside amazonaws.com.
	PathStyle bool

	// Concurrency is how many requests are in flight at once, over all objects.
	// 0: 64, and up to 128 while that makes it faster. With a LimitRate it is lowered so
	// far that no upload starves.
	Concurrency int
	// Threshold is the size in bytes above which an object is sent in parts, each of
	// which can be repeated and resumed. 0: 16 MiB; at most 5 GiB.
	Threshold int64
	// PartSize is the size of a part in bytes, 5 MiB to 5 GiB. It is grown for an
	// object that would have more than 9,000 parts. 0: 8 MiB.
	PartSize int64
	// LimitRate is how many bytes of content are sent a second, over all objects.
	// 0: as many as the network takes.
	LimitRate int64
	// Limiter, if set, is what sends at that rate, shared with other buckets. Whoever has made it
	// may change it at any time; LimitRate is then the lowest rate that it ever has.
	Limiter *rate.Limiter

	// SingleWriter is for an S3 that is not Amazon's and does not obey conditions: writes carry
	// none, and what is there is looked at before. That loses what another publisher writes in
	// between.
	SingleWriter bool

	// StorageClass of new objects: STANDARD, STANDARD_IA, INTELLIGENT_TIERING...
	// Empty: what the bucket says.
	StorageClass string
	// SSE is the encryption of new objects: AES256, aws:kms or aws:kms:dsse. Empty: what
	// the bucket says.
	SSE string
	// KMSKeyID is the key for aws:kms. Empty: the account's default key.
	KMSKeyID string

	// Log receives what a user should know although nothing failed. Nil: nothing is said.
	Log *slog.Logger
	// Observe, if set, is called after every request, retries included. It must be
	// quick and safe for concurrent use.
	Observe func(Request)
}

// A Request is one request as it went over the wire.
type Request = wire.Request

func (o *Options) setDefaults() {
	if o.Concurrency == 0 {
		o.Concurrency = defaultConcurrency
	}
	if o.LimitRate > 0 {
		o.Concurrency = min(o.Concurrency, max(1, int(min(o.LimitRate/slowest, 1<<20))))
	}
	if o.PartSize == 0 {
		o.PartSize = defaultPartSize
	}
	if o.Threshold == 0 {
		o.Threshold = max(defaultThreshold, min(o.PartSize, maxSingle))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Validate returns all with which no bucket can be opened, as errors of package field. Bucket may be empty.
func (o Options) Validate() error {
	o.setDefaults()
	if o.Bucket == "" {
		o.Bucket = "any-bucket"
	}
	return o.validate()
}

func (o *Options) validate() error {
	if err := errors.Join(bucketname.CheckARN(o.Bucket), bucketname.Check(o.Bucket)); err != nil {
		return err
	}
	var wrong []error
	refuse := func(when bool, name string, value any, want string) {
		if when {
			wrong = append(wrong, field.Refuse(name, fmt.Sprint(value), "%s", want))
		}
	}
	if o.Region != "" {
		if err := endpoint.CheckRegion(o.Region); err != nil {
			wrong = append(wrong, field.Refuse("region", o.Region, "%w", err))
		}
	}
	refuse(o.Concurrency < 1, "concurrency", o.Concurrency, "want a number of at least 1")
	refuse(o.PartSize < minPart || o.PartSize > maxPart, "part-size", o.PartSize, "S3 takes parts of 5MiB to 5GiB")
	refuse(o.Threshold < 0 || o.Threshold > maxSingle, "threshold", o.Threshold, "S3 takes at most 5 GiB in one request")
	refuse(o.LimitRate < 0, "limit-rate", o.LimitRate, "want a number of bytes a second")
	refuse(o.SSE != "" && !contains(types.ServerSideEncryption("").Values(), o.SSE), "sse", o.SSE, "want AES256, aws:kms or aws:kms:dsse")
	refuse(o.StorageClass != "" && !contains(types.StorageClass("").Values(), o.StorageClass), "storage-class", o.StorageClass, "it is not one that S3 knows")
	if o.KMSKeyID != "" && !strings.HasPrefix(o.SSE, "aws:kms") {
		wrong = append(wrong, field.Wrap("kms-key-id", fmt.Errorf("a KMS key needs the encryption aws:kms, not %q", o.SSE)))
	}
	if o.EndpointURL != "" {
		wrong = append(wrong, field.Wrap("endpoint-url", errors.Join(endpoint.Check(o.EndpointURL), checkNoBucket(o.EndpointURL, o.Bucket))))
	}
	return errors.Join(wrong...)
}

func contains[T ~string](known []T, s string) bool {
	for _, k := range known {
		if string(k) == s {
			return true
		}
	}
	return false
}
