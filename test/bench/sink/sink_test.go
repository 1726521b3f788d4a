package sink

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// listen serves a sink and returns its URL and a client that trusts it.
func listen(t *testing.T, o Options, secure bool) (*Server, string, *http.Client) {
	t.Helper()
	l, err := Listen(Loopback, o.ConnRate)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if secure {
		config, _, err := Secure()
		if err != nil {
			t.Fatal(err)
		}
		l, url = tls.NewListener(l, config), "https://"+l.Addr().String()
	}
	s := New(o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, url, client
}

func sdk(url string, client *http.Client) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &url, UsePathStyle: true, Region: "us-east-1", HTTPClient: client,
		Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", ""), RetryMaxAttempts: 1,
	})
}

// As the SDK sends it, over TLS: in chunks, with the checksum in the trailer.
func TestChunksWithATrailer(t *testing.T) {
	for _, size := range []int{0, 5, 200_000, 3 << 20} {
		s, url, client := listen(t, Options{Keep: 1 << 30}, true)
		content := bytes.Repeat([]byte("content"), size/7+1)[:size]
		c := sdk(url, client)
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(Bucket), Key: aws.String("a b"), Body: bytes.NewReader(content)}); err != nil {
			t.Fatal(err)
		}
		out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(Bucket), Key: aws.String("a b")})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
		if st := s.Stats(); st.Bytes != int64(size) || st.Requests["PutObject"] != 1 || st.Connections != 1 || st.Corrupt+st.Errors != 0 {
			t.Errorf("%d bytes: %+v", size, st)
		}
	}
}

func put(t *testing.T, client *http.Client, url, content string, headers ...string) int {
	t.Helper()
	r, err := http.NewRequest("PUT", url+"/"+Bucket+"/key", strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// What comes in parts is put together.
func TestPartsAreJoined(t *testing.T) {
	_, url, client := listen(t, Options{Keep: 1 << 20}, false)
	c := sdk(url, client)
	bucket, key := aws.String(Bucket), aws.String("a")
	begun, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: begun.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("content")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: key, UploadId: begun.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(out.Body); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWrongChecksumsAreRefused(t *testing.T) {
	large := strings.Repeat("x", small+1)
	wrong := map[string]string{
		"X-Amz-Checksum-Crc32":     "AAAAAA==",
		"X-Amz-Checksum-Crc32c":    "AAAAAA==",
		"X-Amz-Checksum-Crc64nvme": "AAAAAAAAAAA=",
		"X-Amz-Checksum-Sha1":      base64.StdEncoding.EncodeToString(make([]byte, 20)),
		"X-Amz-Checksum-Sha256":    base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"X-Amz-Content-Sha256":     strings.Repeat("0", 64),
		"Content-Md5":              base64.StdEncoding.EncodeToString(make([]byte, 16)),
	}
	for name, value := range wrong {
		_, url, client := listen(t, Options{Sample: 1}, false)
		for _, content := range []string{"content", large} {
			if status := put(t, client, url, content, name, value); status/100 != 4 {
				t.Errorf("%s of %d bytes: status %d", name, len(content), status)
			}
		}
	}
	_, url, client := listen(t, Options{}, false)
	framed := "7;chunk-signature=0\r\ncontent\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
	if status := put(t, client, url, framed, "X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
		"X-Amz-Decoded-Content-Length", "7", "X-Amz-Trailer", "x-amz-checksum-crc32"); status/100 != 4 {
		t.Errorf("trailer: status %d", status)
	}
}

// One of sixteen large bodies has its MD5 looked at, and every ETag is what was told.
func TestLargeBodiesAreSampled(t *testing.T) {
	s, url, client := listen(t, Options{}, false)
	sum := md5.Sum([]byte("something else"))
	refused := 0
	for range 32 {
		if put(t, client, url, strings.Repeat("x", small+1), "Content-Md5", base64.StdEncoding.EncodeToString(sum[:])) != 200 {
			refused++
		}
	}
	if refused != 2 || s.Stats().Corrupt != 2 {
		t.Errorf("%d of 32 refused, want 2: %+v", refused, s.Stats())
	}
	resp, err := client.Head(url + "/" + Bucket + "/key")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := resp.Header.Get("ETag"), fmt.Sprintf(`"%x"`, sum); got != want {
		t.Errorf("ETag %s, want %s", got, want)
	}
}

func TestListingsInPartsAndInDirectories(t *testing.T) {
	s, url, client := listen(t, Options{}, false)
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		write(fmt.Sprintf("d%d/a+b", i), "x")
		write(fmt.Sprintf("d%d/e/f", i), "xy")
	}
	write(Names, "1000000000000 z\n5 d0/zz\n")
	if err := s.Load(dir, "p"); err != nil {
		t.Fatal(err)
	}
	list := func(in s3.ListObjectsV2Input) (found []string) {
		t.Helper()
		in.Bucket, in.MaxKeys = aws.String(Bucket), aws.Int32(3)
		for p := s3.NewListObjectsV2Paginator(sdk(url, client), &in); p.HasMorePages(); {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Contents {
				found = append(found, fmt.Sprint(*o.Key, " ", *o.Size))
			}
			for _, d := range page.CommonPrefixes {
				found = append(found, *d.Prefix)
			}
		}
		slices.Sort(found)
		return found
	}
	for _, c := range []struct {
		in   s3.ListObjectsV2Input
		want []string
	}{
		{s3.ListObjectsV2Input{Prefix: aws.String("p/d0/")}, []string{"p/d0/a+b 1", "p/d0/e/f 2", "p/d0/zz 5"}},
		{s3.ListObjectsV2Input{Prefix: aws.String("p/"), Delimiter: aws.String("/")}, []string{"p/d0/", "p/d1/", "p/d2/", "p/d3/", "p/d4/", "p/z 1000000000000"}},
		{s3.ListObjectsV2Input{Prefix: aws.String("p/d0"), EncodingType: "url"}, []string{"p/d0/a%2Bb 1", "p/d0/e/f 2", "p/d0/zz 5"}},
		{s3.ListObjectsV2Input{StartAfter: aws.String("p/d4/a+b")}, []string{"p/d4/e/f 2", "p/z 1000000000000"}},
	} {
		if got := list(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.in, got, c.want)
		}
	}
}

func TestFaults(t *testing.T) {
	s, url, client := listen(t, Options{Errors: 0.3, Resets: 0.3}, false)
	broken, refused := 0, 0
	for range 100 {
		resp, err := client.Get(url + "/" + Bucket + "/key")
		switch {
		case err != nil:
			broken++
		case resp.StatusCode >= 500:
			refused++
		}
	}
	st := s.Stats()
	if refused < 10 || refused > 60 || broken == 0 || st.Refused != int64(refused) {
		t.Errorf("%d refused and %d broken off: %+v", refused, broken, st)
	}
}

func TestConnectionsAreSlow(t *testing.T) {
	_, url, client := listen(t, Options{ConnRate: 10 << 20, Latency: 30 * time.Millisecond}, false)
	began := time.Now()
	put(t, client, url, strings.Repeat("x", 5<<20))
	// Of half a second of content, a twentieth is taken in by the kernel at once.
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("5 MiB at 10 MiB/s took %v", took)
	}
	began = time.Now()
	put(t, client, url, "x")
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("the answer came after %v", took)
	}
}

func TestControl(t *testing.T) {
	s := New(Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.ServeControl(ctx, l) }()
	p := &Process{http: &http.Client{Transport: &controlled{l.Addr().String()}}}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.Load(dir, "p"); err != nil {
		t.Error(err)
	}
	s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("HEAD", "/"+Bucket+"/p/a", nil))
	if st, err := p.Stats(); err != nil || st.Total() != 1 || st.Errors != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := p.Forget(); err != nil {
		t.Error(err)
	}
	if st, err := p.Stats(); err != nil || st.Total() != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := p.Load("/nonexistent", ""); err == nil {
		t.Error("loaded what is not there")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
