// Package conformance runs the suite for mirrors against S3 servers that we did not write.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const (
	access, secret = "test", "testtest"
	bucket         = "suite"
	minPart        = 5 << 20
)

func TestVersityGW(t *testing.T) {
	s := s3server.Start(t)
	if err := s.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	suite(t, s.Endpoint, true, mirrortest.DeleteManyIfSeen)
}

// MinIO deletes whatever is there, in spite of If-Match, and lists unfinished uploads only of a
// whole key.
var minioLacks = []mirrortest.Ability{mirrortest.DeleteIfSeen, mirrortest.DeleteManyIfSeen, mirrortest.LeftoversBelow}

// MinIO ignores conditions on copies, and copies no part of an upload that has checksums. It is looked for in $MINIO and on the PATH, and is not required.
func TestMinIO(t *testing.T) {
	bin := os.Getenv("MINIO")
	if bin == "" {
		found, err := exec.LookPath("minio")
		if err != nil {
			t.Log("no MinIO here: not tested")
			return
		}
		bin = found
	}
	suite(t, startMinIO(t, bin), false, minioLacks...)
}

func startMinIO(t *testing.T, bin string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var said bytes.Buffer
	cmd := exec.Command(bin, "server", "--address", addr, "--quiet", t.TempDir())
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+access, "MINIO_ROOT_PASSWORD="+secret)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	url := "http://" + addr
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(url + "/minio/health/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("MinIO does not answer: %s", &said)
		}
	}
	if _, err := client(url).CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	return url
}

func client(endpoint string) *sdk.Client {
	return sdk.New(sdk.Options{
		BaseEndpoint: &endpoint, UsePathStyle: true, Region: "us-east-1",
		Credentials:                credentials.NewStaticCredentialsProvider(access, secret, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
}

// suite runs the suite in one bucket, each test below a prefix of its own. Where the server does not copy parts, what was sent in parts is left to
// be sent.
func suite(t *testing.T, endpoint string, copiesParts bool, lacks ...mirrortest.Ability) {
	t.Setenv("AWS_ACCESS_KEY_ID", access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_REGION", "us-east-1")
	cfg, err := session.Config(t.Context(), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s3.Open(t.Context(), cfg, s3.Options{Bucket: bucket, EndpointURL: endpoint, PartSize: minPart, Threshold: minPart})
	if err != nil {
		t.Fatal(err)
	}
	var opened atomic.Int64
	t.Run("copies", func(t *testing.T) { copies(t, b, copiesParts) })
	mirrortest.Run(t, func(t *testing.T) mirrortest.Store {
		prefix := fmt.Sprintf("mirror-%d", opened.Add(1))
		m := b.Mirror(prefix)
		return store{m, m.Deleter(), client(endpoint), prefix + "/", lacks}
	})
}

// copies makes sure that a server which vouches for an object copies it whole, under its labels, and that a copy of it is not
// written over: also where it was sent in parts, and where the server obeys conditions only when an upload is completed.
func copies(t *testing.T, b *s3.Bucket, copiesParts bool) {
	from, to := b.Mirror("copies from/a+b"), b.Mirror("copies to")
	for name, content := range map[string][]byte{
		"one request": bytes.Repeat([]byte("a copy of this "), 30_000),
		"parts":       bytes.Repeat([]byte("a copy of that "), 500_000),
	} {
		u := mirror.Upload{Name: name, Content: blob.Bytes(content), Digest: blob.DigestOf(content), Type: "application/gzip", CacheControl: "max-age=7"}
		if err := from.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if name == "parts" && !copiesParts {
			if err := to.CopyFrom(t.Context(), from, name, u); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := to.Stat(t.Context(), name); !errors.Is(err, mirror.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for i := range 3 {
			if err := to.CopyFrom(t.Context(), from, name, u); err != nil && (copiesParts || i == 0 || !errors.Is(err, errors.ErrUnsupported)) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		got, _, err := mirror.Read(t.Context(), to, name, 10<<20)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := to.Create(t.Context(), u); err != nil {
			t.Errorf("%s, sent where it was copied to: %v", name, err)
		}
		wrong := u
		wrong.Digest = blob.DigestOf([]byte("other content"))
		wrong.Name = "wrong"
		if err := to.CopyFrom(t.Context(), from, name, wrong); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s, of another object: %v", name, err)
		}
		if _, err := to.Stat(t.Context(), "wrong"); !errors.Is(err, mirror.ErrNotExist) {
			t.Errorf("%s: what has other content was stored: %v", name, err)
		}
		if err := to.CopyFrom(t.Context(), from, "gone", u); !errors.Is(err, mirror.ErrNotExist) {
			t.Errorf("of nothing: %v", err)
		}
	}
}

// A store has every ability of a mirror, and those that the suite asks for.
type store struct {
	*s3.Mirror
	*s3.Deleter
	client *sdk.Client
	prefix string
	lacks  []mirrortest.Ability
}

// Lacks says what the server cannot do.
func (s store) Lacks(a mirrortest.Ability) bool { return slices.Contains(s.lacks, a) }

// Headers tells what an object is labelled with.
func (s store) Headers(ctx context.Context, name string) (contentType, cacheControl string, err error) {
	head, err := s.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(s.prefix + name)})
	if err != nil {
		return "", "", err
	}
	return aws.ToString(head.ContentType), aws.ToString(head.CacheControl), nil
}

// Abandon begins an upload in parts, without checksums as older programs do, and sends one.
func (s store) Abandon(ctx context.Context, name string) error {
	up, err := s.client.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(s.prefix + name)})
	if err != nil {
		return err
	}
	_, err = s.client.UploadPart(ctx, &sdk.UploadPartInput{
		Bucket: aws.String(bucket), Key: aws.String(s.prefix + name), UploadId: up.UploadId,
		PartNumber: aws.Int32(1), Body: bytes.NewReader(make([]byte, minPart)),
	})
	return err
}
