package infra

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/cost"
	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// TestAlarmsReceiveData: CloudFront publishes with both dimensions, and the hit rate
// only with a monitoring subscription.
func TestAlarmsReceiveData(t *testing.T) {
	dimensions := list(props{"Name": "DistributionId", "Value": props{"Ref": "Distribution830FAC52"}}, props{"Name": "Region", "Value": "Global"})
	for _, v := range []string{"plain", "vantage"} {
		has(t, v, "AWS::CloudWatch::Alarm", props{"MetricName": "5xxErrorRate", "Namespace": "AWS/CloudFront", "Statistic": "Average",
			"Period": 300, "EvaluationPeriods": 2, "Threshold": 5, "Dimensions": dimensions, "TreatMissingData": "notBreaching"})
		has(t, v, "AWS::CloudWatch::Alarm", props{"Threshold": 80, "ComparisonOperator": "LessThanThreshold", "Metrics": list(
			like(props{"Expression": "IF(requests > 100, hits)", "ReturnData": true}),
			like(props{"Id": "hits", "MetricStat": like(props{"Metric": like(props{"MetricName": "CacheHitRate", "Dimensions": dimensions}), "Period": 3600})}),
		)})
		has(t, v, "AWS::CloudFront::MonitoringSubscription", props{"DistributionId": props{"Ref": "Distribution830FAC52"},
			"MonitoringSubscription": props{"RealtimeMetricsSubscriptionConfig": props{"RealtimeMetricsSubscriptionStatus": "Enabled"}}})
		has(t, v, "AWS::S3::Bucket", props{"MetricsConfigurations": []any{props{"Id": "EntireBucket"}}})
	}
	has(t, "vantage", "AWS::SNS::Subscription", props{"Protocol": "email", "Endpoint": "ops@example.com"})
	counts(t, "plain", "AWS::SNS::Topic", 0)
	for _, kind := range []string{"AWS::CloudWatch::Alarm", "AWS::CloudFront::MonitoringSubscription", "AWS::CloudWatch::Dashboard"} {
		counts(t, "bare", kind, 0)
	}
}

// TestEstimateCountsTheAlarms: the estimate has as many watched metrics as the template.
func TestEstimateCountsTheAlarms(t *testing.T) {
	watched := 0
	tpl := parsed(t, "everything")
	for _, id := range tpl.OfType("AWS::CloudWatch::Alarm") {
		metrics, _ := tpl.Resources[id].Properties["Metrics"].([]any)
		for _, m := range metrics {
			if m.(map[string]any)["MetricStat"] != nil {
				watched++
			}
		}
		if len(metrics) == 0 {
			watched++
		}
	}
	for _, l := range cost.Estimate(cost.Usage{Alarms: true, Indexers: 1, Replica: true, CertificateAlarm: true}) {
		if want := fmt.Sprintf("%d metrics watched", watched); l.What == "Alarms" && !strings.HasPrefix(l.Basis, want) {
			t.Errorf("the template has %s, the estimate %s", want, l.Basis)
		}
	}
}

// TestOnlyOurTrailWrites: the log bucket admits the trail of the stack, and no other of
// any account, to its own place.
func TestOnlyOurTrailWrites(t *testing.T) {
	tpl := parsed(t, "trailed")
	logs := logPolicy(t, "trailed")
	trail := tpl.Resources[tpl.OfType("AWS::CloudTrail::Trail")[0]]
	if trail.Properties["TrailName"] != "SlurmFactoryInfraStack-writes" {
		t.Errorf("the trail is called %v", trail.Properties["TrailName"])
	}
	const ours = "arn:aws:cloudtrail:us-east-1:123456789012:trail/SlurmFactoryInfraStack-writes"
	for _, row := range []struct {
		name, action, object, source string
		want                         bool
	}{
		{"our trail looks", "s3:GetBucketAcl", "", ours, true},
		{"our trail writes", "s3:PutObject", "/cloudtrail/AWSLogs/123456789012/CloudTrail/us-east-1/x.json.gz", ours, true},
		{"our trail elsewhere", "s3:PutObject", "/s3/x", ours, false},
		{"another trail of the account", "s3:PutObject", "/cloudtrail/AWSLogs/123456789012/x", "arn:aws:cloudtrail:us-east-1:123456789012:trail/other", false},
		{"a trail of another account", "s3:PutObject", "/cloudtrail/AWSLogs/123456789012/x", "arn:aws:cloudtrail:us-east-1:999999999999:trail/SlurmFactoryInfraStack-writes", false},
		{"another account looks", "s3:GetBucketAcl", "", "arn:aws:cloudtrail:us-east-1:999999999999:trail/x", false},
		{"no source", "s3:PutObject", "/cloudtrail/AWSLogs/123456789012/x", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys := map[string]string{"aws:SecureTransport": "true", "s3:TlsVersion": "1.3", "s3:x-amz-acl": "bucket-owner-full-control"}
			if row.source != "" {
				keys["aws:SourceArn"] = row.source
			}
			decide(t, "logs", logs, policy.Request{Action: row.action, Resource: "arn:LogBucketCC3B17E8" + row.object,
				Principal: policy.Service("cloudtrail.amazonaws.com"), Keys: keys}, row.want)
		})
	}
}

// TestAlarmsReachTheTopic: CloudWatch may publish to it, for this account's alarms.
func TestAlarmsReachTheTopic(t *testing.T) {
	topic := livePolicy(t, parsed(t, "vantage"), "AlarmTopicPolicy309DB5F8", "PolicyDocument")
	for account, want := range map[string]bool{testAccount: true, "999999999999": false} {
		decide(t, account, topic, policy.Request{Action: "sns:Publish", Resource: "AlarmTopicD01E77F9", Principal: policy.Service("cloudwatch.amazonaws.com"),
			Keys: map[string]string{"aws:SourceAccount": account, "aws:SecureTransport": "true"}}, want)
	}
}

func TestDashboardShowsWhatTheReferenceLists(t *testing.T) {
	body, err := json.Marshal(parsed(t, "plain").Resources["Dashboard9E4231ED"].Properties)
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range []string{
		"NumberOfObjects", "BucketSizeBytes", "AllRequests", "4xxErrors", "5xxErrors",
		"Requests", "BytesDownloaded", "4xxErrorRate", "5xxErrorRate", "CacheHitRate",
	} {
		if !bytes.Contains(body, []byte(metric)) {
			t.Errorf("no %s on the dashboard", metric)
		}
	}
}
