package s3

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/time/rate"

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
		o.Threshold = max(defaultThreshold, o.PartSize)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Validate reports what no bucket can be opened with, before there is one.
func (o Options) Validate() error {
	o.setDefaults()
	if o.Bucket == "" {
		o.Bucket = "any"
	}
	return o.validate()
}

func (o *Options) validate() error {
	if err := errors.Join(CheckARN(o.Bucket), CheckBucket(o.Bucket)); err != nil {
		return err
	}
	switch {
	case o.Bucket == "":
		return errors.New("no bucket given")
	case o.Concurrency < 1:
		return fmt.Errorf("concurrency %d: want at least 1", o.Concurrency)
	case o.PartSize < minPart || o.PartSize > maxPart:
		return fmt.Errorf("part size %d: S3 takes 5 MiB to 5 GiB", o.PartSize)
	case o.Threshold < 0 || o.Threshold > maxSingle:
		return fmt.Errorf("threshold %d: S3 takes at most 5 GiB in one request", o.Threshold)
	case o.LimitRate < 0:
		return fmt.Errorf("limit of %d bytes a second", o.LimitRate)
	case o.SSE != "" && !contains(types.ServerSideEncryption("").Values(), o.SSE):
		return fmt.Errorf("encryption %q: want AES256, aws:kms or aws:kms:dsse", o.SSE)
	case o.KMSKeyID != "" && !strings.HasPrefix(o.SSE, "aws:kms"):
		return fmt.Errorf("a KMS key needs the encryption aws:kms, not %q", o.SSE)
	case o.StorageClass != "" && !contains(types.StorageClass("").Values(), o.StorageClass):
		return fmt.Errorf("storage class %q is not one that S3 knows", o.StorageClass)
	}
	if o.EndpointURL != "" {
		return errors.Join(checkEndpoint(o.EndpointURL), checkNoBucket(o.EndpointURL, o.Bucket))
	}
	return nil
}

func contains[T ~string](known []T, s string) bool {
	for _, k := range known {
		if string(k) == s {
			return true
		}
	}
	return false
}
