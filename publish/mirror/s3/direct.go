package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyauth "github.com/aws/smithy-go/auth"
	"github.com/aws/smithy-go/encoding/httpbinding"
	smithytime "github.com/aws/smithy-go/time"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// direct sends PutObject and UploadPart without the SDK's middleware, which costs several
// times as much as everything else that is done for an object of a few KB. Address,
// credentials, signer, connections and retries are those of the SDK's client.
type direct struct {
	scheme, host  string
	base          string // path of the bucket, without a slash at the end
	service       string // what the signature is for: s3
	region        string
	headers       http.Header // which the endpoint wants in every request
	http          sdk.HTTPClient
	credentials   aws.CredentialsProvider // nil: requests are not signed
	signer        *v4.Signer
	retryer       aws.Retryer
	attemptTokens aws.RetryerV2 // nil: the retryer gives none out
	skew          *atomic.Int64 // nanoseconds that S3's clock is ahead of ours
}

func newDirect(ctx context.Context, o sdk.Options, bucket string) (direct, error) {
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
		return direct{}, err
	}
	d := direct{
		scheme:  endpoint.URI.Scheme,
		host:    endpoint.URI.Host,
		base:    endpoint.URI.Path,
		service: "s3",
		region:  o.Region,
		headers: endpoint.Headers,
		http:    o.HTTPClient,
		signer: v4.NewSigner(func(s *v4.SignerOptions) {
			s.DisableURIPathEscaping = true // S3 escapes once, and we have done it
		}),
		credentials: o.Credentials,
		retryer:     o.Retryer,
		skew:        new(atomic.Int64),
	}
	for len(d.base) > 0 && d.base[len(d.base)-1] == '/' {
		d.base = d.base[:len(d.base)-1]
	}
	d.attemptTokens, _ = o.Retryer.(aws.RetryerV2)
	return d, d.scope(endpoint.Properties)
}

// scope takes from the endpoint what requests to it are signed for.
func (d *direct) scope(p smithy.Properties) error {
	schemes, _ := smithyauth.GetAuthOptions(&p)
	for _, s := range schemes {
		if s.SchemeID != smithyauth.SchemeIDSigV4 && s.SchemeID != "sigv4" { // the short name is the endpoint rules'
			continue
		}
		if name, ok := smithyhttp.GetSigV4SigningName(&s.SignerProperties); ok {
			d.service = name
		}
		if region, ok := smithyhttp.GetSigV4SigningRegion(&s.SignerProperties); ok {
			d.region = region
		}
		return nil
	}
	if len(schemes) > 0 {
		return fmt.Errorf("the bucket wants signatures of the kind %s, which we cannot make", schemes[0].SchemeID)
	}
	return nil
}

// A put is a request that carries content: a whole object, or a part of one.
type put struct {
	operation string
	key       string
	query     string // encoded; empty for a whole object
	header    http.Header
	content   io.ReaderAt
	off, size int64
	sent      func(int64) // may be nil
	// repeatable: S3 may answer that another request was in the way, and this one
	// means the same when it is repeated.
	repeatable bool
}

// damaged is how often content is sent again that arrived other than it was hashed.
// More often, and it is not the network that changes it.
const damaged = 3

// send makes a put, again and again if the retryer says so, and returns the ETag. The
// caller holds the slot, and still does afterwards; while nothing is sent, others have it.
func (b *Bucket) send(ctx context.Context, p put, s *slot) (string, error) {
	d := &b.direct
	release := func(error) error { return nil }
	for attempt := 1; ; attempt++ {
		etag, err := b.attempt(ctx, p)
		release(err)
		if err == nil || ctx.Err() != nil || !d.again(err, p, attempt) {
			return etag, err
		}
		if most := d.retryer.MaxAttempts(); most > 0 && attempt >= most {
			return "", fmt.Errorf("after %d attempts: %w", attempt, err)
		}
		if release, err = b.pause(ctx, err, attempt, s); err != nil {
			return "", err
		}
	}
}

// pause waits as long as the retryer wants after a failed attempt. The slot is free
// meanwhile. It returns what must be told how the next attempt ended.
func (b *Bucket) pause(ctx context.Context, failure error, attempt int, s *slot) (func(error) error, error) {
	release, err := b.direct.retryer.GetRetryToken(ctx, failure)
	if err != nil {
		return nil, errors.Join(failure, err)
	}
	delay, err := b.direct.retryer.RetryDelay(attempt, failure)
	if err != nil {
		return nil, errors.Join(failure, err)
	}
	s.free()
	if err := smithytime.SleepWithContext(ctx, delay); err != nil {
		return nil, err
	}
	return release, s.take(ctx)
}

// again reports whether an attempt that failed should be repeated.
func (d *direct) again(err error, p put, attempt int) bool {
	if errors.Is(err, blob.ErrChanged) {
		return false
	}
	switch codeOf(err) {
	case "ConditionalRequestConflict", "OperationAborted":
		return p.repeatable
	case "BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest":
		return attempt < damaged
	case "RequestTimeTooSkewed":
		return attempt == 1 // now that we know how far off our clock is
	}
	return d.retryer.IsErrorRetryable(err)
}

// attempt sends a put once. No new one starts after ctx is done.
func (b *Bucket) attempt(ctx context.Context, p put) (etag string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	d := &b.direct
	if d.attemptTokens != nil {
		release, tokenErr := d.attemptTokens.GetAttemptToken(ctx)
		if tokenErr != nil {
			return "", tokenErr
		}
		defer func() { release(err) }() // so that all requests get slower when S3 asks for it
	}
	body := &body{ctx: ctx, content: p.content, off: p.off, end: p.off + p.size, limit: b.limit, slots: b.slots, sent: p.sent}
	r, err := d.request(ctx, p, body)
	if err != nil {
		return "", err
	}
	answer, err := d.http.Do(r)
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
	defer answer.Body.Close()
	if answer.StatusCode/100 == 2 {
		body.finish()
		b.slots.moved(answerWorth)
		io.Copy(io.Discard, io.LimitReader(answer.Body, mib)) // so that the connection can be used again
		return answer.Header.Get("ETag"), nil
	}
	body.takeBack()
	return "", d.noteSkew(answer, refusal(answer))
}

func (d *direct) request(ctx context.Context, p put, body *body) (*http.Request, error) {
	path := d.base + "/" + p.key
	r := (&http.Request{
		Method: http.MethodPut,
		URL: &url.URL{
			Scheme: d.scheme, Host: d.host,
			Path: path, RawPath: httpbinding.EscapePath(path, false),
			RawQuery: p.query,
		},
		Host:          d.host,
		Header:        make(http.Header, len(p.header)+len(d.headers)+6),
		ContentLength: p.size,
		Body:          body,
		Proto:         "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(context.WithValue(ctx, operation{}, p.operation))
	if p.size == 0 {
		r.Body = http.NoBody
	}
	for _, from := range []http.Header{d.headers, p.header} {
		for k, v := range from {
			r.Header[k] = v
		}
	}
	r.Header["User-Agent"] = userAgent
	return r, d.sign(ctx, r)
}

var userAgent = []string{"slurm-factory-publish"}

// unsigned leaves the content out of the signature: what arrives is checked by the
// checksum in the headers, and hashing it once more would cost as much as all the rest.
const unsigned = "UNSIGNED-PAYLOAD"

func (d *direct) sign(ctx context.Context, r *http.Request) error {
	r.Header["X-Amz-Content-Sha256"] = []string{unsigned}
	if d.credentials == nil {
		return nil
	}
	creds, err := d.credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	now := time.Now().Add(time.Duration(d.skew.Load()))
	return d.signer.SignHTTP(ctx, creds, r, unsigned, d.service, d.region, now)
}

// noteSkew remembers how far off our clock is when a request is refused because of it.
func (d *direct) noteSkew(answer *http.Response, refused error) error {
	if codeOf(refused) == "RequestTimeTooSkewed" {
		if theirs, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			d.skew.Store(int64(time.Until(theirs)))
		}
	}
	return refused
}

// refusal is an answer as the error that the SDK would have made of it.
func refusal(answer *http.Response) error {
	said := smithy.GenericAPIError{Code: http.StatusText(answer.StatusCode)}
	var body struct {
		Code, Message, RequestID string
	}
	if xml.NewDecoder(io.LimitReader(answer.Body, mib)).Decode(&body) == nil && body.Code != "" {
		said.Code, said.Message = body.Code, body.Message
	}
	id := answer.Header.Get("X-Amz-Request-Id")
	return &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: answer}, Err: &said},
		RequestID:     id,
	}
}
