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

// Options configure a bucket.
type Options struct {
	// Bucket is the name of the bucket. Required.
	Bucket string
	// Region is the region of the bucket. If it is empty, AWS is asked for it; for other services it is the
	// configured region, or us-east-1, which most of them use.
	Region string
	// EndpointURL is the URL of an S3 other than Amazon's, such as MinIO, Ceph or R2. If it is empty, the AWS
	// configuration decides.
	EndpointURL string
	// PathStyle puts the bucket into the path instead of the host name. An endpoint outside amazonaws.com implies
	// it.
	PathStyle bool

	// Concurrency is the maximum number of requests in flight, over all objects. 0 means 64, and up to 128 while
	// that is faster. With a LimitRate it is lowered so that each upload keeps moving.
	Concurrency int
	// Threshold is the size in bytes above which an object is sent in parts. Each part can be repeated and resumed.
	// 0 means 16 MiB; the maximum is 5 GiB.
	Threshold int64
	// PartSize is the size of a part in bytes, from 5 MiB to 5 GiB. It grows for objects that would have more than
	// 9,000 parts. 0 means 8 MiB.
	PartSize int64
	// LimitRate is the maximum rate of sent content in bytes a second, over all objects. 0 sets no limit.
	LimitRate int64
	// Limiter, if set, enforces that rate, and may be shared with other buckets. Its owner may change its rate at
	// any time; LimitRate is then the lowest rate that it ever has.
	Limiter *rate.Limiter

	// SingleWriter is for an S3 that does not obey conditions. Writes then carry none, and the existing object is
	// compared first. What another publisher writes in between is lost.
	SingleWriter bool

	// StorageClass is the storage class of new objects: STANDARD, STANDARD_IA, INTELLIGENT_TIERING and so on. If it
	// is empty, the bucket decides.
	StorageClass string
	// SSE is the encryption of new objects: AES256, aws:kms or aws:kms:dsse. If it is empty, the bucket decides.
	SSE string
	// KMSKeyID is the key for aws:kms. If it is empty, it is the default key of the account.
	KMSKeyID string

	// Log receives warnings about requests that succeeded. Nil disables it.
	Log *slog.Logger
	// Observe, if set, is called after every request, retries included. It must be
	// quick and safe for concurrent use.
	Observe func(Request)
}

// A Request describes one HTTP request.
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

// Validate returns all mistakes in the options, as errors of package field. Bucket may be empty.
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
