package infra

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsbudgets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsce"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudwatch"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

const (
	// maxErrorRate is the percentage of responses 5xx that is too many, minHitRate
	// the percentage from the edge that is too few. Both are the reference's.
	maxErrorRate, minHitRate = 5, 80
	// quietHour is the number of requests an hour below which a hit rate says nothing:
	// one reader of a new package would raise the alarm.
	quietHour = 100
)

// newMonitoring alarms on what a reader would notice and draws the dashboard. It is
// all or nothing: the hit rate exists only with the distribution's paid metrics, the
// bucket's requests only with its own, and an alarm without data is worse than none.
func newMonitoring(stack awscdk.Stack, c Config, bucket awss3.IBucket, distribution awscloudfront.IDistribution, certificate awscertificatemanager.ICertificate, index *indexer) {
	if !c.Alarms {
		return
	}
	if w := c.alarmWarning(); w != "" {
		awscdk.Annotations_Of(stack).AddWarningV2(jsii.String("slurm-factory:alarmEmail"), jsii.String(w))
	}
	alarms := append([]awscloudwatch.Alarm{errorAlarm(stack, distribution), hitRateAlarm(stack, distribution)}, index.alarms(stack)...)
	alarms = append(alarms, replicationAlarms(stack, c)...)
	if c.CertificateDays > 0 {
		alarms = append(alarms, certificateAlarm(stack, c, certificate))
	}
	if c.AlarmEmail != "" {
		topic := newAlarmTopic(stack, c.AlarmEmail)
		tell := &topicAction{topic}
		for _, a := range alarms {
			a.AddAlarmAction(tell)
			a.AddOkAction(tell)
		}
	}
	newDashboard(stack, c, bucket, distribution, alarms, index)
}

func errorAlarm(stack awscdk.Stack, distribution awscloudfront.IDistribution) awscloudwatch.Alarm {
	return awscloudwatch.NewAlarm(stack, jsii.String("ErrorRateAlarm"), &awscloudwatch.AlarmProps{
		AlarmName:          jsii.String(*stack.StackName() + "-high-error-rate"),
		AlarmDescription:   jsii.String("The cache answers with server errors. See docs/infra-troubleshooting.md."),
		Metric:             edgeMetric(distribution, "5xxErrorRate", "Average", 5),
		EvaluationPeriods:  jsii.Number(2),
		Threshold:          jsii.Number(maxErrorRate),
		ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
		TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
	})
}

func hitRateAlarm(stack awscdk.Stack, distribution awscloudfront.IDistribution) awscloudwatch.Alarm {
	rate := awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: jsii.Sprintf("IF(requests > %d, hits)", quietHour),
		Label:      jsii.String("CacheHitRate"),
		Period:     minutes(60),
		UsingMetrics: &map[string]awscloudwatch.IMetric{
			"requests": edgeMetric(distribution, "Requests", "Sum", 60),
			"hits":     edgeMetric(distribution, "CacheHitRate", "Average", 60),
		},
	})
	return awscloudwatch.NewAlarm(stack, jsii.String("HitRateAlarm"), &awscloudwatch.AlarmProps{
		AlarmName:          jsii.String(*stack.StackName() + "-low-cache-hit-rate"),
		AlarmDescription:   jsii.String("Readers wait for S3 more often than they should. See docs/infra-troubleshooting.md."),
		Metric:             rate,
		EvaluationPeriods:  jsii.Number(1),
		Threshold:          jsii.Number(minHitRate),
		ComparisonOperator: awscloudwatch.ComparisonOperator_LESS_THAN_THRESHOLD,
		TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
	})
}

// certificateAlarm is raised when a certificate that should have been renewed was not.
func certificateAlarm(stack awscdk.Stack, c Config, certificate awscertificatemanager.ICertificate) awscloudwatch.Alarm {
	return awscloudwatch.NewAlarm(stack, jsii.String("CertificateAlarm"), &awscloudwatch.AlarmProps{
		AlarmName:        jsii.String(*stack.StackName() + "-certificate-ends"),
		AlarmDescription: jsii.String("The certificate of the domain was not renewed. See docs/infra-troubleshooting.md."),
		Metric: awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
			Namespace:     jsii.String("AWS/CertificateManager"),
			MetricName:    jsii.String("DaysToExpiry"),
			Statistic:     jsii.String("Minimum"),
			Period:        days(1), // ACM measures twice a day
			DimensionsMap: &map[string]*string{"CertificateArn": certificate.CertificateArn()},
		}),
		EvaluationPeriods:  jsii.Number(1),
		Threshold:          jsii.Number(c.CertificateDays),
		ComparisonOperator: awscloudwatch.ComparisonOperator_LESS_THAN_THRESHOLD,
		TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
	})
}

// newAlarmTopic sends the alarms by e-mail, once the receiver has confirmed.
func newAlarmTopic(stack awscdk.Stack, email string) awssns.Topic {
	topic := awssns.NewTopic(stack, jsii.String("AlarmTopic"), &awssns.TopicProps{
		DisplayName: jsii.String("Spack buildcache alarms"),
		EnforceSSL:  jsii.Bool(true),
	})
	topic.AddToResourcePolicy(statement(publishAlarms(*topic.TopicArn(), *stack.Account())))
	awssns.NewSubscription(topic, jsii.String(email), &awssns.SubscriptionProps{
		Topic: topic, Protocol: awssns.SubscriptionProtocol_EMAIL, Endpoint: jsii.String(email),
	})
	return topic
}

// A topicAction is what an alarm does: it tells the topic. CDK's own is in a module whose
// bindings take as long to compile as those of Lambda, Auto Scaling and EC2 (docs/infra-tests.md).
type topicAction struct{ topic awssns.ITopic }

// Bind is called by CDK for each alarm.
func (a *topicAction) Bind(constructs.Construct, awscloudwatch.IAlarm) *awscloudwatch.AlarmActionConfig {
	return &awscloudwatch.AlarmActionConfig{AlarmActionArn: a.topic.TopicArn()}
}

// publishAlarms lets this account's alarms use the topic. A topic with a policy of its own
// has lost the one that it is born with, which would have let them.
func publishAlarms(topic, account string) policy.Statement {
	return policy.Statement{
		Sid:       "AlarmsPublish",
		Effect:    policy.Allow,
		Principal: policy.Service("cloudwatch.amazonaws.com"),
		Action:    policy.Strings{"sns:Publish"},
		Resource:  policy.Strings{topic},
		Condition: policy.Condition{"StringEquals": {"aws:SourceAccount": {account}}},
	}
}

func newDashboard(stack awscdk.Stack, c Config, bucket awss3.IBucket, distribution awscloudfront.IDistribution, alarms []awscloudwatch.Alarm, index *indexer) {
	dashboard := awscloudwatch.NewDashboard(stack, jsii.String("Dashboard"), &awscloudwatch.DashboardProps{
		DashboardName: jsii.String(c.StackName),
	})
	watched := make([]interfacesawscloudwatch.IAlarmRef, 0, len(alarms))
	for _, a := range alarms {
		watched = append(watched, a)
	}
	dashboard.AddWidgets(awscloudwatch.NewAlarmStatusWidget(&awscloudwatch.AlarmStatusWidgetProps{
		Title: jsii.String("Alarms"), Alarms: &watched, Width: jsii.Number(24),
	}))
	dashboard.AddWidgets(
		graph("Readers: requests", edgeMetric(distribution, "Requests", "Sum", 5)),
		graph("Readers: bytes", edgeMetric(distribution, "BytesDownloaded", "Sum", 5)),
		graph("Readers: errors (%)", edgeMetric(distribution, "4xxErrorRate", "Average", 5), edgeMetric(distribution, "5xxErrorRate", "Average", 5)),
		graph("Readers: cache hits (%)", edgeMetric(distribution, "CacheHitRate", "Average", 60)),
	)
	dashboard.AddWidgets(
		graph("Bucket: objects", storageMetric(bucket, "NumberOfObjects", "AllStorageTypes")),
		graph("Bucket: bytes", storageMetric(bucket, "BucketSizeBytes", "StandardStorage")),
		graph("Bucket: requests", requestMetric(bucket, "AllRequests")),
		graph("Bucket: errors", requestMetric(bucket, "4xxErrors"), requestMetric(bucket, "5xxErrors")),
	)
	if row := index.graphs(); row != nil {
		dashboard.AddWidgets(row...)
	}
}

func graph(title string, metrics ...awscloudwatch.IMetric) awscloudwatch.IWidget {
	return awscloudwatch.NewGraphWidget(&awscloudwatch.GraphWidgetProps{
		Title: jsii.String(title), Left: &metrics, Width: jsii.Number(6), Region: jsii.String(Region),
	})
}

// edgeMetric is one of CloudFront's. It records them in us-east-1 with both of these
// dimensions, and an alarm that lacks either never receives data.
func edgeMetric(distribution awscloudfront.IDistribution, name, statistic string, periodMinutes int) awscloudwatch.Metric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace:     jsii.String("AWS/CloudFront"),
		MetricName:    jsii.String(name),
		Statistic:     jsii.String(statistic),
		Period:        minutes(periodMinutes),
		DimensionsMap: &map[string]*string{"DistributionId": distribution.DistributionId(), "Region": jsii.String("Global")},
	})
}

// storageMetric is what S3 measures once a day, free.
func storageMetric(bucket awss3.IBucket, name, storage string) awscloudwatch.Metric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace:     jsii.String("AWS/S3"),
		MetricName:    jsii.String(name),
		Statistic:     jsii.String("Average"),
		Period:        awscdk.Duration_Days(jsii.Number(1)),
		DimensionsMap: &map[string]*string{"BucketName": bucket.BucketName(), "StorageType": jsii.String(storage)},
	})
}

// requestMetric is what S3 counts for the bucket's metrics filter.
func requestMetric(bucket awss3.IBucket, name string) awscloudwatch.Metric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace:     jsii.String("AWS/S3"),
		MetricName:    jsii.String(name),
		Statistic:     jsii.String("Sum"),
		Period:        minutes(5),
		DimensionsMap: &map[string]*string{"BucketName": bucket.BucketName(), "FilterId": jsii.String(wholeBucket)},
	})
}

func minutes(n int) awscdk.Duration { return awscdk.Duration_Minutes(jsii.Number(n)) }

// newBudget warns when the services of the cache cost more in a month than expected.
// A budget cannot see one bucket, so it counts the account's use of these services.
func newBudget(stack awscdk.Stack, c Config) {
	if c.MonthlyBudget == 0 {
		return
	}
	awsbudgets.NewCfnBudget(stack, jsii.String("MonthlyBudget"), &awsbudgets.CfnBudgetProps{
		Budget: &awsbudgets.CfnBudget_BudgetDataProperty{
			BudgetName:  jsii.String(c.StackName + "-monthly"),
			BudgetType:  jsii.String("COST"),
			TimeUnit:    jsii.String("MONTHLY"),
			BudgetLimit: &awsbudgets.CfnBudget_SpendProperty{Amount: jsii.Number(c.MonthlyBudget), Unit: jsii.String("USD")},
			CostFilters: map[string]any{"Service": []string{
				"Amazon Simple Storage Service", "Amazon CloudFront", "Amazon Route 53", "AmazonCloudWatch",
			}},
		},
		NotificationsWithSubscribers: []any{
			budgetWarning(c.AlarmEmail, "FORECASTED", 100),
			budgetWarning(c.AlarmEmail, "ACTUAL", 80),
			budgetWarning(c.AlarmEmail, "ACTUAL", 100),
		},
	})
}

func budgetWarning(email, kind string, percent int) *awsbudgets.CfnBudget_NotificationWithSubscribersProperty {
	return &awsbudgets.CfnBudget_NotificationWithSubscribersProperty{
		Notification: &awsbudgets.CfnBudget_NotificationProperty{
			NotificationType:   jsii.String(kind),
			ComparisonOperator: jsii.String("GREATER_THAN"),
			Threshold:          jsii.Number(percent),
			ThresholdType:      jsii.String("PERCENTAGE"),
		},
		Subscribers: []any{&awsbudgets.CfnBudget_SubscriberProperty{
			SubscriptionType: jsii.String("EMAIL"), Address: jsii.String(email),
		}},
	}
}

// newCostAnomaly warns when the stack costs more than its own past suggests. It tells the
// stack's costs apart by its tag, which must be activated for cost allocation.
func newCostAnomaly(stack awscdk.Stack, c Config) {
	if c.CostAnomaly == 0 {
		return
	}
	monitor := awsce.NewCfnAnomalyMonitor(stack, jsii.String("CostMonitor"), &awsce.CfnAnomalyMonitorProps{
		MonitorName: jsii.String(c.StackName + "-costs"),
		MonitorType: jsii.String("CUSTOM"),
		MonitorSpecification: jsii.String(encoded(map[string]any{"Tags": map[string]any{
			"Key": projectTag, "Values": []string{projectValue}, "MatchOptions": []string{"EQUALS"}}})),
	})
	awsce.NewCfnAnomalySubscription(stack, jsii.String("CostWarning"), &awsce.CfnAnomalySubscriptionProps{
		SubscriptionName: jsii.String(c.StackName + "-costs"),
		Frequency:        jsii.String("DAILY"), // immediately is for topics only
		MonitorArnList:   &[]any{monitor.AttrMonitorArn()},
		Subscribers:      []any{&awsce.CfnAnomalySubscription_SubscriberProperty{Type: jsii.String("EMAIL"), Address: jsii.String(c.AlarmEmail)}},
		ThresholdExpression: jsii.String(encoded(map[string]any{"Dimensions": map[string]any{
			"Key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE", "Values": []string{fmt.Sprint(c.CostAnomaly)}, "MatchOptions": []string{"GREATER_THAN_OR_EQUAL"}}})),
	})
}

// encoded is v as JSON in a string, which Cost Explorer takes. The values always encode.
func encoded(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
