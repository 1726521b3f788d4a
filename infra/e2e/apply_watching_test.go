package e2e

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
)

// makeQueue gives a queue without a name one of its own, as CloudFormation does.
func makeQueue(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	name := p.at("QueueName").text()
	if name == "" {
		name = "dead"
	}
	attributes := map[string]string{"MessageRetentionPeriod": fmt.Sprint(*p.at("MessageRetentionPeriod").int32())}
	if p.at("RedriveAllowPolicy").has() {
		attributes["RedriveAllowPolicy"] = *p.at("RedriveAllowPolicy").json()
	}
	if p.at("RedrivePolicy").has() {
		attributes["RedrivePolicy"] = *p.at("RedrivePolicy").json()
		attributes["VisibilityTimeout"] = fmt.Sprint(*p.at("VisibilityTimeout").int32())
		attributes["ReceiveMessageWaitTimeSeconds"] = fmt.Sprint(*p.at("ReceiveMessageWaitTimeSeconds").int32())
	}
	c := sqs.NewFromConfig(cfg)
	out, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name})
	if err != nil {
		return "", nil, err
	}
	if _, err := c.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: out.QueueUrl, Attributes: attributes}); err != nil {
		return "", nil, err
	}
	return *out.QueueUrl, map[string]string{"Arn": "arn:aws:sqs:us-east-1:" + account + ":" + name, "QueueName": name}, nil
}

func makeQueuePolicy(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	for _, queue := range p.at("Queues").strs() {
		if _, err := sqs.NewFromConfig(cfg).SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: aws.String(queue),
			Attributes: map[string]string{"Policy": *p.at("PolicyDocument").json()}}); err != nil {
			return "", nil, err
		}
	}
	return "policy", nil, nil
}

func makeInstanceProfile(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	c, name := iam.NewFromConfig(cfg), p.at("InstanceProfileName").str()
	if _, err := c.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: name}); err != nil {
		return "", nil, err
	}
	for _, role := range p.at("Roles").strs() {
		if _, err := c.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: name, RoleName: aws.String(role)}); err != nil {
			return "", nil, err
		}
	}
	return *name, nil, nil
}

func makeDeliverySource(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	_, err := cloudwatchlogs.NewFromConfig(cfg).PutDeliverySource(ctx, &cloudwatchlogs.PutDeliverySourceInput{
		Name: p.at("Name").str(), LogType: p.at("LogType").str(), ResourceArn: p.at("ResourceArn").str()})
	return p.at("Name").text(), nil, err
}

func makeDeliveryDestination(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	out, err := cloudwatchlogs.NewFromConfig(cfg).PutDeliveryDestination(ctx, &cloudwatchlogs.PutDeliveryDestinationInput{
		Name: p.at("Name").str(), OutputFormat: logstypes.OutputFormat(p.at("OutputFormat").text()),
		DeliveryDestinationConfiguration: &logstypes.DeliveryDestinationConfiguration{DestinationResourceArn: p.at("DestinationResourceArn").str()}})
	if err != nil {
		return "", nil, err
	}
	return p.at("Name").text(), map[string]string{"Arn": *out.DeliveryDestination.Arn}, nil
}

func makeDelivery(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	out, err := cloudwatchlogs.NewFromConfig(cfg).CreateDelivery(ctx, &cloudwatchlogs.CreateDeliveryInput{
		DeliverySourceName: p.at("DeliverySourceName").str(), DeliveryDestinationArn: p.at("DeliveryDestinationArn").str()})
	if err != nil {
		return "", nil, err
	}
	return *out.Delivery.Id, nil, nil
}

func makeAlarm(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in := &cloudwatch.PutMetricAlarmInput{
		AlarmName: p.at("AlarmName").str(), AlarmDescription: p.at("AlarmDescription").str(), AlarmActions: p.at("AlarmActions").strs(),
		ComparisonOperator: cwtypes.ComparisonOperator(p.at("ComparisonOperator").text()), Threshold: aws.Float64(p.at("Threshold").num()),
		EvaluationPeriods: p.at("EvaluationPeriods").int32(), TreatMissingData: p.at("TreatMissingData").str(),
		MetricName: p.at("MetricName").str(), Namespace: p.at("Namespace").str(), Period: p.at("Period").int32(),
		Statistic: cwtypes.Statistic(p.at("Statistic").text()), Dimensions: dimensions(p.at("Dimensions")),
	}
	for _, m := range p.at("Metrics").list() {
		q := cwtypes.MetricDataQuery{Id: m.at("Id").str(), Expression: m.at("Expression").str(), Label: m.at("Label").str(), ReturnData: m.at("ReturnData").yes()}
		if stat := m.at("MetricStat"); stat.has() {
			metric := stat.at("Metric")
			q.MetricStat = &cwtypes.MetricStat{Period: stat.at("Period").int32(), Stat: stat.at("Stat").str(), Metric: &cwtypes.Metric{
				MetricName: metric.at("MetricName").str(), Namespace: metric.at("Namespace").str(), Dimensions: dimensions(metric.at("Dimensions"))}}
		}
		in.Metrics = append(in.Metrics, q)
	}
	_, err := cloudwatch.NewFromConfig(cfg).PutMetricAlarm(ctx, in)
	name := p.at("AlarmName").text()
	return name, map[string]string{"Arn": "arn:aws:cloudwatch:us-east-1:" + account + ":alarm:" + name}, err
}

func dimensions(p tree) []cwtypes.Dimension {
	var out []cwtypes.Dimension
	for _, d := range p.list() {
		out = append(out, cwtypes.Dimension{Name: d.at("Name").str(), Value: d.at("Value").str()})
	}
	return out
}

func makeDashboard(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	_, err := cloudwatch.NewFromConfig(cfg).PutDashboard(ctx, &cloudwatch.PutDashboardInput{
		DashboardName: p.at("DashboardName").str(), DashboardBody: p.at("DashboardBody").str()})
	return p.at("DashboardName").text(), nil, err
}

func makeTopic(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	out, err := sns.NewFromConfig(cfg).CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("alarms")})
	if err != nil {
		return "", nil, err
	}
	return *out.TopicArn, nil, nil
}

func makeTopicPolicy(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	for _, topic := range p.at("Topics").strs() {
		if _, err := sns.NewFromConfig(cfg).SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: aws.String(topic),
			AttributeName: aws.String("Policy"), AttributeValue: p.at("PolicyDocument").json()}); err != nil {
			return "", nil, err
		}
	}
	return "policy", nil, nil
}

func makeSubscription(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	_, err := sns.NewFromConfig(cfg).Subscribe(ctx, &sns.SubscribeInput{TopicArn: p.at("TopicArn").str(),
		Protocol: p.at("Protocol").str(), Endpoint: p.at("Endpoint").str()})
	return "subscription", nil, err
}

func makeTrail(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in := p.pick("S3BucketName", "S3KeyPrefix", "IncludeGlobalServiceEvents", "IsMultiRegionTrail", "EnableLogFileValidation")
	in["Name"] = p.at("TrailName").v
	return p.at("TrailName").text(), nil, awsjson.Call(ctx, cfg, "cloudtrail", "CloudTrail_20131101.CreateTrail", in, nil)
}

func makeBudget(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in := map[string]any{"AccountId": account, "Budget": p.at("Budget").pick("BudgetName", "BudgetType", "TimeUnit", "BudgetLimit")}
	return p.at("Budget", "BudgetName").text(), nil, awsjson.Call(ctx, cfg, "budgets", "AWSBudgetServiceGateway.CreateBudget", in, nil)
}
