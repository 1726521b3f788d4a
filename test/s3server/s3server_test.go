package s3server_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// What the other tests rely on: objects are files, conditions are honoured, headers are kept.
func TestServer(t *testing.T) {
	s := s3server.Start(t)
	bucket := s.Bucket(t)
	put := &s3.PutObjectInput{
		Bucket: &bucket, Key: aws.String("a/b"), CacheControl: aws.String("no-cache"),
		IfNoneMatch: aws.String("*"),
	}
	for i, want := range []string{"", "PreconditionFailed"} {
		put.Body = strings.NewReader("content")
		_, err := s.Client().PutObject(context.Background(), put)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("put %d: %v, want %q", i, err, want)
		}
	}
	if got, err := os.ReadFile(filepath.Join(s.Path(bucket), "a/b")); string(got) != "content" {
		t.Errorf("file holds %q, %v", got, err)
	}
	if got, err := s.Fetch(bucket, "a/b"); string(got) != "content" {
		t.Errorf("fetched %q, %v", got, err)
	}
	head, err := s.Client().HeadObject(context.Background(), &s3.HeadObjectInput{Bucket: &bucket, Key: put.Key})
	if err != nil || aws.ToString(head.CacheControl) != "no-cache" {
		t.Errorf("cache control %q, %v", aws.ToString(head.CacheControl), err)
	}
	if left, err := s.Leftovers(bucket); len(left) != 0 || err != nil {
		t.Errorf("leftovers: %v, %v", left, err)
	}
}
