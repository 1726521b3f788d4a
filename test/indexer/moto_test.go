package indexer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// machine is what all tests share: a server that speaks like S3 and SQS, and tells the one of the
// other.
var machine struct {
	url string
	err error // why there is none
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "indexer-")
	if err != nil {
		panic(err)
	}
	var stop func()
	stop, machine.err = startMoto(dir)
	code := m.Run()
	stop()
	program.Clean()
	os.RemoveAll(dir)
	os.Exit(code)
}

// startMoto finds the server by $MOTO_SERVER or installs it, and starts it.
func startMoto(dir string) (stop func(), err error) {
	stop = func() {}
	server := os.Getenv("MOTO_SERVER")
	if server == "" {
		out, err := exec.Command("../../infra/scripts/moto.sh").Output()
		if err != nil {
			return stop, fmt.Errorf("install moto: %w", err)
		}
		server = filepath.Join(strings.TrimSpace(string(out)), "moto_server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return stop, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	l.Close()
	if err != nil {
		return stop, err
	}
	log, err := os.Create(filepath.Join(dir, "moto.log"))
	if err != nil {
		return stop, err
	}
	defer log.Close() // the server has it
	cmd := exec.Command(server, "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return stop, fmt.Errorf("start moto: %w", err)
	}
	machine.url = "http://localhost:" + port // moto tells S3's own URLs from others by that word
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if res, err := http.Get(machine.url + "/moto-api/"); err == nil {
			res.Body.Close()
			return stop, nil
		}
	}
	return stop, errors.New("moto did not come up within a minute")
}

// needMachine skips a test where the server is missing, except where nothing may be skipped.
func needMachine(t *testing.T) {
	t.Helper()
	switch {
	case machine.err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(machine.err)
	default:
		t.Skip(machine.err)
	}
}

const account = "123456789012" // moto's

// A bucket tells a queue what is stored in it.
type bucket struct {
	name        string
	queue, dead string // URLs
	s3          *s3.Client
	sqs         *sqs.Client
}

// suffixes are the ends of the names that can change an index. They are those of infra/indexer.go, so
// that what is tested here is what is deployed.
var suffixes = []string{".manifest.json", ".spec.json", ".spec.json.sig", ".pub", "/index.json", "/index.json.hash", ".spack"}

// newBucket makes a bucket and its queue, from which messages go to another one after so many
// deliveries.
func newBucket(t *testing.T, name string, deliveries int) *bucket {
	t.Helper()
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: &machine.url, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
	b := &bucket{name: name, sqs: sqs.NewFromConfig(cfg), s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })}
	if _, err := b.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	b.dead = b.newQueue(t, name+"-dead", nil)
	b.queue = b.newQueue(t, name, map[string]string{
		"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:%s:%s-dead","maxReceiveCount":"%d"}`, account, name, deliveries),
	})
	var told []s3types.QueueConfiguration
	for _, s := range suffixes {
		told = append(told, s3types.QueueConfiguration{
			QueueArn: aws.String("arn:aws:sqs:us-east-1:" + account + ":" + name), Events: []s3types.Event{"s3:ObjectCreated:*"},
			Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{{Name: s3types.FilterRuleNameSuffix, Value: aws.String(s)}}}},
		})
	}
	_, err := b.s3.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &name, NotificationConfiguration: &s3types.NotificationConfiguration{QueueConfigurations: told},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bucket) newQueue(t *testing.T, name string, attributes map[string]string) string {
	t.Helper()
	out, err := b.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return *out.QueueUrl
}

func (b *bucket) put(ctx context.Context, name string, content []byte) error {
	_, err := b.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &name, Body: strings.NewReader(string(content))})
	return err
}

func (b *bucket) send(ctx context.Context, body string) error {
	_, err := b.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &b.queue, MessageBody: &body})
	return err
}

// messages is how many a queue holds, hidden or not.
func (b *bucket) messages(t *testing.T, queue string) string {
	t.Helper()
	out, err := b.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &queue, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Attributes["ApproximateNumberOfMessages"] + "+" + out.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

// await waits until a queue holds so many messages.
func (b *bucket) await(t *testing.T, queue, want string, patience time.Duration) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got = b.messages(t, queue); got == want {
			return
		}
	}
	t.Fatalf("%s holds %s messages, want %s", queue, got, want)
}

// anybody is who the CDN is to moto, which wants a signature and does not look at it.
type anybody struct{}

func (anybody) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20261124/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none")
	return http.DefaultTransport.RoundTrip(r)
}
