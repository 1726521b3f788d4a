// Package put sends content, by PutObject and UploadPart, without the SDK's middleware. For an object of a few KB,
// the middleware costs several times as much as everything else.
package put

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyauth "github.com/aws/smithy-go/auth"
	"github.com/aws/smithy-go/encoding/httpbinding"
	smithytime "github.com/aws/smithy-go/time"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/time/rate"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/slots"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/wire"
)

// A Client sends content to one bucket. It uses the address, credentials, signer, connections and retries of the
// SDK's client.
type Client struct {
	limit *rate.Limiter // nil: none
	slots *slots.Slots

	scheme, host  string
	base          string // path of the bucket, without a slash at the end
	service       string // what the signature is for: s3
	region        string
	headers       http.Header // required by the endpoint in every request
	http          sdk.HTTPClient
	credentials   aws.CredentialsProvider // nil for unsigned requests
	signer        *v4.Signer
	retryer       aws.Retryer
	attemptTokens aws.RetryerV2 // nil if the retryer has none
	Skew          atomic.Int64  // nanoseconds by which S3's clock is ahead, according to its answers
}

// New returns a client that sends requests to the same address as the SDK's client with these options.
func New(ctx context.Context, o sdk.Options, bucket string, limit *rate.Limiter, s *slots.Slots) (*Client, error) {
	endpoint, err := o.EndpointResolverV2.ResolveEndpoint(ctx, sdk.EndpointParameters{
		Bucket:                         aws.String(bucket),
		Region:                         aws.String(o.Region),
		UseFIPS:                        aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack:                   aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		Endpoint:                       o.BaseEndpoint,
		ForcePathStyle:                 aws.Bool(o.UsePathStyle),
		Accelerate:                     aws.Bool(o.UseAccelerate),
		UseArnRegion:                   aws.Bool(o.UseARNRegion),
		DisableMultiRegionAccessPoints: aws.Bool(o.DisableMultiRegionAccessPoints),
	})
	if err != nil {
		return nil, err
	}
	c := &Client{
		limit: limit, slots: s,
		scheme:  endpoint.URI.Scheme,
		host:    endpoint.URI.Host,
		base:    endpoint.URI.Path,
		service: "s3",
		region:  o.Region,
		headers: endpoint.Headers,
		http:    o.HTTPClient,
		signer: v4.NewSigner(func(s *v4.SignerOptions) {
			s.DisableURIPathEscaping = true // S3 expects one escape, which is done here
		}),
		credentials: o.Credentials,
		retryer:     o.Retryer,
	}
	for len(c.base) > 0 && c.base[len(c.base)-1] == '/' {
		c.base = c.base[:len(c.base)-1]
	}
	c.attemptTokens, _ = o.Retryer.(aws.RetryerV2)
	return c, c.scope(endpoint.Properties)
}

// scope reads from the endpoint what requests are signed for.
func (c *Client) scope(p smithy.Properties) error {
	schemes, _ := smithyauth.GetAuthOptions(&p)
	for _, s := range schemes {
		if s.SchemeID != smithyauth.SchemeIDSigV4 && s.SchemeID != "sigv4" { // the short name in endpoint rules
			continue
		}
		if name, ok := smithyhttp.GetSigV4SigningName(&s.SignerProperties); ok {
			c.service = name
		}
		if region, ok := smithyhttp.GetSigV4SigningRegion(&s.SignerProperties); ok {
			c.region = region
		}
		return nil
	}
	if len(schemes) > 0 {
		return fmt.Errorf("the bucket wants signatures of the kind %s, which we cannot make", schemes[0].SchemeID)
	}
	return nil
}

// A Request has content: a whole object, or a part of one.
type Request struct {
	Operation string
	Key       string
	Query     string // encoded; empty for a whole object
	Header    http.Header
	Content   io.ReaderAt
	Off, Size int64
	Sent      func(int64) // may be nil
	// Repeatable says that the request may be repeated after S3 has answered that another request conflicts.
	Repeatable bool
}

// damaged is how often content is sent again that arrived with other bytes than were hashed. If that happens more
// often, the network is not the cause.
const damaged = 3

// Send sends content, with retries as the retryer decides, and returns the ETag. The caller holds the slot before
// and after the call. During pauses, the slot is free for others.
func (c *Client) Send(ctx context.Context, p Request, s *slots.Slot) (string, error) {
	release := func(error) error { return nil }
	for attempt := 1; ; attempt++ {
		etag, err := c.Attempt(ctx, p)
		release(err)
		if err == nil || ctx.Err() != nil || !c.again(err, p, attempt) {
			return etag, err
		}
		if most := c.retryer.MaxAttempts(); most > 0 && attempt >= most {
			return "", fmt.Errorf("after %d attempts: %w", attempt, err)
		}
		if release, err = c.pause(ctx, err, attempt, s); err != nil {
			return "", err
		}
	}
}

// pause waits for the retryer's delay after a failed attempt, without the slot. It returns a function that must
// receive the result of the next attempt.
func (c *Client) pause(ctx context.Context, failure error, attempt int, s *slots.Slot) (func(error) error, error) {
	release, err := c.retryer.GetRetryToken(ctx, failure)
	if err != nil {
		return nil, errors.Join(failure, err)
	}
	delay, err := c.retryer.RetryDelay(attempt, failure)
	if err != nil {
		return nil, errors.Join(failure, err)
	}
	s.Free()
	if err := smithytime.SleepWithContext(ctx, delay); err != nil {
		return nil, err
	}
	return release, s.Take(ctx)
}

// again reports whether a failed attempt should be repeated.
func (c *Client) again(err error, p Request, attempt int) bool {
	if errors.Is(err, blob.ErrChanged) {
		return false
	}
	switch answer.Code(err) {
	case "ConditionalRequestConflict", "OperationAborted":
		return p.Repeatable
	case "BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest":
		return attempt < damaged
	case "RequestTimeTooSkewed":
		return attempt == 1 // the clock skew is known now
	}
	return c.retryer.IsErrorRetryable(err)
}

// Attempt sends content once. It does not start after ctx is done.
func (c *Client) Attempt(ctx context.Context, p Request) (etag string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if c.attemptTokens != nil {
		release, tokenErr := c.attemptTokens.GetAttemptToken(ctx)
		if tokenErr != nil {
			return "", tokenErr
		}
		defer func() { release(err) }() // so that all requests slow down when S3 requires it
	}
	body := &body{ctx: ctx, content: p.Content, off: p.Off, end: p.Off + p.Size, limit: c.limit, slots: c.slots, sent: p.Sent}
	r, err := c.request(ctx, p, body)
	if err != nil {
		return "", err
	}
	reply, err := c.http.Do(r)
	if err != nil {
		body.takeBack()
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if unread := body.failed(); unread != nil {
			return "", unread
		}
		return "", &smithyhttp.RequestSendError{Err: err}
	}
	defer reply.Body.Close()
	if reply.StatusCode/100 == 2 {
		body.finish()
		c.slots.Answered()
		io.Copy(io.Discard, io.LimitReader(reply.Body, 1<<20)) // so that the connection can be reused
		return reply.Header.Get("ETag"), nil
	}
	body.takeBack()
	return "", c.noteSkew(reply, answer.Refusal(reply))
}

func (c *Client) request(ctx context.Context, p Request, body *body) (*http.Request, error) {
	path := c.base + "/" + p.Key
	r := (&http.Request{
		Method: http.MethodPut,
		URL: &url.URL{
			Scheme: c.scheme, Host: c.host,
			Path: path, RawPath: httpbinding.EscapePath(path, false),
			RawQuery: p.Query,
		},
		Host:          c.host,
		Header:        make(http.Header, len(p.Header)+len(c.headers)+6),
		ContentLength: p.Size,
		Body:          body,
		Proto:         "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(wire.WithOperation(ctx, p.Operation))
	if p.Size == 0 {
		r.Body = http.NoBody
	}
	for _, from := range []http.Header{c.headers, p.Header} {
		for k, v := range from {
			r.Header[k] = v
		}
	}
	r.Header["User-Agent"] = userAgent
	return r, c.sign(ctx, r)
}

var userAgent = []string{"slurm-factory-publish"}

// unsigned excludes the content from the signature. The checksum in the headers protects the content, and hashing
// it once more would cost as much as everything else.
const unsigned = "UNSIGNED-PAYLOAD"

func (c *Client) sign(ctx context.Context, r *http.Request) error {
	r.Header["X-Amz-Content-Sha256"] = []string{unsigned}
	if c.credentials == nil {
		return nil
	}
	creds, err := c.credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	now := time.Now().Add(time.Duration(c.Skew.Load()))
	return c.signer.SignHTTP(ctx, creds, r, unsigned, c.service, c.region, now)
}

// noteSkew records the clock skew when a request is refused because of it.
func (c *Client) noteSkew(reply *http.Response, refused error) error {
	if answer.Code(refused) == "RequestTimeTooSkewed" {
		if theirs, err := http.ParseTime(reply.Header.Get("Date")); err == nil {
			c.Skew.Store(int64(time.Until(theirs)))
		}
	}
	return refused
}
