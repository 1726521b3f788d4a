package infra

import (
	"regexp"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

const (
	// replicationRule replicates everything.
	replicationRule = "everything"
	// maxReplicationLag is for how many minutes an object may wait to be replicated. S3
	// takes seconds for small objects and promises 15 minutes only for a price.
	maxReplicationLag = 60
)

var regionForm = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)

// ReplicaBucket is the name of the copy of the cache bucket in the second region.
func (c Config) ReplicaBucket() string { return c.Bucket() + "-replica" }

// ReplicaStack is the name of the stack in the second region.
func (c Config) ReplicaStack() string { return c.StackName + "-replica" }

// newReplicaStack makes the bucket in the second region. CloudFormation makes resources in
// one region only, so it is a stack of its own, which is deployed before the main one. It
// names nothing of that one: the two agree on names.
func newReplicaStack(app awscdk.App, c Config, main awscdk.Stack) {
	if c.ReplicaRegion == "" {
		return
	}
	stack := awscdk.NewStack(app, jsii.String(c.ReplicaStack()), &awscdk.StackProps{
		Env:                   &awscdk.Environment{Account: main.Account(), Region: jsii.String(c.ReplicaRegion)},
		Description:           jsii.String("Public Spack buildcache: the copy in a second region"),
		Tags:                  c.tags(),
		TerminationProtection: jsii.Bool(c.Protect),
	})
	props := keptBucket(c.ReplicaBucket())
	props.LifecycleRules = cacheLifecycle(c)
	bucket := awss3.NewBucket(stack, jsii.String("ReplicaBucket"), props)
	for _, st := range replicaPolicy(*bucket.BucketArn(), *stack.Account()) {
		bucket.AddToResourcePolicy(statement(st))
	}
	main.AddStackDependency(stack, jsii.String("the bucket to which it replicates"))
}

// replicaPolicy lets the account's distributions read the replica, and nobody but S3's
// replication write it. The distribution cannot be named: it is made later.
func replicaPolicy(bucket, account string) []policy.Statement {
	reads := policy.Condition{
		"StringEquals": {"aws:SourceAccount": {account}},
		"ArnLike":      {"aws:SourceArn": {"arn:aws:cloudfront::" + account + ":distribution/*"}},
	}
	// Replication has actions of its own.
	return append(readableBy(bucket, reads), policy.Statement{Sid: "OnlyReplicationWrites", Effect: policy.Deny, Principal: policy.Anyone(), Resource: policy.Strings{bucket + "/*"},
		Action: policy.Strings{"s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"}})
}

// replicate makes S3 copy everything that is written from now on to the second region,
// deletions included, and measures how far behind it is.
func replicate(stack awscdk.Stack, c Config, bucket awss3.Bucket) {
	if c.ReplicaRegion == "" {
		return
	}
	source, copied := "arn:aws:s3:::"+c.Bucket(), "arn:aws:s3:::"+c.ReplicaBucket()
	conditions := asJSON(policy.Condition{"StringEquals": {"aws:SourceAccount": {*stack.Account()}}, "ArnLike": {"aws:SourceArn": {source}}}).(map[string]any)
	role := awsiam.NewRole(stack, jsii.String("ReplicationRole"), &awsiam.RoleProps{
		RoleName:       jsii.String(c.StackName + "-replication"),
		Description:    jsii.String("S3 replicates the cache to " + c.ReplicaRegion),
		AssumedBy:      awsiam.NewServicePrincipal(jsii.String("s3.amazonaws.com"), &awsiam.ServicePrincipalOpts{Conditions: &conditions}),
		InlinePolicies: &map[string]awsiam.PolicyDocument{"replicate": document(ReplicationPermissions(source, copied))},
	})
	raw := bucket.Node().DefaultChild().(awss3.CfnBucket)
	raw.SetReplicationConfiguration(&awss3.CfnBucket_ReplicationConfigurationProperty{
		Role: role.RoleArn(),
		Rules: &[]any{&awss3.CfnBucket_ReplicationRuleProperty{
			Id:                      jsii.String(replicationRule),
			Status:                  jsii.String("Enabled"),
			Priority:                jsii.Number(1),
			Filter:                  &awss3.CfnBucket_ReplicationRuleFilterProperty{Prefix: jsii.String("")},
			DeleteMarkerReplication: &awss3.CfnBucket_DeleteMarkerReplicationProperty{Status: jsii.String("Enabled")},
			Destination: &awss3.CfnBucket_ReplicationDestinationProperty{
				Bucket:  jsii.String(copied),
				Metrics: &awss3.CfnBucket_MetricsProperty{Status: jsii.String("Enabled")},
			},
		}},
	})
}

// ReplicationPermissions is what S3 needs to copy the one bucket to the other.
func ReplicationPermissions(source, copied string) policy.Document {
	return policy.New(
		policy.Statement{Sid: "ReadSource", Effect: policy.Allow, Action: policy.Strings{"s3:GetReplicationConfiguration", "s3:ListBucket"}, Resource: policy.Strings{source}},
		policy.Statement{Sid: "ReadVersions", Effect: policy.Allow, Resource: policy.Strings{source + "/*"},
			Action: policy.Strings{"s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"}},
		policy.Statement{Sid: "WriteCopies", Effect: policy.Allow, Resource: policy.Strings{copied + "/*"},
			Action: policy.Strings{"s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"}},
	)
}

// replicationAlarms are raised when the replica falls behind, or lacks objects for good.
func replicationAlarms(stack awscdk.Stack, c Config) []awscloudwatch.Alarm {
	if c.ReplicaRegion == "" {
		return nil
	}
	metric := func(name, statistic string) awscloudwatch.Metric {
		return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
			Namespace: jsii.String("AWS/S3"), MetricName: jsii.String(name), Statistic: jsii.String(statistic), Period: minutes(5),
			DimensionsMap: &map[string]*string{"SourceBucket": jsii.String(c.Bucket()), "DestinationBucket": jsii.String(c.ReplicaBucket()), "RuleId": jsii.String(replicationRule)},
		})
	}
	return []awscloudwatch.Alarm{
		awscloudwatch.NewAlarm(stack, jsii.String("ReplicationLagAlarm"), &awscloudwatch.AlarmProps{
			AlarmName:          jsii.String(*stack.StackName() + "-replica-behind"),
			AlarmDescription:   jsii.String("The copy in the second region is behind. See docs/infra-monitoring.md."),
			Metric:             metric("ReplicationLatency", "Maximum"),
			EvaluationPeriods:  jsii.Number(2),
			Threshold:          jsii.Number(maxReplicationLag * 60),
			ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
			TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
		}),
		awscloudwatch.NewAlarm(stack, jsii.String("ReplicationFailedAlarm"), &awscloudwatch.AlarmProps{
			AlarmName:          jsii.String(*stack.StackName() + "-replication-failed"),
			AlarmDescription:   jsii.String("Objects could not be copied to the second region. See docs/infra-monitoring.md."),
			Metric:             metric("OperationsFailedReplication", "Sum"),
			EvaluationPeriods:  jsii.Number(1),
			Threshold:          jsii.Number(0),
			ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
			TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
		}),
	}
}
