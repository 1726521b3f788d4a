package faultproxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

var ctx = context.Background()

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// through returns a client of a proxy that tries everything once.
func through(p *faultproxy.Proxy, s *s3server.Server) *s3.Client {
	return s3.New(s.Client().Options(), func(o *s3.Options) {
		o.BaseEndpoint = &p.URL
		o.Retryer = aws.NopRetryer{}
	})
}

func TestRequestsPassAndAreWrittenDown(t *testing.T) {
	s := s3server.Start(t)
	p := faultproxy.Start(t, s.Endpoint)
	bucket, c := s.Bucket(t), through(p, s)
	const name = "a b/50% + ü" // signed as it is spelled, so it must arrive as it is spelled
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String(name), Body: strings.NewReader("content")}); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String(name)})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(got.Body); string(body) != "content" {
		t.Errorf("got %q, %v", body, err)
	}
	c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: aws.String("a")})
	c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("absent")})
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("m")})
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: &bucket, Key: aws.String("m"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part")})
	if err != nil || part.ETag == nil {
		t.Fatal(err)
	}
	c.ListParts(ctx, &s3.ListPartsInput{Bucket: &bucket, Key: aws.String("m"), UploadId: up.UploadId})
	c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &bucket})
	c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: aws.String("m"), UploadId: up.UploadId})

	want := []struct {
		op, key  string
		status   int
		mutating bool
	}{
		{"PutObject", name, 200, true},
		{"GetObject", name, 200, false},
		{"ListObjectsV2", "", 200, false},
		{"HeadObject", "absent", 404, false},
		{"CreateMultipartUpload", "m", 200, true},
		{"UploadPart", "m", 200, true},
		{"ListParts", "m", 200, false},
		{"ListMultipartUploads", "", 200, false},
		{"AbortMultipartUpload", "m", 204, true},
	}
	log := p.Log()
	if len(log) != len(want) {
		t.Fatalf("%d requests, want %d", len(log), len(want))
	}
	for i, w := range want {
		got := log[i]
		if got.Number != i+1 || got.Operation != w.op || got.Bucket != bucket || got.Key != w.key ||
			got.Status != w.status || got.Reached != w.status || got.Mutating() != w.mutating {
			t.Errorf("request %d: %+v, want %+v", i+1, got, w)
		}
	}
}

func TestFaults(t *testing.T) {
	s := s3server.Start(t)
	var acted bool
	act := func() { acted = true }
	for _, row := range []struct {
		fault  faultproxy.Fault
		stored bool   // the server acted
		err    string // what the client says; empty if it noticed nothing
	}{
		{faultproxy.Denied, false, "AccessDenied"},
		{faultproxy.Expired, false, "ExpiredToken"},
		{faultproxy.NoBucket, false, "NoSuchBucket"},
		{faultproxy.TimedOut, false, "RequestTimeout"},
		{faultproxy.Conflict, false, "ConditionalRequestConflict"},
		{faultproxy.FailedMatch, false, "PreconditionFailed"},
		{faultproxy.Internal, false, "InternalError"},
		{faultproxy.SlowDown, false, "SlowDown"},
		{faultproxy.Elsewhere("eu-west-1"), false, "PermanentRedirect"},
		{faultproxy.Reset, false, "request send failed"},
		{faultproxy.Lost, true, "request send failed"},
		{faultproxy.Truncated, true, "request send failed"},
		{faultproxy.Before(act), false, "request send failed"},
		{faultproxy.After(act), true, "request send failed"},
		{faultproxy.Hold(act), true, ""},
		{faultproxy.Stall(50 * time.Millisecond), true, ""},
	} {
		t.Run(row.fault.Name, func(t *testing.T) {
			p := faultproxy.Start(t, s.Endpoint)
			bucket, c := s.Bucket(t), through(p, s)
			p.At(2, row.fault)
			acted = false
			put := func(name string) error {
				_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &name, Body: strings.NewReader("content")})
				return err
			}
			if err := put("first"); err != nil {
				t.Fatal(err)
			}
			err := put("second")
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("client says %v, want %q", err, row.err)
			}
			var api smithy.APIError
			if refused := unicode.IsDigit(rune(row.fault.Name[0])); errors.As(err, &api) != refused {
				t.Errorf("error document understood: %v, want %v: %v", !refused, refused, err)
			}
			if err := put("third"); err != nil {
				t.Errorf("after the fault: %v", err)
			}
			p.Wait()
			if _, err := os.Stat(s.Path(bucket) + "/second"); (err == nil) != row.stored {
				t.Errorf("stored: %v, want %v", err, row.stored)
			}
			if wants := slices.Contains([]string{"before", "after", "hold"}, row.fault.Name); acted != wants {
				t.Errorf("acted: %v", acted)
			}
			if got := p.Log()[1]; got.Fault != row.fault.Name {
				t.Errorf("log says %+v", got)
			}
		})
	}
}

// A body that is cut must not look complete.
func TestTruncatedBody(t *testing.T) {
	s := s3server.Start(t)
	p := faultproxy.Start(t, s.Endpoint)
	bucket, c := s.Bucket(t), through(p, s)
	if err := os.WriteFile(s.Path(bucket)+"/file", []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.At(1, faultproxy.Truncated)
	got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("file")})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if string(body) != "con" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", body, err)
	}
}

// Statuses of a request that the test watches are there when it looks.
func TestAfterEach(t *testing.T) {
	s := s3server.Start(t)
	p := faultproxy.Start(t, s.Endpoint)
	bucket, c := s.Bucket(t), through(p, s)
	var seen []int
	p.AfterEach(func(r faultproxy.Request) {
		if _, err := os.Stat(s.Path(bucket) + "/" + r.Key); err != nil {
			t.Error("looked before the server acted:", err)
		}
		seen = append(seen, r.Reached)
	})
	c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("x"), Body: strings.NewReader("")})
	if !slices.Equal(seen, []int{http.StatusOK}) {
		t.Errorf("saw %v", seen)
	}
}
