// Package s3 stores mirrors in a bucket of Amazon S3 or of a compatible service.
//
// Content is hashed before it is sent, and S3 enforces the checksum. Every write carries a condition, so an
// existing object is never overwritten unseen. If an answer is lost or refused, the existing object is read instead
// of guessing. Interrupted uploads are found in S3 itself and resumed.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/time/rate"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/endpoint"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/checksum"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/copies"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/put"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/slots"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/unfinished"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/wire"
	"github.com/vantagecompute/slurm-factory-publish/publish/nofile"
	"github.com/vantagecompute/slurm-factory-publish/publish/unreached"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	// Limits of S3, in bytes:
	minPart   = 5 * mib
	maxPart   = 5 * gib
	maxSingle = 5 * gib // one PutObject

	// maxParts is below the 10,000 of S3, because a resumed upload keeps its part size even if another program
	// chose it.
	maxParts = 9000

	// The sizes and the number of requests were measured with buckets up to 150 ms away that give 10 to 50 MB/s to
	// each connection. Fewer than 64 connections are slower, 128 may be a third faster, 256 are not faster still,
	// and neither are parts of 16 MiB.
	defaultConcurrency = 64
	mostConcurrency    = 128
	defaultPartSize    = 8 * mib
	defaultThreshold   = 16 * mib

	// stall is how long a request may go on without a byte moving in either direction.
	stall = 60 * time.Second

	// slowest is the rate below which S3 aborts an upload that shares a limited rate with others (it waits for
	// about 20 s). Fewer uploads are then sent at once.
	slowest = 64 << 10
)

// NewLimiter returns a limiter of so many bytes a second. Its burst is what was not used in the last twentieth of a
// second.
func NewLimiter(bytes int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytes), max(put.Piece, int(min(bytes/20, gib))))
}

// A Bucket is an open bucket. All its mirrors share its connections, its limit on requests in flight and its rate
// limit.
type Bucket struct {
	opts    Options
	client  *sdk.Client
	puts    *put.Client // sends content; everything else goes through client
	uploads unfinished.Uploads

	// slots bounds the requests in flight. It serves callers in order of arrival, so an object that was started
	// first is finished first.
	slots  *slots.Slots
	hasher *checksum.Hasher
	limit  *rate.Limiter // nil for no limit

	warnNoResume sync.Once

	foreign bool     // the endpoint is not Amazon's
	place   string   // identifies the bucket at a foreign endpoint
	proved  sync.Map // the conditions that the storage was seen to obey

	copies        copies.Place
	refusesCopies sync.Map // names of buckets from which copies were refused
}

// Open opens a bucket. It sends no request, except to ask AWS for the region of the bucket if none is given.
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
		opts:   o,
		slots:  slots.New(o.Concurrency, most),
		hasher: checksum.New(),
	}
	if b.limit = o.Limiter; b.limit == nil && o.LimitRate > 0 {
		b.limit = NewLimiter(o.LimitRate)
	}
	if err := b.connect(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open s3://%s: %w", o.Bucket, err)
	}
	return b, nil
}

// connect makes the two clients of a bucket: the SDK's client, and the client that sends content. The latter takes
// its configuration from the former, so that they never disagree.
func (b *Bucket) connect(ctx context.Context, cfg aws.Config) error {
	next := cfg.HTTPClient
	if next == nil {
		next = awshttp.NewBuildableClient()
	}
	client := sdk.NewFromConfig(cfg, func(o *sdk.Options) {
		o.HTTPClient = &wire.Client{Next: wire.Unredirected(next), Patience: stall, Observe: b.opts.Observe}
		o.Credentials = credentials.Tagged(o.Credentials)
		o.Retryer = wary(o.Retryer)
		if b.opts.EndpointURL != "" {
			o.BaseEndpoint = aws.String(b.opts.EndpointURL)
		}
		o.UsePathStyle = b.opts.PathStyle || foreign(o.BaseEndpoint)
		// Content carries checksums computed here. The SDK computes no others.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	if at := client.Options().BaseEndpoint; at != nil { // from the options or the AWS configuration
		if err := endpoint.Check(*at); err != nil {
			return err
		}
	}
	region, err := b.region(ctx, client)
	if err != nil {
		return err
	}
	b.client = sdk.New(client.Options(), func(o *sdk.Options) { o.Region = region })
	if at := client.Options().BaseEndpoint; foreign(at) {
		b.foreign, b.place = true, placeOf(*at, b.opts.Bucket)
	}
	b.uploads = unfinished.Uploads{Client: b.client, Slots: b.slots, Bucket: b.opts.Bucket}
	c := &b.copies
	c.Client, c.Slots, c.Uploads, c.Bucket, c.OnePart, c.Foreign = b.client, b.slots, b.uploads, b.opts.Bucket, maxSingle, b.foreign
	c.StorageClass, c.SSE, c.KMSKeyID = b.opts.StorageClass, b.opts.SSE, b.opts.KMSKeyID
	c.Overwriting = func() {
		b.opts.Log.Warn("the storage ignores If-None-Match on copies, so objects are copied as parts of uploads, where it does that, and others pass through this machine: see publish doctor")
	}
	b.puts, err = put.New(ctx, b.client.Options(), b.opts.Bucket, b.limit, b.slots)
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
	// This is the only use of feature/s3/manager: it finds the region of a bucket in any partition with an unsigned
	// request that needs no permission. Its main purpose, uploading, is done here: see DESIGN.md, "An engine of our
	// own".
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
		return configured, nil // this request may be forbidden although the bucket is not
	}
	return "", fmt.Errorf("find its region: %w", unreached.Error(err))
}

// call makes one request through the SDK, in a slot of its own.
func call[In, Out any](ctx context.Context, b *Bucket, op func(context.Context, *In, ...func(*sdk.Options)) (*Out, error), in *In) (*Out, error) {
	return slots.Call(ctx, b.slots, func() (*Out, error) { return op(ctx, in) })
}

// wary also repeats requests whose answer was cut off.
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

// A Mirror is the part of a bucket below a prefix. Names are relative to the prefix.
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

	_ mirror.BatchDeleter = (*Deleter)(nil)
)

// Mirror returns the mirror below prefix. The empty prefix is the whole bucket.
func (b *Bucket) Mirror(prefix string) *Mirror {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return &Mirror{bucket: b, prefix: prefix}
}

func (m *Mirror) String() string { return "s3://" + m.bucket.opts.Bucket + "/" + m.prefix }

func (m *Mirror) key(name string) string { return m.prefix + name }

// Options returns the options of the bucket, with defaults filled in.
func (b *Bucket) Options() Options { return b.opts }

// Region returns the region of the bucket.
func (b *Bucket) Region() string { return b.client.Options().Region }
