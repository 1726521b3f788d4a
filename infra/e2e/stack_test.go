package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
)

const domain = "cache.example.com"

// everything is every flag that adds a resource.
var everything = []string{
	"--domain", domain, "--zone-name", "example.com", "--account", account,
	"--manual-user", "james", "--alarm-email", "ops@example.com", "--monthly-budget", "50",
	"--cloudtrail", "--intelligent-tiering", "--immutable-packages", "--indexer-queue",
	"--publisher", "name=slurm,environment=release,prefix=slurm/",
	"--tag", "cost-center=hpc", "--inventory", "--athena", "--lock-log-days", "30", "--certificate-days", "30", "--cost-anomaly", "20", "--cache-tags", "--signing-key", "new", "--replica-region", "eu-west-1",
	"--permissions-boundary", "cache-boundary",
	"--deployer", "repo=vantagecompute/slurm-factory-publish,owner-id=111,repo-id=444",
}

// deployAll makes all resources of the full template in an empty account.
func deployAll(t *testing.T) (aws.Config, doctor.Stack, map[string]int) {
	t.Helper()
	cfg, stack, _, made := deployRegions(t)
	return cfg, stack, made
}

// deployRegions is deployAll, with the stack in the second region.
func deployRegions(t *testing.T) (cfg aws.Config, stack, replica doctor.Stack, made map[string]int) {
	t.Helper()
	needMachine(t)
	cfg = config(t, machine.moto)
	zone, err := route53.NewFromConfig(cfg).CreateHostedZone(context.Background(), &route53.CreateHostedZoneInput{
		Name: aws.String("example.com"), CallerReference: aws.String("1")})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimPrefix(*zone.HostedZone.Id, "/hostedzone/")
	if _, err := iam.NewFromConfig(cfg).CreatePolicy(context.Background(), &iam.CreatePolicyInput{PolicyName: aws.String("cache-boundary"),
		PolicyDocument: aws.String(mustInfra(t, machine.moto, "policy", "boundary", "--account", account).stdout)}); err != nil {
		t.Fatal(err)
	}
	full := read(t, variant(t, "full").files)
	of := func(stack string) []byte { return bytes.ReplaceAll(full[stack], []byte(anyZone), []byte(id)) }
	replica, _ = apply(t, cfg, of("SlurmFactoryInfraStack-replica")) // first, as CDK deploys it
	stack, made = apply(t, cfg, of("SlurmFactoryInfraStack"))
	return cfg, stack, replica, made
}

// synthesized is the template of the main stack that infra synth writes.
func synthesized(t *testing.T, flags ...string) []byte {
	t.Helper()
	return assembled(t, flags...)["SlurmFactoryInfraStack"]
}

// assembled are all templates that infra synth writes, by stack.
func assembled(t *testing.T, flags ...string) map[string][]byte {
	t.Helper()
	s := synthesize(t, t.TempDir(), false, flags...)
	if s.code != 0 {
		t.Fatal(s)
	}
	return read(t, s.files)
}

// A synthesis is how infra synth ended, and the templates that it wrote.
type synthesis struct {
	result
	files []string
}

// synthesize lets infra write templates into a directory, with CDK's own validation if that is asked for.
func synthesize(t *testing.T, dir string, validated bool, flags ...string) synthesis {
	t.Helper()
	env := append(awsEnv(machine.moto), fmt.Sprintf("CDK_VALIDATION=%v", validated))
	r := run(t, "..", env, machine.infra, append([]string{"synth", "--output", dir}, flags...)...)
	files, err := filepath.Glob(filepath.Join(dir, "*.template.json"))
	if err != nil {
		t.Fatal(err)
	}
	return synthesis{r, files}
}

// read are templates, by stack.
func read(t *testing.T, files []string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".template.json")] = text
	}
	return all
}

// TestFullTemplateIsMade creates every resource of the full template through the
// services' APIs, save those that moto has no API for.
func TestFullTemplateIsMade(t *testing.T) {
	_, stack, made := deployAll(t)
	want, lacking := 0, 0
	for id, r := range stack.Template.Resources {
		if slices.Contains(motoLacks, r.Type) {
			lacking++
			continue
		}
		want++
		if stack.World.Ref[id] == "" {
			t.Errorf("%s %s was not made", r.Type, id)
		}
	}
	got := 0
	for _, n := range made {
		got += n
	}
	if got != want || got < 34 {
		t.Errorf("made %d of %d resources", got, want)
	}
	t.Logf("made %d resources (%s); moto lacks %d", got, types(made), lacking)
}

// TestMissingIsDocumented: what moto lacks is said to those who read the docs.
func TestMissingIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/infra-tests.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range motoLacks {
		if !strings.Contains(string(b), "`"+kind+"`") {
			t.Errorf("docs/infra-tests.md does not list %s", kind)
		}
	}
}

// TestBucketKeepsVersions tries what the bucket promises on the bucket that was made.
func TestBucketKeepsVersions(t *testing.T) {
	cfg, stack, _ := deployAll(t)
	liftBucketPolicy(t, cfg, stack)
	ctx := context.Background()
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	bucket := aws.String(stack.Outputs["BucketName"])
	for _, body := range []string{"old", "new"} {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("v3/layout.json"), Body: strings.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("v3/layout.json")}); err != nil {
		t.Fatal(err)
	}
	out, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket})
	if err != nil || len(out.Versions) != 2 || len(out.DeleteMarkers) != 1 {
		t.Fatalf("%d versions, %d markers, %v; want 2 and 1", len(out.Versions), len(out.DeleteMarkers), err)
	}
	life, err := c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: bucket})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(life.Rules, func(r s3types.LifecycleRule) bool {
		return r.NoncurrentVersionExpiration != nil && *r.NoncurrentVersionExpiration.NoncurrentDays == 90
	}) {
		t.Errorf("no rule ends old versions: %+v", life.Rules)
	}
}

// TestQueryStringsAreHarmful measures, on a real S3 server, why query strings stop at the
// edge: S3 obeys them in any signed request, and the distribution signs. A link to our
// host could show a package's bytes as a web page.
func TestQueryStringsAreHarmful(t *testing.T) {
	endpoint := startS3(t)
	ctx := context.Background()
	c := s3.New(s3.Options{BaseEndpoint: &endpoint, UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("test", "testtest", "")})
	bucket, key := aws.String("cache"), aws.String("blobs/sha256/ab/abc")
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key,
		Body: strings.NewReader("<script>"), ContentType: aws.String("application/octet-stream")}); err != nil {
		t.Fatal(err)
	}
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ResponseContentType: aws.String("text/html")})
	if err != nil {
		t.Fatal(err)
	}
	out.Body.Close()
	if got := aws.ToString(out.ContentType); got != "text/html" {
		t.Errorf("Content-Type %s: S3 no longer obeys response-content-type, so --query-strings could be reconsidered", got)
	}
}

// startS3 starts the project's own S3 server (test/cmd/s3server) and returns its URL.
func startS3(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "s3server")
	build := run(t, "../../test", append(os.Environ(), "GOWORK=off"), "go", "build", "-o", bin, "./cmd/s3server")
	if build.code != 0 {
		t.Fatal(build)
	}
	cmd := exec.Command(bin, "-leash", "-dir", t.TempDir())
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leash.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
