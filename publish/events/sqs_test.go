package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A request is what an SQS was asked.
type request struct {
	action, scope string // of the signature: region and service
	host          string
	body          map[string]any
}

// answers is an SQS that answers with what it is told, and remembers what it was asked.
type answers struct {
	mu       sync.Mutex
	requests []request
	answer   func(action string) (status int, body string)
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	text, _ := io.ReadAll(r.Body)
	var body map[string]any
	_ = json.Unmarshal(text, &body)
	scope, _, _ := strings.Cut(r.Header.Get("Authorization"), ",")
	a.mu.Lock()
	a.requests = append(a.requests, request{action, scope, r.Host, body})
	a.mu.Unlock()
	status, answer := a.answer(action)
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	fmt.Fprint(w, answer)
}

// queueAt opens a queue of an SQS that gives answers.
func queueAt(t *testing.T, answer func(action string) (int, string)) (*events.SQS, *answers) {
	t.Helper()
	a := &answers{answer: answer}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	q, err := events.Open(config(server.Client()), server.URL+"/111122223333/indexer")
	if err != nil {
		t.Fatal(err)
	}
	return q, a
}

func config(client aws.HTTPClient) aws.Config {
	return aws.Config{
		HTTPClient: client, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "s"}, nil
		}),
	}
}

// Messages come with what tells how often they have come.
func TestReceive(t *testing.T) {
	q, a := queueAt(t, func(string) (int, string) {
		return 200, `{"Messages":[{"MessageId":"m1","ReceiptHandle":"r1","Body":"hello","MD5OfBody":"5d41402abc4b2a76b9719d911017c592","Attributes":{"ApproximateReceiveCount":"3","SentTimestamp":"1763632800123"}}]}`
	})
	got, err := q.Receive(t.Context(), 20*time.Second, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ID != "m1" || got[0].Receipt != "r1" || string(got[0].Body) != "hello" || got[0].Deliveries != 3 || !got[0].Sent.Equal(time.UnixMilli(1763632800123)) {
		t.Errorf("messages: %+v", got)
	}
	asked := a.requests[0]
	if asked.action != "ReceiveMessage" || asked.body["WaitTimeSeconds"] != 20.0 || asked.body["VisibilityTimeout"] != 120.0 || asked.body["MaxNumberOfMessages"] != 10.0 || fmt.Sprint(asked.body["MessageSystemAttributeNames"]) != "[ApproximateReceiveCount SentTimestamp]" {
		t.Errorf("asked: %+v", asked)
	}
}

// How often a message is delivered is in the policy of the queue, which tells it as a number or as a
// text, or is not there.
func TestDeliveries(t *testing.T) {
	for _, row := range []struct {
		attributes string
		want       int
		ok         bool
	}{
		{`{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:1:d\",\"maxReceiveCount\":10}"}`, 10, true},
		{`{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:1:d\",\"maxReceiveCount\":\"7\"}"}`, 7, true},
		{`{}`, 0, true},
		{`{"RedrivePolicy":"ten"}`, 0, false},
		{`{"RedrivePolicy":"{}"}`, 0, false},
	} {
		q, a := queueAt(t, func(string) (int, string) { return 200, `{"Attributes":` + row.attributes + `}` })
		if n, err := q.Deliveries(t.Context()); n != row.want || (err == nil) != row.ok {
			t.Errorf("%s: %d, %v", row.attributes, n, err)
		}
		if asked := a.requests[0]; asked.action != "GetQueueAttributes" || fmt.Sprint(asked.body["AttributeNames"]) != "[RedrivePolicy]" {
			t.Errorf("asked: %+v", asked)
		}
	}
	q, _ := queueAt(t, func(string) (int, string) { return 403, `{"__type":"AccessDeniedException","message":"no"}` })
	if _, err := q.Deliveries(t.Context()); !errors.Is(err, mirror.ErrDenied) || !strings.Contains(err.Error(), "sqs:GetQueueAttributes") {
		t.Errorf("denied: %v", err)
	}
}

// However many messages are held, ten are in a request, and none is forgotten when a batch fails.
func TestBatches(t *testing.T) {
	var receipts []string
	for i := range 35 {
		receipts = append(receipts, fmt.Sprint("receipt-", i))
	}
	fails := false
	q, a := queueAt(t, func(string) (int, string) {
		if fails {
			return 200, `{"Successful":[],"Failed":[{"Id":"0","SenderFault":false,"Code":"InternalError","Message":"try again"}]}`
		}
		return 200, `{"Successful":[],"Failed":[{"Id":"0","SenderFault":true,"Code":"ReceiptHandleIsInvalid","Message":"it is gone"}]}`
	})
	if err := q.Hide(t.Context(), receipts, time.Minute); err != nil {
		t.Errorf("hide what others hold: %v", err)
	}
	if err := q.Delete(t.Context(), receipts); err != nil {
		t.Errorf("delete what is gone: %v", err)
	}
	if err := q.Delete(t.Context(), nil); err != nil {
		t.Errorf("delete nothing: %v", err)
	}
	seen := map[string]int{}
	for _, r := range a.requests {
		entries := r.body["Entries"].([]any)
		if len(entries) > 10 {
			t.Errorf("%s of %d", r.action, len(entries))
		}
		for _, e := range entries {
			entry := e.(map[string]any)
			if r.action == "ChangeMessageVisibilityBatch" && entry["VisibilityTimeout"] != 60.0 {
				t.Errorf("hidden for %v", entry["VisibilityTimeout"])
			}
			seen[r.action+" "+entry["ReceiptHandle"].(string)]++
		}
	}
	if len(seen) != 70 || len(a.requests) != 8 {
		t.Errorf("%d requests about %d messages", len(a.requests), len(seen))
	}
	fails = true
	if err := q.Hide(t.Context(), receipts, 0); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Errorf("error is %v", err)
	}
}

// What SQS refuses is said in words that callers branch on, with the name of the queue.
func TestRefusals(t *testing.T) {
	for _, row := range []struct {
		status int
		code   string
		want   error
	}{
		{400, "com.amazonaws.sqs#QueueDoesNotExist", events.ErrNoQueue},
		{403, "AccessDeniedException", mirror.ErrDenied},
		{400, "KMS.AccessDeniedException", mirror.ErrDenied},
		{403, "InvalidClientTokenId", mirror.ErrCredentials},
		{403, "ExpiredToken", mirror.ErrCredentials},
		{500, "InternalError", nil},
	} {
		q, _ := queueAt(t, func(string) (int, string) { return row.status, `{"__type":"` + row.code + `","message":"no"}` })
		_, err := q.Receive(t.Context(), 0, time.Minute)
		if err == nil || row.want != nil && !errors.Is(err, row.want) || !strings.Contains(err.Error(), "indexer") {
			t.Errorf("%s: error is %v", row.code, err)
		}
		for _, other := range []error{events.ErrNoQueue, mirror.ErrDenied, mirror.ErrCredentials} {
			if other != row.want && errors.Is(err, other) {
				t.Errorf("%s: error is %v", row.code, err)
			}
		}
	}
	cfg := config(http.DefaultClient)
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("none") })
	q, err := events.Open(cfg, "http://127.0.0.1:1/1/q")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Receive(t.Context(), 0, time.Minute); !errors.Is(err, mirror.ErrCredentials) {
		t.Errorf("without credentials: %v", err)
	}
}

// A queue is found by its URL or ARN, in its own region, whatever the region of the rest is.
func TestWhereQueuesAre(t *testing.T) {
	for _, row := range []struct{ where, host, region string }{
		{"https://sqs.eu-central-1.amazonaws.com/111122223333/indexer", "sqs.eu-central-1.amazonaws.com", "eu-central-1"},
		{"sqs://sqs.eu-central-1.amazonaws.com/111122223333/indexer", "sqs.eu-central-1.amazonaws.com", "eu-central-1"},
		{"arn:aws:sqs:eu-central-1:111122223333:indexer", "sqs.eu-central-1.amazonaws.com", "eu-central-1"},
		{"arn:aws-cn:sqs:cn-north-1:111122223333:indexer", "sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"},
		{"https://eu-west-1.queue.amazonaws.com/111122223333/indexer", "sqs.eu-west-1.amazonaws.com", "eu-west-1"},
		{"sqs://localhost:9324/000000000000/indexer", "localhost:9324", "us-west-2"},
		{"http://localhost:9324/000000000000/indexer", "localhost:9324", "us-west-2"},
	} {
		var asked *http.Request
		cfg := config(roundTrip(func(r *http.Request) (*http.Response, error) { asked = r; return nil, errors.New("no network") }))
		cfg.Region = "us-west-2"
		q, err := events.Open(cfg, row.where)
		if err != nil {
			t.Errorf("%s: %v", row.where, err)
			continue
		}
		_, _ = q.Receive(t.Context(), 0, time.Minute)
		if asked == nil || asked.URL.Host != row.host || !strings.Contains(asked.Header.Get("Authorization"), "/"+row.region+"/sqs/") {
			t.Errorf("%s: asked %v", row.where, asked)
		}
		if secure := asked.URL.Scheme == "https"; secure == strings.HasPrefix(row.where, "http:") {
			t.Errorf("%s: asked by %s", row.where, asked.URL.Scheme)
		}
	}
	for _, where := range []string{"", "indexer", "sqs://", "sqs://indexer", "s3://bucket/x", "https://sqs.us-east-1.amazonaws.com/", "https://u:p@h/1/q", "https://h/1/q?x=1", "arn:aws:sns:eu-central-1:111122223333:t", "http://h\x7f/1/q"} {
		if _, err := events.Open(config(http.DefaultClient), where); err == nil {
			t.Errorf("%q: no error", where)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r) }
