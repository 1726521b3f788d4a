// Package s3 is a mirror in an S3 bucket, or in anything that speaks S3.
//
// Content is hashed before it is sent, and S3 is told the checksum that must arrive. An
// object that is there is never overwritten unseen: every write carries a condition, and
// when an answer is lost or refused we look at what is there instead of guessing.
// Interrupted uploads are found in S3 itself and go on where they stopped.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/nofile"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/sha256x2"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	// Limits of S3.
	minPart   = 5 * mib
	maxPart   = 5 * gib
	maxSingle = 5 * gib // one PutObject

	// maxParts stays below the 10,000 of S3, because a resumed upload keeps its part
	// size even if it was chosen by somebody who counts otherwise.
	maxParts = 9000

	// The sizes and the number of requests were measured against buckets that are up to 150
	// ms away and give 10 to 50 MB/s to each connection: below 64 connections it gets slower,
	// with 128 it may be a third faster, with 256 it is not, and parts of 16 MiB are no
	// faster than these.
	defaultConcurrency = 64
	mostConcurrency    = 128
	defaultPartSize    = 8 * mib
	defaultThreshold   = 16 * mib

	// stall is how long a request may go without a byte moving in either direction.
	stall = 60 * time.Second

	// slowest is the rate below which S3 gives up on an upload that shares a limited
	// rate with others (it waits for about 20 s): fewer are sent at once then.
	slowest = 64 << 10
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
type Request struct {
	Operation string // in S3's words: PutObject
	Status    int    // of the answer; 0: there was none
	Err       error  // why there was none
	Took      time.Duration
	Date      time.Time // by the clock of the server; zero: it did not say
}

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

// checkNoBucket refuses an endpoint whose path ends in the name of the bucket, which is appended to it.
func checkNoBucket(endpoint, bucket string) error {
	u, err := redact.Parse(endpoint)
	if err != nil || bucket == "" || path.Base(u.Path) != bucket {
		return nil
	}
	return fmt.Errorf("endpoint %q: it must not contain the bucket, which is appended: want %s", redact.URL(endpoint), u.Scheme+"://"+u.Host+strings.TrimSuffix(path.Dir(u.Path), "/"))
}

// checkEndpoint refuses what is no endpoint. A password in it would do nothing but be shown: requests are
// signed.
func checkEndpoint(endpoint string) error {
	u, err := redact.Parse(endpoint)
	if err != nil && !strings.Contains(endpoint, "://") && !redact.Has(endpoint) {
		return fmt.Errorf("endpoint %q: want http:// or https:// in front of it", endpoint)
	}
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	switch shown := redact.URL(endpoint); {
	case redact.Has(endpoint):
		return fmt.Errorf("endpoint %q: it must not have a user or a password: S3 takes access keys, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", shown)
	case u.Host == "" && u.Scheme == "" || !strings.Contains(endpoint, "://"):
		return fmt.Errorf("endpoint %q: want http:// or https:// in front of it", shown)
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("endpoint %q: want http://host or https://host", shown)
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

// A Bucket is an open bucket. All mirrors in it share its connections, its bound on
// requests in flight and its rate limit.
type Bucket struct {
	opts   Options
	client *sdk.Client
	direct direct

	// slots bounds the requests in flight. Whoever waits for one does so in order of
	// arrival, so that an object that was begun first is finished first.
	slots *slots
	// hashers bounds how many objects are being hashed: more than the processors hash best at
	// once would only make each of them later.
	hashers *semaphore.Weighted
	// pairs hashes two of them in the time of one.
	pairs sha256x2.Pairs
	limit *rate.Limiter // nil: none

	warnNoResume sync.Once

	foreign bool     // the endpoint is not Amazon's
	place   string   // identifies the bucket at a foreign endpoint
	proved  sync.Map // the conditions that it was seen to obey

	refusesCopies sync.Map // by name: buckets from which this one may not be asked to copy
}

// Open makes a bucket ready for use. It sends no request, except to ask AWS for the region
// of a bucket if none is given.
func Open(ctx context.Context, cfg aws.Config, o Options) (*Bucket, error) {
	asked := o
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	most := o.Concurrency
	if asked.Concurrency == 0 && asked.LimitRate == 0 && asked.Limiter == nil {
		most = mostConcurrency
	}
	if few := nofile.AtOnce(most, 1); few < most {
		if asked.Concurrency > few {
			o.Log.Warn("fewer requests are made at once than asked for", "concurrency", few, "asked for", asked.Concurrency, "reason", fmt.Sprintf("%d files may be open (ulimit -n)", nofile.Limit()))
		}
		most, o.Concurrency = few, min(o.Concurrency, few)
	}
	b := &Bucket{
		opts:    o,
		slots:   newSlots(o.Concurrency, most),
		hashers: semaphore.NewWeighted(int64(sha256x2.PerProcessor() * runtime.GOMAXPROCS(0))),
	}
	if b.limit = o.Limiter; b.limit == nil && o.LimitRate > 0 {
		b.limit = NewLimiter(o.LimitRate)
	}
	if err := b.connect(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open s3://%s: %w", o.Bucket, err)
	}
	return b, nil
}

// connect makes the two clients of a bucket: the SDK's, and the direct one, which takes
// everything from the SDK's so that they never disagree.
func (b *Bucket) connect(ctx context.Context, cfg aws.Config) error {
	next := cfg.HTTPClient
	if next == nil {
		next = awshttp.NewBuildableClient()
	}
	client := sdk.NewFromConfig(cfg, func(o *sdk.Options) {
		o.HTTPClient = &watched{next: unredirected(next), patience: stall, observe: b.opts.Observe}
		o.Credentials = credentials.Tagged(o.Credentials)
		o.Retryer = wary(o.Retryer)
		if b.opts.EndpointURL != "" {
			o.BaseEndpoint = aws.String(b.opts.EndpointURL)
		}
		o.UsePathStyle = b.opts.PathStyle || foreign(o.BaseEndpoint)
		// Content carries the checksums that we computed. Nothing else is hashed.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	if at := client.Options().BaseEndpoint; at != nil && redact.Has(*at) { // from AWS_ENDPOINT_URL or a profile
		return checkEndpoint(*at)
	}
	region, err := b.region(ctx, client)
	if err != nil {
		return err
	}
	b.client = sdk.New(client.Options(), func(o *sdk.Options) { o.Region = region })
	if endpoint := client.Options().BaseEndpoint; foreign(endpoint) {
		b.foreign, b.place = true, placeOf(*endpoint, b.opts.Bucket)
	}
	b.direct, err = newDirect(ctx, b.client.Options(), b.opts.Bucket)
	return err
}

// Foreign reports whether EndpointURL is an S3 that is not Amazon's.
func (o Options) Foreign() bool { return o.EndpointURL != "" && foreign(&o.EndpointURL) }

// foreign reports whether an endpoint is not Amazon's.
func foreign(endpoint *string) bool {
	if endpoint == nil {
		return false
	}
	u, err := url.Parse(*endpoint)
	if err != nil {
		return true
	}
	host := u.Hostname()
	return !strings.HasSuffix(host, ".amazonaws.com") && !strings.HasSuffix(host, ".amazonaws.com.cn")
}

func (b *Bucket) region(ctx context.Context, client *sdk.Client) (string, error) {
	configured := client.Options().Region
	switch {
	case b.opts.Region != "":
		return b.opts.Region, nil
	case foreign(client.Options().BaseEndpoint):
		if configured == "" {
			return "us-east-1", nil
		}
		return configured, nil
	}
	// Any region of the partition can answer. The question is not signed, so it needs
	// no permission.
	region, err := manager.GetBucketRegion(ctx, client, b.opts.Bucket, func(o *sdk.Options) {
		if o.Region == "" {
			o.Region = "us-east-1"
		}
	})
	var missing manager.BucketNotFound
	switch {
	case errors.As(err, &missing):
		return "", mirror.ErrNoBucket
	case err == nil && region != "":
		return region, nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case configured != "":
		return configured, nil // the question may be forbidden where the bucket is not
	}
	return "", fmt.Errorf("find its region: %w", unanswered(err))
}

// call makes one request through the SDK, in a slot of its own.
func call[In, Out any](ctx context.Context, b *Bucket, op func(context.Context, *In, ...func(*sdk.Options)) (*Out, error), in *In) (*Out, error) {
	s := slot{of: b.slots}
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.free()
	out, err := op(ctx, in)
	b.slots.moved(answerWorth)
	return out, err
}

// wary also repeats requests whose answer was cut short.
func wary(r aws.Retryer) aws.Retryer {
	v2, ok := r.(aws.RetryerV2)
	if !ok {
		return r
	}
	return waryRetryer{v2}
}

type waryRetryer struct{ aws.RetryerV2 }

func (r waryRetryer) IsErrorRetryable(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || r.RetryerV2.IsErrorRetryable(err)
}

// A Mirror is the part of a bucket below a prefix. Names are relative to it.
type Mirror struct {
	bucket *Bucket
	prefix string // empty, or ends in a slash
}

var (
	_ mirror.Reader     = (*Mirror)(nil)
	_ mirror.Lister     = (*Mirror)(nil)
	_ mirror.Writer     = (*Mirror)(nil)
	_ mirror.Swapper    = (*Mirror)(nil)
	_ mirror.Sweeper    = (*Mirror)(nil)
	_ mirror.Prover     = (*Mirror)(nil)
	_ mirror.PartReader = (*Mirror)(nil)
	_ mirror.Deleter    = (*Deleter)(nil)
)

// Mirror returns the mirror below prefix; the empty prefix is the whole bucket.
func (b *Bucket) Mirror(prefix string) *Mirror {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return &Mirror{bucket: b, prefix: prefix}
}

func (m *Mirror) String() string { return "s3://" + m.bucket.opts.Bucket + "/" + m.prefix }

func (m *Mirror) key(name string) string { return m.prefix + name }

// Options are those that the bucket was opened with, and the defaults of the others.
func (b *Bucket) Options() Options { return b.opts }

// Region is the region of the bucket.
func (b *Bucket) Region() string { return b.client.Options().Region }

// operation is how requests that do not go through the SDK are told apart.
type operation struct{}

func operationOf(r *http.Request) string {
	if op, ok := r.Context().Value(operation{}).(string); ok {
		return op
	}
	return sdkOperation(r.Context())
}
