package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/publish/credentials"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/unreached"
)

// SQS is a queue of Amazon SQS, or of a compatible server.
type SQS struct {
	url, name string
	api       *sqs.Client
}

// batches is the maximum number of concurrent requests about held messages. All messages that a host may hold are
// hidden again within seconds.
const batches = 8

// Open returns a queue. It sends no request. where is the URL of the queue, as SQS shows it or starting with
// sqs://, or its ARN.
func Open(cfg aws.Config, where string) (*SQS, error) {
	at, err := locate(where)
	if err != nil {
		return nil, err
	}
	q := &SQS{url: at.url, name: at.url[strings.LastIndexByte(at.url, '/')+1:]}
	q.api = sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		o.Credentials = credentials.Tagged(o.Credentials)
		if at.endpoint != "" {
			o.BaseEndpoint = &at.endpoint
		}
		switch {
		case at.region != "":
			o.Region = at.region
		case o.Region == "":
			o.Region = "us-east-1" // signatures need a region; services other than Amazon's ignore it
		}
	})
	return q, nil
}

// A location is the parsed address of a queue.
type location struct {
	url      string // the queue's URL in SQS
	region   string // empty if the address has none
	endpoint string // empty for AWS
}

// ofAmazon matches Amazon's endpoints, old and new, and captures the region.
var ofAmazon = regexp.MustCompile(`^(?:sqs(?:-fips)?\.)?([a-z0-9-]+)(?:\.queue)?\.(?:amazonaws\.com|amazonaws\.com\.cn|api\.aws)$`)

var queueARN = regexp.MustCompile(`^arn:(aws[a-z-]*):sqs:([a-z0-9-]+):(\d{12}):([A-Za-z0-9_-]{1,80}(?:\.fifo)?)$`)

func locate(where string) (location, error) {
	if m := queueARN.FindStringSubmatch(where); m != nil {
		domain := "amazonaws.com"
		if m[1] == "aws-cn" {
			domain = "amazonaws.com.cn"
		}
		return location{url: "https://sqs." + m[2] + "." + domain + "/" + m[3] + "/" + m[4], region: m[2]}, nil
	}
	u, err := redact.Parse(where)
	if err != nil {
		return location{}, fmt.Errorf("queue: %w", err)
	}
	name := strings.Trim(u.Path, "/")
	if !slices.Contains([]string{"sqs", "https", "http"}, u.Scheme) || u.Host == "" || name == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return location{}, fmt.Errorf("queue %q: want its URL, such as sqs://sqs.us-east-1.amazonaws.com/111122223333/indexer, or its ARN", redact.URL(where))
	}
	if u.Scheme == "sqs" {
		u.Scheme = "https"
	}
	at := location{url: u.String()}
	if m := ofAmazon.FindStringSubmatch(u.Host); m != nil && u.Scheme == "https" {
		at.region = m[1]
	} else {
		at.endpoint = u.Scheme + "://" + u.Host
	}
	return at, nil
}

// Receive implements Queue.
func (q *SQS) Receive(ctx context.Context, wait, hidden time.Duration) ([]Message, error) {
	out, err := q.api.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: aBatch,
		WaitTimeSeconds: int32(wait / time.Second), VisibilityTimeout: int32(hidden / time.Second),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp},
	})
	if err != nil {
		return nil, q.translate(ctx, "sqs:ReceiveMessage", err)
	}
	messages := make([]Message, len(out.Messages))
	for i, m := range out.Messages {
		n, _ := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
		sent, _ := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64)
		messages[i] = Message{ID: aws.ToString(m.MessageId), Receipt: aws.ToString(m.ReceiptHandle), Body: []byte(aws.ToString(m.Body)), Deliveries: n}
		if sent > 0 {
			messages[i].Sent = time.UnixMilli(sent).UTC()
		}
	}
	return messages, nil
}

// Deliveries implements Queue.
func (q *SQS) Deliveries(ctx context.Context) (int, error) {
	out, err := q.api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameRedrivePolicy},
	})
	if err != nil {
		return 0, q.translate(ctx, "sqs:GetQueueAttributes", err)
	}
	text := out.Attributes[string(types.QueueAttributeNameRedrivePolicy)]
	if text == "" {
		return 0, nil
	}
	var redrive struct {
		Most json.RawMessage `json:"maxReceiveCount"` // a number, or one in quotation marks
	}
	if err := json.Unmarshal([]byte(text), &redrive); err != nil {
		return 0, fmt.Errorf("queue %s: redrive policy %q: %w", q.name, text, err)
	}
	n, err := strconv.Atoi(strings.Trim(string(redrive.Most), `"`))
	if err != nil {
		return 0, fmt.Errorf("queue %s: redrive policy %q: %w", q.name, text, err)
	}
	return n, nil
}

// Hide implements Queue.
func (q *SQS) Hide(ctx context.Context, receipts []string, hidden time.Duration) error {
	return q.inBatches(ctx, "sqs:ChangeMessageVisibility", receipts, func(ctx context.Context, batch []string) ([]types.BatchResultErrorEntry, error) {
		entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(batch))
		for i := range batch {
			entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &batch[i], VisibilityTimeout: int32(hidden / time.Second),
			}
		}
		out, err := q.api.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: entries})
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// Delete implements Queue.
func (q *SQS) Delete(ctx context.Context, receipts []string) error {
	return q.inBatches(ctx, "sqs:DeleteMessage", receipts, func(ctx context.Context, batch []string) ([]types.BatchResultErrorEntry, error) {
		entries := make([]types.DeleteMessageBatchRequestEntry, len(batch))
		for i := range batch {
			entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &batch[i]}
		}
		out, err := q.api.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: entries})
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// inBatches makes a request for every ten receipts. If one request fails, the others are still made.
func (q *SQS) inBatches(ctx context.Context, action string, receipts []string, request func(context.Context, []string) ([]types.BatchResultErrorEntry, error)) error {
	var g defect.Group
	g.SetLimit(batches)
	for batch := range slices.Chunk(receipts, aBatch) {
		g.Go(func() error {
			failed, err := request(ctx, batch)
			if err != nil {
				return q.translate(ctx, action, err)
			}
			for _, f := range failed {
				if f.SenderFault { // the receipt is invalid: another receiver has the message, or it is gone
					continue
				}
				return fmt.Errorf("%s on queue %s: %s: %s", action, q.name, aws.ToString(f.Code), aws.ToString(f.Message))
			}
			return nil
		})
	}
	return g.Wait()
}

// translate turns an error of SQS into one that callers branch on.
func (q *SQS) translate(ctx context.Context, action string, err error) error {
	var missing *types.QueueDoesNotExist
	var api smithy.APIError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &missing):
		return fmt.Errorf("%w: %s", ErrNoQueue, q.url)
	case !errors.As(err, &api):
	case api.ErrorCode() == "AccessDenied", api.ErrorCode() == "AccessDeniedException", strings.HasPrefix(api.ErrorCode(), "KMS."):
		return &mirror.DeniedError{Action: action, Name: "queue " + q.name, Detail: api.ErrorMessage()}
	case credentials.Refused(api.ErrorCode()):
		return fmt.Errorf("queue %s: %w: %s: %s", q.name, mirror.ErrCredentials, api.ErrorCode(), api.ErrorMessage())
	}
	return fmt.Errorf("queue %s: %w", q.name, unreached.Error(err))
}
