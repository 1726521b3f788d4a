//go:build interop

package interop

import (
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
)

// A minio is a server whose only identity provider is an issuer of ours.
type minio struct {
	url  string
	role string // of its own form: arn:minio:iam:::role/...
}

func startMinIO(t *testing.T, issuer string) minio {
	t.Helper()
	bin := tool(t, "MINIO")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(bin, "server", "--address", addr, t.TempDir())
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER=test", "MINIO_ROOT_PASSWORD=testtest", "MINIO_BROWSER=off",
		"MINIO_IDENTITY_OPENID_CONFIG_URL="+issuer+"/.well-known/openid-configuration",
		"MINIO_IDENTITY_OPENID_CLIENT_ID=sts.amazonaws.com",
		"MINIO_IDENTITY_OPENID_ROLE_POLICY=readwrite")
	log := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	m := minio{url: "http://" + addr}
	role := regexp.MustCompile(`arn:minio:iam:::role/[\w-]+`)
	for began := time.Now(); m.role == ""; time.Sleep(50 * time.Millisecond) {
		m.role = role.FindString(log.String())
		if time.Since(began) > 30*time.Second {
			t.Fatalf("MinIO names no role:\n%s", log)
		}
	}
	client := sdk.New(sdk.Options{BaseEndpoint: &m.url, UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", "")})
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, err := client.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: aws.String("cache")})
		if err == nil {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("MinIO makes no bucket: %v\n%s", err, log)
		}
	}
	return m
}

// MinIO as the real thing: it checks our tokens against the issuer's keys, gives sessions for
// them with our session policy, and holds what they send to that policy.
func TestAssumeRoleInMinIO(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := sessiontest.New("127.0.0.1:0", sessiontest.Options{Issuer: sessiontest.Self})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	m := startMinIO(t, issuer.URL)
	env := maps.Clone(issuer.Environment())
	env["AWS_ENDPOINT_URL_STS"] = m.url
	env["AWS_ENDPOINT_URL_S3"] = m.url
	env["AWS_REGION"] = "us-east-1"
	source, err := filepath.Abs("../testdata/v3-signed")
	if err != nil {
		t.Fatal(err)
	}
	run := func(with map[string]string) (program.Result, string) {
		outputs := filepath.Join(t.TempDir(), "outputs")
		if err := os.WriteFile(outputs, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		all := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GITHUB_OUTPUT=" + outputs, "GITHUB_WORKSPACE=" + filepath.Dir(source)}
		for name, value := range env {
			all = append(all, name+"="+value)
		}
		for name, value := range with {
			all = append(all, "INPUT_"+strings.ToUpper(name)+"="+value)
		}
		r, err := program.Run(all, bin, "action")
		if err != nil {
			t.Fatal(err)
		}
		said, err := os.ReadFile(outputs)
		if err != nil {
			t.Fatal(err)
		}
		return r, string(said)
	}
	in := map[string]string{"role-to-assume": m.role, "path": source, "destination": "s3://cache/noble/spack", "endpoint-url": m.url}
	for _, want := range []string{"published", "unchanged"} {
		if r, outputs := run(in); r.Code != 0 || !strings.Contains(outputs, want) {
			t.Fatalf("%s: %v\n%s", want, r, outputs)
		}
	}
	client := sdk.New(sdk.Options{BaseEndpoint: &m.url, UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", "")})
	mirror := reader.V3(reader.Source{Get: func(name string) ([]byte, error) {
		out, err := client.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("cache"), Key: aws.String("noble/spack/" + name)})
		if err != nil {
			return nil, err
		}
		defer out.Body.Close()
		return io.ReadAll(out.Body)
	}})
	if !mirror.Works() || len(mirror.Specs) != 11 {
		t.Errorf("the mirror: %v", mirror)
	}

	// MinIO holds a session to its policy.
	in["session-policy"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::cache/other/*"}]}`
	in["destination"] = "s3://cache/third/spack"
	if r, outputs := run(in); r.Code == 0 || !strings.Contains(outputs, "failed") || !strings.Contains(r.Stdout, "denied") {
		t.Errorf("another prefix than that of the policy: %v\n%s", r, outputs)
	}
}
