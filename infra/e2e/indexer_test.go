package e2e

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// TestIndexerOfTheCreatedQueue copies a mirror that Spack itself wrote into the bucket of the stack,
// without its index. What the bucket tells the queue is all that the indexer needs, and the policy
// of the role that was created is asked about every call that it makes.
func TestIndexerOfTheCreatedQueue(t *testing.T) {
	bin := buildPublish(t)
	cfg, stack, _ := deployAll(t)
	asked := policies(t, cfg, stack, "slurm-factory-indexer")
	liftBucketPolicy(t, cfg, stack)
	bucket, queue := stack.Outputs["BucketName"], stack.Outputs["IndexerQueueUrl"]
	pushed, documents := push(t, cfg, bucket, "noble/spack/")
	if told := messages(t, cfg, queue); told != documents+1 || documents == 0 || pushed == documents {
		t.Fatalf("%d objects, %d of them documents and keys, are %d messages, with the one by which S3 has tried", pushed, documents, told)
	}

	rec := record(t)
	cmd := exec.Command(bin, "indexer", "--queue", strings.Replace(queue, machine.moto, rec.URL, 1), "--endpoint-url", rec.URL, "--region", "us-east-1",
		"--settle", "1s", "--distribution-id", stack.Outputs["DistributionId"], "s3://"+bucket)
	cmd.Env = awsEnv(rec.URL)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); messages(t, cfg, queue) > 0 && time.Now().Before(deadline); {
		time.Sleep(200 * time.Millisecond)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the indexer ended with %v\n%s", err, said.String())
	}

	calls := map[string]int{}
	for _, s := range rec.requests() {
		if target := s.request.Header.Get("X-Amz-Target"); strings.HasPrefix(target, "AmazonSQS.") {
			call := queueCall(t, target, s.body)
			calls[call.Action]++
			if got := decide(t, asked, call); !got.Allowed {
				t.Errorf("%s: %s", target, got)
			}
			continue
		}
		call := allow(t, asked, s)
		if calls[call.Action]++; call.Action == "s3:PutObject" {
			refuse(t, asked, call, "arn:aws:s3:::"+bucket+"/noble/spack/v3/manifests/spec/zlib/zlib-1.spec.manifest.json")
		}
	}
	for _, action := range []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "s3:PutObject", "cloudfront:CreateInvalidation"} {
		if calls[action] == 0 {
			t.Errorf("there was no %s: %v", action, calls)
		}
	}
	objects(t, cfg, stack, "noble/spack/v3/manifests/index/index.manifest.json", "noble/spack/v3/manifests/key/keys.manifest.json")
	if n := messages(t, cfg, stack.Outputs["IndexerDeadLetterQueueUrl"]); n != 0 {
		t.Errorf("%d messages are dead", n)
	}
	invalidations, err := cloudfront.NewFromConfig(cfg).ListInvalidations(context.Background(), &cloudfront.ListInvalidationsInput{DistributionId: aws.String(stack.Outputs["DistributionId"])})
	if err != nil || len(invalidations.InvalidationList.Items) == 0 {
		t.Errorf("no invalidation of the created distribution: %v", err)
	}
}

// push stores a mirror, all but its indices, and returns how many objects that are, and how many
// of them the bucket should tell of.
func push(t *testing.T, cfg aws.Config, bucket, prefix string) (all, documents int) {
	t.Helper()
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	mirror := os.DirFS("../../test/testdata/v3-signed")
	var names []string
	err := fs.WalkDir(mirror, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(name, "v3/manifests/index/") && name != "v3/manifests/key/keys.manifest.json" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names { // content first, as it happens
		content, err := fs.ReadFile(mirror, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String(prefix + name), Body: strings.NewReader(string(content))}); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "v3/manifests/") {
			documents++
		}
	}
	return len(names), documents
}

// messages is how many a queue holds, hidden or not.
func messages(t *testing.T, cfg aws.Config, queue string) int {
	t.Helper()
	out, err := sqs.NewFromConfig(cfg).GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"} {
		k, err := strconv.Atoi(out.Attributes[name])
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	return n
}

// queueCall is a request to SQS as IAM sees it: what is asked in batches is permitted as what is asked
// one by one.
func queueCall(t *testing.T, target string, body []byte) policy.Request {
	t.Helper()
	var asked struct{ QueueUrl string }
	if err := json.Unmarshal(body, &asked); err != nil {
		t.Fatal(err)
	}
	action := strings.TrimSuffix(strings.TrimPrefix(target, "AmazonSQS."), "Batch")
	return policy.Request{Action: "sqs:" + action, Resource: "arn:aws:sqs:us-east-1:" + account + ":" + asked.QueueUrl[strings.LastIndexByte(asked.QueueUrl, '/')+1:]}
}
