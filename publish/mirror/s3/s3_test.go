package s3

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a fault to pass. They can do so together.
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n.Value.String() == n.DefValue {
		flag.Set("test.parallel", "8")
	}
	goleak.VerifyTestMain(m)
}

const access, secret = "AKIATEST", "a secret"

// serve starts an S3 that checks signatures and is checked for violations in the end.
func serve(t testing.TB, o s3test.Options) *s3test.Server {
	o.AccessKey, o.SecretKey = access, secret
	s := s3test.New(o)
	t.Cleanup(func() {
		s.Close()
		for _, v := range s.Violations() {
			t.Errorf("this should never have been sent: %s", v)
		}
	})
	return s
}

// config is what package session makes, with all the attempts and none of the waiting.
func config(t testing.TB) aws.Config {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.MaxIdleConnsPerHost = 64
	})
	standard := func(s *retry.StandardOptions) {
		s.MaxAttempts = attempts
		s.RateLimiter = ratelimit.None
		s.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return time.Millisecond, nil })
		s.Retryables = append(s.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{408: {}}})
	}
	var retryer aws.Retryer = retry.NewStandard(standard)
	if _, measured := t.(*testing.B); measured { // then delays are of interest
		real, err := session.Config(t.Context(), session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		retryer = real.Retryer()
	}
	frozen := client.Freeze()
	t.Cleanup(func() { frozen.(interface{ CloseIdleConnections() }).CloseIdleConnections() })
	return aws.Config{
		Region:      "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
		HTTPClient:  frozen,
		Retryer:     func() aws.Retryer { return retryer },
	}
}

const attempts = 4

// open opens the bucket of a server, with parts as small as S3 allows.
func open(t testing.TB, s *s3test.Server, change ...func(*Options)) *Bucket {
	t.Helper()
	o := Options{Bucket: "bucket", EndpointURL: s.URL, Threshold: minPart, PartSize: minPart, Concurrency: 8}
	for _, c := range change {
		c(&o)
	}
	b, err := Open(context.Background(), config(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A store is a mirror of a test with all its abilities.
type store struct {
	*Mirror
	*Deleter
	server *s3test.Server
}

func (s store) Headers(_ context.Context, name string) (contentType, cacheControl string, err error) {
	h := s.server.Labels(s.key(name))
	return h.Get("Content-Type"), h.Get("Cache-Control"), nil
}

func (s store) Abandon(_ context.Context, name string) error {
	s.server.Abandon(s.key(name))
	return nil
}

func TestMirror(t *testing.T) {
	for what, o := range map[string]s3test.Options{
		"AWS":                 {},
		"small pages":         {PageSize: 7},
		"forgets completions": {Forgetful: true},
		"knows no checksums":  {NoChecksums: true},
	} {
		if raced && what != "AWS" {
			continue
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			mirrortest.Run(t, func(t *testing.T) mirrortest.Store {
				server := serve(t, o)
				m := open(t, server).Mirror("/some prefix/with+plus/")
				return store{m, m.Deleter(), server}
			})
		})
	}
}

var _ mirror.Deleter = store{}

// failing are credentials that cannot be had.
type failing struct{}

func (failing) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("no EC2 IMDS role found")
}
