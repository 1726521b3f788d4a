package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// indexer asks whether what is stored in the bucket reaches hosts that run publish indexer: the bucket tells
// the queue, which lets it, and keeps what nobody could do. A stack without a queue has nothing to be asked.
func (d Doctor) indexer(ctx context.Context) ([]Finding, error) {
	if d.Stack.Outputs["IndexerQueueUrl"] == "" {
		return nil, nil
	}
	var all []Finding
	for _, look := range []func(context.Context) ([]Finding, error){d.queue, d.deadLetters, d.notifications} {
		found, err := look(ctx)
		all = append(all, found...)
		if err != nil {
			all = append(all, unexamined("indexer", err))
		}
	}
	return all, nil
}

// attributes are those of a queue of the stack; nil if it is not there.
func (d Doctor) attributes(ctx context.Context, url string) (map[string]string, error) {
	out, err := d.SQS.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
	var none *sqstypes.QueueDoesNotExist
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get attributes of queue %s: %w", url, err)
	}
	return out.Attributes, nil
}

func (d Doctor) queue(ctx context.Context) ([]Finding, error) {
	const check = "indexer queue"
	url := d.Stack.Outputs["IndexerQueueUrl"]
	have, err := d.attributes(ctx, url)
	if err != nil {
		return nil, err
	}
	if have == nil {
		return []Finding{broken(check, remake, "%s does not exist: indexers are told nothing", url)}, nil
	}
	id := d.Stack.called(url)
	var found []Finding
	for name, why := range map[string]string{
		"VisibilityTimeout":             "",
		"ReceiveMessageWaitTimeSeconds": "",
		"MessageRetentionPeriod":        "messages of hosts that are away are lost sooner or later than the stack says",
	} {
		seconds, _ := d.Stack.Template.Resources[id].Properties[name].(float64)
		if want := fmt.Sprintf("%.0f", seconds); have[name] != want {
			found = append(found, doubtful(check, redeploy, "%s is %q, the stack says %s%s", name, have[name], want, because(why)))
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Detail, b.Detail) })
	if dead := arnOf(d.Stack.Outputs["IndexerDeadLetterQueueUrl"], d.Stack.World.Region); !strings.Contains(have["RedrivePolicy"], `"`+dead+`"`) {
		found = append(found, broken(check, redeploy, "messages that no host can do do not go to %s: they come again for as long as SQS keeps them", dead))
	}
	permits, err := d.queuePolicy(have["Policy"])
	if err != nil {
		return nil, err
	}
	found = append(found, permits...)
	return orWell(found, check, "%s lets the bucket tell it, and hands on what is dead", url), nil
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// queuePolicy compares the policy of the queue with the stack's.
func (d Doctor) queuePolicy(live string) ([]Finding, error) {
	const check = "indexer queue"
	var want policy.Document
	for _, id := range d.Stack.Template.OfType("AWS::SQS::QueuePolicy") {
		p := d.Stack.Template.Resources[id].Properties
		queues, err := d.Stack.Template.Resolve(p["Queues"], d.Stack.World)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(queues.([]any), any(d.Stack.Outputs["IndexerQueueUrl"])) {
			continue
		}
		if want, err = d.Stack.documentOf(p["PolicyDocument"]); err != nil {
			return nil, err
		}
	}
	if live == "" {
		return []Finding{broken(check, d.setQueuePolicy(want), "it has no policy: the bucket may not tell it what is stored")}, nil
	}
	found, err := compared(check, "its policy", []byte(live), want)
	for i := range found {
		found[i].Fix = d.setQueuePolicy(want)
	}
	return found, err
}

func (d Doctor) deadLetters(ctx context.Context) ([]Finding, error) {
	const check = "indexer dead letters"
	url := d.Stack.Outputs["IndexerDeadLetterQueueUrl"]
	have, err := d.attributes(ctx, url)
	if err != nil {
		return nil, err
	}
	if have == nil {
		return []Finding{broken(check, remake, "%s does not exist: what no host can do is lost, or comes again for ever", url)}, nil
	}
	if n := have[string(sqstypes.QueueAttributeNameApproximateNumberOfMessages)]; n != "0" {
		return []Finding{doubtful(check, "docs/infra-troubleshooting.md#a-message-is-dead: mend the cause, then `aws sqs start-message-move-task --source-arn "+arnOf(url, d.Stack.World.Region)+"`",
			"there are %s: packages or keys that are in no index", n)}, nil
	}
	return well(check, "there are none"), nil
}

// notifications compares what the bucket tells the queue with what the stack says.
func (d Doctor) notifications(ctx context.Context) ([]Finding, error) {
	const check = "indexer notifications"
	bucket := d.Stack.Outputs["BucketName"]
	live, err := d.S3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	if code(err) == "NoSuchBucket" {
		return nil, nil // which was said already
	}
	if err != nil {
		return nil, fmt.Errorf("get notifications of %s: %w", bucket, err)
	}
	queue := arnOf(d.Stack.Outputs["IndexerQueueUrl"], d.Stack.World.Region)
	told := make(map[string]bool)
	for _, c := range live.QueueConfigurations {
		if aws.ToString(c.QueueArn) == queue && slices.ContainsFunc(c.Events, created) {
			told[suffixOf(c.Filter)] = true
		}
	}
	var missing []string
	for _, want := range d.Stack.suffixes() {
		if !told[want] && !told[""] { // which is everything
			missing = append(missing, want)
		}
	}
	if len(missing) > 0 {
		return []Finding{broken(check, redeploy, "s3://%s does not tell the queue of names that end in %s: what is pushed there is in no index", bucket, strings.Join(missing, ", "))}, nil
	}
	return well(check, "s3://%s tells the queue what is stored", bucket), nil
}

func created(e s3types.Event) bool { return e == "s3:ObjectCreated:*" }

// suffixOf is the end of the names of which is told, if nothing else is asked of them.
func suffixOf(f *s3types.NotificationConfigurationFilter) string {
	if f == nil || f.Key == nil || len(f.Key.FilterRules) == 0 {
		return ""
	}
	if r := f.Key.FilterRules; len(r) == 1 && strings.EqualFold(string(r[0].Name), "suffix") {
		return aws.ToString(r[0].Value)
	}
	return "(" + fmt.Sprint(len(f.Key.FilterRules)) + " rules)"
}

// suffixes are the ends of names of which the bucket of the stack tells its queue.
func (s Stack) suffixes() []string {
	var all []string
	for _, id := range s.Template.OfType("AWS::S3::Bucket") {
		n, _ := s.Template.Resources[id].Properties["NotificationConfiguration"].(map[string]any)
		configurations, _ := n["QueueConfigurations"].([]any)
		for _, c := range configurations {
			filter, _ := c.(map[string]any)["Filter"].(map[string]any)
			key, _ := filter["S3Key"].(map[string]any)
			rules, _ := key["Rules"].([]any)
			for _, r := range rules {
				all = append(all, fmt.Sprint(r.(map[string]any)["Value"]))
			}
		}
	}
	return all
}

// called is the logical id of the resource that has a physical one.
func (s Stack) called(physical string) string {
	for id, ref := range s.World.Ref {
		if ref == physical {
			return id
		}
	}
	return ""
}

// arnOf makes the ARN of a queue of its URL: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME.
func arnOf(url, region string) string {
	parts := strings.Split(url, "/")
	if len(parts) < 3 {
		return ""
	}
	return "arn:aws:sqs:" + region + ":" + parts[len(parts)-2] + ":" + parts[len(parts)-1]
}
