// Package s3server runs a real S3 server as a process of its own (cmd/s3server).
//
// The objects are plain files below Dir, in one directory per bucket, so a test can look
// at them without a request. The server ends with the process that started it, however
// that ends.
//
// $S3SERVER names the program of a MinIO that is started instead. Its files are its own, so tests run on it that
// look at mirrors through Mirror and at no file.
package s3server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
)

// A Server is a running S3 server with one account.
type Server struct {
	Endpoint       string // http://127.0.0.1:port
	Region         string
	Access, Secret string
	Dir            string // holds one directory per bucket

	leash   *program.Leash
	buckets atomic.Int64
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartAs(t, "us-east-1", "test", "testtest")
}

// StartAs starts a server of another region, with an account of its own.
func StartAs(t testing.TB, region, access, secret string) *Server {
	t.Helper()
	s, err := openAs(t.TempDir(), region, access, secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// attempts is how often a server is started anew if its port was taken from under it.
const attempts = 3

// Open starts a server over dir. The caller closes it.
func Open(dir string) (*Server, error) { return openAs(dir, "us-east-1", "test", "testtest") }

func openAs(dir, region, access, secret string) (*Server, error) {
	bin, err := program.S3Server()
	if err != nil {
		return nil, err
	}
	for range attempts {
		var s *Server
		if s, err = open(bin, dir, region, access, secret); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func open(bin, dir, region, access, secret string) (*Server, error) {
	s := &Server{Region: region, Access: access, Secret: secret, Dir: dir}
	var err error
	s.leash, err = program.Leashed(bin, "-leash", "-dir", dir, "-region", s.Region, "-access", s.Access, "-secret", s.Secret, "-minio", minio())
	if err != nil {
		return nil, fmt.Errorf("s3server: %w", err)
	}
	s.Endpoint = s.leash.Line
	return s, nil
}

// Close stops the server.
func (s *Server) Close() { s.leash.Stop() }

// PID is the number of its process.
func (s *Server) PID() int { return s.leash.PID }

// Bucket makes an empty bucket and returns its name.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", s.buckets.Add(1))
	if err := s.CreateBucket(name); err != nil {
		t.Fatal(err)
	}
	return name
}

// CreateBucket makes the bucket name.
func (s *Server) CreateBucket(name string) error {
	_, err := s.Client().CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name})
	return err
}

func minio() string { return os.Getenv("S3SERVER") }

// Mirror reads the mirror below a prefix of a bucket.
func (s *Server) Mirror(bucket, prefix string) reader.Source {
	if minio() == "" {
		return reader.Dir(filepath.Join(s.Path(bucket), prefix))
	}
	below := prefix + "/"
	if prefix == "" {
		below = ""
	}
	return reader.Source{
		Get: func(name string) ([]byte, error) {
			key := below + name
			out, err := s.Client().GetObject(context.Background(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
			if _, ok := errors.AsType[*types.NoSuchKey](err); ok {
				return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
			}
			if err != nil {
				return nil, err
			}
			defer out.Body.Close()
			return io.ReadAll(out.Body)
		},
		List: func() ([]string, error) {
			var names []string
			for p := s3.NewListObjectsV2Paginator(s.Client(), &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &below}); p.HasMorePages(); {
				page, err := p.NextPage(context.Background())
				if err != nil {
					return nil, err
				}
				for _, o := range page.Contents {
					names = append(names, strings.TrimPrefix(*o.Key, below))
				}
			}
			return names, nil
		},
	}
}

// Path is the directory of a bucket.
func (s *Server) Path(bucket string) string { return s.Dir + "/" + bucket }

// Client returns a client of the server.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint,
		UsePathStyle: true,
		Region:       s.Region,
		Credentials:  s.credentials(),
	})
}

// Leftovers returns the unfinished multipart uploads of a bucket.
func (s *Server) Leftovers(bucket string) ([]types.MultipartUpload, error) {
	out, err := s.Client().ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		return nil, err
	}
	return out.Uploads, nil
}

func (s *Server) credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(s.Access, s.Secret, "")
}

// Environ returns the environment that lets a program find its credentials, and
// nothing of the account that runs the test.
func (s *Server) Environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=/nonexistent",
		"AWS_ACCESS_KEY_ID=" + s.Access,
		"AWS_SECRET_ACCESS_KEY=" + s.Secret,
		"AWS_REGION=" + s.Region,
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Signed returns a transport that signs each request, as an edge with origin access
// control does.
func (s *Server) Signed() http.RoundTripper { return &signed{s} }

type signed struct{ *Server }

func (s *signed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	cred, err := s.credentials().Retrieve(r.Context())
	if err != nil {
		return nil, err
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	r.Header.Set("X-Amz-Content-Sha256", unsigned)
	if err := v4.NewSigner(onceEscaped).SignHTTP(r.Context(), cred, r, unsigned, "s3", s.Region, time.Now()); err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(r)
}

// onceEscaped is how S3 has the path in what is signed.
func onceEscaped(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }

// Fetch reads one object, signed.
func (s *Server) Fetch(bucket, name string) ([]byte, error) {
	resp, err := (&http.Client{Transport: s.Signed()}).Get(s.Endpoint + "/" + bucket + "/" + name)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", name, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
