package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// buildPublish builds the publisher from the module above this one; $PUBLISH names one
// that is built already.
func buildPublish(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("PUBLISH"); bin != "" {
		return bin
	}
	if found, _ := filepath.Glob("../../cmd/publish/*.go"); len(found) == 0 {
		t.Skip("this tree has no cmd/publish")
	}
	bin := filepath.Join(t.TempDir(), "publish")
	if r := run(t, "../..", append(os.Environ(), "GOWORK=off"), "go", "build", "-o", bin, "./cmd/publish"); r.code != 0 {
		t.Fatal(r)
	}
	return bin
}

// TestPublishIntoTheCreatedBucket publishes a mirror that Spack itself wrote into the
// bucket of the stack and invalidates its distribution, and asks the policies of the
// role that was created about every call that the publisher made.
func TestPublishIntoTheCreatedBucket(t *testing.T) {
	bin := buildPublish(t)
	for mirror, index := range map[string]string{"v3-signed": "v3/manifests/index/index.manifest.json", "v2-signed": "build_cache/index.json"} {
		t.Run(mirror, func(t *testing.T) { publishInto(t, bin, mirror, index) })
	}
}

func publishInto(t *testing.T, bin, mirror, index string) {
	cfg, stack, _ := deployAll(t)
	ctx := context.Background()
	asked := policies(t, cfg, stack, "slurm-factory-slurm")
	liftBucketPolicy(t, cfg, stack)
	rec := record(t)
	publish := func(destination string, flags ...string) result {
		args := append([]string{"../../test/testdata/" + mirror, destination, "--endpoint-url", rec.URL, "--region", "us-east-1",
			"--distribution-id", stack.Outputs["DistributionId"]}, flags...)
		return run(t, ".", awsEnv(rec.URL), bin, args...)
	}
	destination := "s3://" + stack.Outputs["BucketName"] + "/slurm/25.11/buildcache"

	// A part of the mirror first, so that the rest is merged into an index that is there.
	if r := publish(destination, "--exclude", "slurm"); r.code != 0 {
		t.Fatal(r)
	}
	for _, s := range rec.requests() {
		allow(t, asked, s)
	}

	if r := publish(destination, "--dry-run"); r.code != 0 {
		t.Fatal(r)
	}
	for _, s := range rec.requests() {
		if s.request.Method != http.MethodGet && s.request.Method != http.MethodHead {
			t.Errorf("a dry run made %s %s", s.request.Method, s.request.URL)
		}
		allow(t, asked, s)
	}

	if r := publish(destination); r.code != 0 {
		t.Fatal(r)
	}
	created, swapped := 0, 0
	for _, s := range rec.requests() {
		call := allow(t, asked, s)
		if call.Action != "s3:PutObject" {
			continue
		}
		refuse(t, asked, call, strings.Replace(call.Resource, "/slurm/", "/other/", 1))
		unconditional(t, asked, call)
		if call.Keys["s3:if-none-match"] != "" {
			created++
		}
		if call.Keys["s3:if-match"] != "" {
			swapped++
		}
	}
	if created == 0 || swapped == 0 {
		t.Fatalf("%d objects were created and %d replaced, want some of each", created, swapped)
	}
	objects(t, cfg, stack, "slurm/25.11/buildcache/"+index)
	invalidations, err := cloudfront.NewFromConfig(cfg).ListInvalidations(ctx, &cloudfront.ListInvalidationsInput{DistributionId: aws.String(stack.Outputs["DistributionId"])})
	if err != nil || len(invalidations.InvalidationList.Items) == 0 {
		t.Errorf("no invalidation of the created distribution: %v", err)
	}

	if r := publish(destination); r.code != 0 {
		t.Fatal(r)
	}
	for _, s := range rec.requests() {
		if call := allow(t, asked, s); call.Action == "s3:PutObject" || call.Action == "cloudfront:CreateInvalidation" {
			t.Errorf("publishing the same again made %s %s", s.request.Method, s.request.URL)
		}
	}
}

// policies are what decides a call of the role: its own policies, as IAM has them, and
// the bucket's, as the stack made it.
func policies(t *testing.T, cfg aws.Config, stack doctor.Stack, role string) []policy.Document {
	t.Helper()
	ctx := context.Background()
	c := iam.NewFromConfig(cfg)
	names, err := c.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &role})
	if err != nil {
		t.Fatal(err)
	}
	var all []policy.Document
	for _, name := range names.PolicyNames {
		out, err := c.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: &name})
		if err != nil {
			t.Fatal(err)
		}
		plain, err := url.QueryUnescape(*out.PolicyDocument)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parsePolicy(t, plain))
	}
	if len(all) == 0 {
		t.Fatalf("role %s has no policy", role)
	}
	bucket, err := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).GetBucketPolicy(ctx,
		&s3.GetBucketPolicyInput{Bucket: aws.String(stack.Outputs["BucketName"])})
	if err != nil {
		t.Fatal(err)
	}
	return append(all, parsePolicy(t, *bucket.Policy))
}

func parsePolicy(t *testing.T, text string) policy.Document {
	t.Helper()
	d, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return d
}

// allow asks the policies about a recorded request, as AWS would see it over TLS from
// the role's session.
func allow(t *testing.T, docs []policy.Document, s seen) policy.Request {
	t.Helper()
	call, err := policy.FromHTTP(s.request, account)
	if err != nil {
		t.Error(err)
		return call
	}
	got := decide(t, docs, call)
	if !got.Allowed {
		b, _ := json.Marshal(call)
		t.Errorf("%s %s: %s (%s)", s.request.Method, s.request.URL, got, b)
	}
	return call
}

// refuse asks about the same call on another resource, which must be denied.
func refuse(t *testing.T, docs []policy.Document, call policy.Request, resource string) {
	t.Helper()
	call.Resource = resource
	if got := decide(t, docs, call); got.Allowed {
		t.Errorf("%s on %s is %s", call.Action, resource, got)
	}
}

// unconditional asks about a write that makes an object once more without its condition, which
// must be denied.
func unconditional(t *testing.T, docs []policy.Document, call policy.Request) {
	t.Helper()
	if call.Keys["s3:ObjectCreationOperation"] != "true" {
		return
	}
	call.Keys = maps.Clone(call.Keys)
	delete(call.Keys, "s3:if-none-match")
	delete(call.Keys, "s3:if-match")
	refuse(t, docs, call, call.Resource)
}

// TestLargeFilesArePublishedIntoTheCreatedBucket: the condition of an upload in parts
// stands on its completion, and the policies let its other requests pass.
func TestLargeFilesArePublishedIntoTheCreatedBucket(t *testing.T) {
	bin := buildPublish(t)
	cfg, stack, _ := deployAll(t)
	asked := policies(t, cfg, stack, "slurm-factory-slurm")
	liftBucketPolicy(t, cfg, stack)
	source := t.TempDir()
	if err := os.CopyFS(source, os.DirFS("../../test/testdata/v3-signed")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "slurm.tar.gz"), make([]byte, 40<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	rec := record(t)
	destination := "s3://" + stack.Outputs["BucketName"] + "/slurm/25.11/buildcache"
	if r := run(t, ".", awsEnv(rec.URL), bin, source, destination, "--files", "*.tar.gz", "--part-size", "5MiB",
		"--endpoint-url", rec.URL, "--region", "us-east-1", "--distribution-id", stack.Outputs["DistributionId"]); r.code != 0 {
		t.Fatal(r)
	}
	parts, completed := 0, 0
	for _, s := range rec.requests() {
		call := allow(t, asked, s)
		switch q := s.request.URL.Query(); {
		case q.Has("partNumber"):
			parts++
		case q.Has("uploadId") && s.request.Method == http.MethodPost:
			completed++
			unconditional(t, asked, call)
		}
	}
	if parts < 3 || completed != 1 {
		t.Errorf("%d parts and %d completions, want at least 3 and 1", parts, completed)
	}
	objects(t, cfg, stack, "slurm/25.11/buildcache/slurm.tar.gz")
}

func decide(t *testing.T, docs []policy.Document, call policy.Request) policy.Decision {
	t.Helper()
	keys := map[string]string{"aws:SecureTransport": "true", "s3:TlsVersion": "1.3",
		"aws:PrincipalArn": "arn:aws:iam::" + account + ":role/slurm-factory-slurm"}
	for k, v := range call.Keys {
		keys[k] = v
	}
	call.Keys = keys
	call.Principal = policy.Principal{"AWS": {"arn:aws:sts::" + account + ":assumed-role/slurm-factory-slurm/run"}}
	got, err := policy.Decide(call, docs...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// objects asks that each name is in the bucket.
func objects(t *testing.T, cfg aws.Config, stack doctor.Stack, names ...string) {
	t.Helper()
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for _, name := range names {
		if _, err := c.HeadObject(context.Background(), &s3.HeadObjectInput{Bucket: aws.String(stack.Outputs["BucketName"]), Key: &name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
