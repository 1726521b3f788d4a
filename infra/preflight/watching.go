package preflight

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

func (s Site) alarm(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "AlarmName")
	out, err := s.cloudWatch.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{name},
		AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm, types.AlarmTypeCompositeAlarm}}) // which share their names
	if err != nil {
		return nil, err
	}
	return taken(len(out.MetricAlarms)+len(out.CompositeAlarms) > 0, nil, "alarm "+name, "delete it: aws cloudwatch delete-alarms --alarm-names "+name+renamed)
}

func (s Site) dashboard(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "DashboardName")
	_, err := s.cloudWatch.GetDashboard(ctx, &cloudwatch.GetDashboardInput{DashboardName: &name})
	there, err := exists(err, "ResourceNotFound", "ResourceNotFoundException", "DashboardNotFoundError")
	return taken(there, err, "dashboard "+name, "delete it: aws cloudwatch delete-dashboards --dashboard-names "+name+renamed)
}

func (s Site) deliverySource(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "Name")
	_, err := s.logs.GetDeliverySource(ctx, &cloudwatchlogs.GetDeliverySourceInput{Name: &name})
	there, err := exists(err, "ResourceNotFoundException")
	return taken(there, err, "log delivery source "+name, "delete it: aws logs delete-delivery-source --name "+name+renamed)
}

func (s Site) deliveryDestination(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "Name")
	_, err := s.logs.GetDeliveryDestination(ctx, &cloudwatchlogs.GetDeliveryDestinationInput{Name: &name})
	there, err := exists(err, "ResourceNotFoundException")
	return taken(there, err, "log delivery destination "+name, "delete it: aws logs delete-delivery-destination --name "+name+renamed)
}

func (s Site) queue(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "QueueName")
	_, err := s.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	there, err := exists(err, "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
	return taken(there, err, "queue "+name, "delete it once it is empty"+renamed)
}

func (s Site) trail(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "TrailName")
	err := awsjson.Call(ctx, s.config, "cloudtrail", "CloudTrail_20131101.GetTrail", map[string]string{"Name": name}, nil)
	there, err := exists(err, "TrailNotFoundException")
	return taken(there, err, "trail "+name, "delete it: aws cloudtrail delete-trail --name "+name+renamed)
}

func (s Site) budget(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "Budget.BudgetName")
	err := awsjson.Call(ctx, s.config, "budgets", "AWSBudgetServiceGateway.DescribeBudget", map[string]string{"AccountId": s.Account, "BudgetName": name}, nil)
	there, err := exists(err, "NotFoundException")
	return taken(there, err, "budget "+name, "delete it: aws budgets delete-budget --account-id "+s.Account+" --budget-name "+name+renamed)
}

func (s Site) costMonitor(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "MonitorName")
	there, err := s.among(ctx, name, list{"ce", "AWSInsightsIndexService.GetAnomalyMonitors", "AnomalyMonitors", "MonitorName", "NextPageToken"})
	return taken(there, err, "cost anomaly monitor "+name, "delete it: aws ce get-anomaly-monitors shows the ARN for aws ce delete-anomaly-monitor"+renamed)
}

func (s Site) costWarning(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "SubscriptionName")
	there, err := s.among(ctx, name, list{"ce", "AWSInsightsIndexService.GetAnomalySubscriptions", "AnomalySubscriptions", "SubscriptionName", "NextPageToken"})
	return taken(there, err, "cost anomaly subscription "+name, "delete it: aws ce get-anomaly-subscriptions shows the ARN for aws ce delete-anomaly-subscription"+renamed)
}
