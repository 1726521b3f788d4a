package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
)

// delivery examines whether the CDN's access log still arrives in the log bucket.
func (d Doctor) delivery(ctx context.Context) ([]Finding, error) {
	const check = "log delivery"
	id := d.Stack.first("AWS::Logs::Delivery")
	if id == "" {
		return nil, nil
	}
	out, err := d.Logs.GetDelivery(ctx, &cloudwatchlogs.GetDeliveryInput{Id: &id})
	var gone *logstypes.ResourceNotFoundException
	if errors.As(err, &gone) {
		return []Finding{broken(check, remake, "delivery %s does not exist: requests of readers are not logged", id)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get delivery %s: %w", id, err)
	}
	source := aws.ToString(out.Delivery.DeliverySourceName)
	from, err := d.Logs.GetDeliverySource(ctx, &cloudwatchlogs.GetDeliverySourceInput{Name: &source})
	if err != nil {
		return nil, fmt.Errorf("get delivery source %s: %w", source, err)
	}
	distribution := d.Stack.first("AWS::CloudFront::Distribution")
	if !slices.ContainsFunc(from.DeliverySource.ResourceArns, func(arn string) bool { return strings.HasSuffix(arn, "/"+distribution) }) {
		return []Finding{broken(check, redeploy, "delivery %s takes its log from %v and not from distribution %s", id, from.DeliverySource.ResourceArns, distribution)}, nil
	}
	return well(check, "requests of readers are logged to s3://%s", d.Stack.Outputs["LogBucketName"]), nil
}

// alarms examines whether each alarm of the stack is there and on, and is not raised.
func (d Doctor) alarms(ctx context.Context) ([]Finding, error) {
	const check = "alarms"
	ids := d.Stack.Template.OfType("AWS::CloudWatch::Alarm")
	if len(ids) == 0 {
		return []Finding{doubtful(check, "infra deploy --alarms --alarm-email ADDRESS", "the stack has none: nobody is warned when the cache fails")}, nil
	}
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, d.Stack.World.Ref[id])
	}
	out, err := d.CloudWatch.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: names})
	if err != nil {
		return nil, fmt.Errorf("describe alarms: %w", err)
	}
	live := map[string]cwtypes.MetricAlarm{}
	for _, a := range out.MetricAlarms {
		live[aws.ToString(a.AlarmName)] = a
	}
	var found []Finding
	for _, id := range ids {
		one, err := d.alarm(check, id, live)
		if err != nil {
			return found, err
		}
		found = append(found, one...)
	}
	return orWell(found, check, "%d are on, and none is raised", len(ids)), nil
}

func (d Doctor) alarm(check, id string, live map[string]cwtypes.MetricAlarm) ([]Finding, error) {
	name := d.Stack.World.Ref[id]
	a, ok := live[name]
	if !ok {
		return []Finding{broken(check, remake, "alarm %s does not exist", name)}, nil
	}
	var found []Finding
	if !aws.ToBool(a.ActionsEnabled) {
		found = append(found, broken(check, "`aws cloudwatch enable-alarm-actions --alarm-names "+name+"`", "alarm %s is switched off", name))
	}
	want, err := d.Stack.Template.Resolve(d.Stack.Template.Resources[id].Properties["AlarmActions"], d.Stack.World)
	if err != nil {
		return nil, err
	}
	actions, _ := want.([]any)
	for _, action := range actions {
		if !slices.Contains(a.AlarmActions, fmt.Sprint(action)) {
			found = append(found, broken(check, redeploy, "alarm %s does not tell %v", name, action))
		}
	}
	if a.StateValue == cwtypes.StateValueAlarm {
		found = append(found, doubtful(check, "docs/infra-monitoring.md#alarms says where to look first", "alarm %s is raised: %s", name, aws.ToString(a.StateReason)))
	}
	return found, nil
}

// subscriptions examines whether a person receives the alarms.
func (d Doctor) subscriptions(ctx context.Context) ([]Finding, error) {
	const check = "alarm e-mail"
	if len(d.Stack.Template.OfType("AWS::CloudWatch::Alarm")) == 0 {
		return nil, nil
	}
	topic := d.Stack.first("AWS::SNS::Topic")
	if topic == "" {
		return []Finding{doubtful(check, "infra deploy --alarm-email ADDRESS", "the alarms go to no address: they only show in the console")}, nil
	}
	var all []snstypes.Subscription
	pages := sns.NewListSubscriptionsByTopicPaginator(d.SNS, &sns.ListSubscriptionsByTopicInput{TopicArn: &topic})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		var gone *snstypes.NotFoundException
		if errors.As(err, &gone) {
			return []Finding{broken(check, remake, "topic %s does not exist", topic)}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list subscriptions of %s: %w", topic, err)
		}
		all = append(all, page.Subscriptions...)
	}
	var waiting, confirmed []string
	for _, s := range all {
		// Until it is confirmed, a subscription has a word in place of an ARN.
		if strings.HasPrefix(aws.ToString(s.SubscriptionArn), "arn:") {
			confirmed = append(confirmed, aws.ToString(s.Endpoint))
		} else {
			waiting = append(waiting, aws.ToString(s.Endpoint))
		}
	}
	var found []Finding
	if len(waiting) > 0 {
		found = append(found, doubtful(check, "open the link in AWS's e-mail; `"+subscribe(topic, waiting[0])+"` sends it again",
			"%s has not confirmed, and receives no alarm", strings.Join(waiting, ", ")))
	}
	if len(all) == 0 {
		found = append(found, broken(check, "`"+subscribe(topic, d.Stack.alarmAddress())+"`, then open the link in AWS's e-mail", "topic %s has no subscription: the alarms reach nobody", topic))
	}
	return orWell(found, check, "%s receives the alarms", strings.Join(confirmed, ", ")), nil
}
