package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudtrail"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// deletedLogDays is how long a log that was deleted or overwritten can be restored.
const deletedLogDays = 30

// newLogBucket receives the logs of the bucket (s3/), of the distribution (AWSLogs/)
// and of CloudTrail, and forgets them after a while. It is versioned, so that nobody
// covers their traces by deleting. It is retained because a bucket with objects in it
// cannot be deleted, and would leave the stack half destroyed.
func newLogBucket(stack awscdk.Stack, c Config) awss3.Bucket {
	props := keptBucket(c.LogBucket())
	props.LifecycleRules = logLifecycle(c, c.LogDays)
	return awss3.NewBucket(stack, jsii.String("LogBucket"), props)
}

// logLifecycle deletes logs after keep days, and what somebody else deleted after deletedLogDays.
func logLifecycle(c Config, keep int) *[]*awss3.LifecycleRule {
	return &[]*awss3.LifecycleRule{
		{
			Id:                                  jsii.String("ExpireLogs"),
			Expiration:                          days(keep),
			NoncurrentVersionExpiration:         days(deletedLogDays),
			AbortIncompleteMultipartUploadAfter: days(c.AbortUploadDays),
		},
		{
			// S3 takes this in a rule without an expiration in days only.
			Id:                        jsii.String("RemoveExpiredDeleteMarkers"),
			ExpiredObjectDeleteMarker: jsii.Bool(true),
		},
	}
}

// deliverAccessLogs sends the distribution's access log to the log bucket, by way of
// CloudWatch's vended logs (version 2 of CloudFront's logging): the older way needs
// ACLs, which the log bucket does not have. JSON costs nothing beyond its storage.
func deliverAccessLogs(stack awscdk.Stack, distribution awscloudfront.IDistribution, logs awss3.IBucket) {
	name := *stack.StackName() + "-access"
	source := awslogs.NewCfnDeliverySource(stack, jsii.String("AccessLogSource"), &awslogs.CfnDeliverySourceProps{
		Name:        jsii.String(name),
		LogType:     jsii.String("ACCESS_LOGS"),
		ResourceArn: distribution.DistributionArn(),
	})
	destination := awslogs.NewCfnDeliveryDestination(stack, jsii.String("AccessLogDestination"), &awslogs.CfnDeliveryDestinationProps{
		Name:                   jsii.String(name),
		OutputFormat:           jsii.String("json"),
		DestinationResourceArn: logs.BucketArn(),
	})
	granted := logs.AddToResourcePolicy(statement(logDelivery(*logs.BucketArn(), *stack.Account(), name)))
	delivery := awslogs.NewCfnDelivery(stack, jsii.String("AccessLogDelivery"), &awslogs.CfnDeliveryProps{
		DeliverySourceName:     source.Name(),
		DeliveryDestinationArn: destination.AttrArn(),
	})
	delivery.AddResourceDependency(source, nil)
	// Without the right to write, CloudWatch would add its own statement to the
	// bucket's policy, which the next deployment would remove.
	delivery.Node().AddDependency(granted.PolicyDependable)
}

// delivery lets a service of AWS write below resource, on behalf of this one source of this
// account: without the two conditions, anybody's logs could be sent into the bucket.
func delivery(sid, service, resource, account, source string) policy.Statement {
	return policy.Statement{
		Sid:       sid,
		Effect:    policy.Allow,
		Principal: policy.Service(service),
		Action:    policy.Strings{"s3:PutObject"},
		Resource:  policy.Strings{resource + "/*"},
		Condition: policy.Condition{
			"StringEquals": {"s3:x-amz-acl": {"bucket-owner-full-control"}, "aws:SourceAccount": {account}},
			"ArnLike":      {"aws:SourceArn": {source}},
		},
	}
}

// logDelivery lets CloudWatch deliver from this one source into the log bucket.
func logDelivery(bucket, account, source string) policy.Statement {
	return delivery("AccessLogDelivery", "delivery.logs.amazonaws.com", bucket+"/AWSLogs/"+account+"/CloudFront", account,
		"arn:aws:logs:"+Region+":"+account+":delivery-source:"+source)
}

// recordWrites keeps, with CloudTrail, who wrote and deleted what in the bucket.
func recordWrites(stack awscdk.Stack, c Config, bucket, logs awss3.IBucket) {
	if !c.CloudTrail {
		return
	}
	name := *stack.StackName() + "-writes"
	logs = newAuditBucket(stack, c, logs)
	var granted constructs.IDependable
	for _, st := range trailDelivery(*logs.BucketArn(), *stack.Account(), name) {
		granted = logs.AddToResourcePolicy(statement(st)).PolicyDependable
	}
	trail := awscloudtrail.NewTrail(stack, jsii.String("WriteTrail"), &awscloudtrail.TrailProps{
		TrailName: jsii.String(name),
		// By its name: to a bucket of the stack CDK would add statements that let in the
		// trails of any account.
		Bucket:                     awss3.Bucket_FromBucketName(stack, jsii.String("TrailBucket"), logs.BucketName()),
		S3KeyPrefix:                jsii.String(trailPrefix),
		IsMultiRegionTrail:         jsii.Bool(false),
		IncludeGlobalServiceEvents: jsii.Bool(false),
		EnableFileValidation:       jsii.Bool(true),
		ManagementEvents:           awscloudtrail.ReadWriteType_NONE,
	})
	trail.AddS3EventSelector(&[]*awscloudtrail.S3EventSelector{{Bucket: bucket}}, &awscloudtrail.AddEventSelectorOptions{
		ReadWriteType: awscloudtrail.ReadWriteType_WRITE_ONLY,
	})
	trail.Node().AddDependency(granted) // CloudTrail tries whether it may
}

// newAuditBucket keeps the trail's records where nobody can delete them for a while. It is
// a bucket of its own, because S3 delivers no access logs into a bucket with a default
// retention. Without --lock-log-days it is the log bucket.
func newAuditBucket(stack awscdk.Stack, c Config, logs awss3.IBucket) awss3.IBucket {
	if c.LockLogDays == 0 {
		return logs
	}
	retention := awss3.ObjectLockRetention_Governance(days(c.LockLogDays))
	if c.LockLogMode == compliance {
		retention = awss3.ObjectLockRetention_Compliance(days(c.LockLogDays))
	}
	props := keptBucket(c.AuditBucket())
	props.ServerAccessLogsBucket = logs
	props.ServerAccessLogsPrefix = jsii.String("audit/")
	props.ObjectLockEnabled = jsii.Bool(true)
	props.ObjectLockDefaultRetention = retention
	props.LifecycleRules = logLifecycle(c, max(c.LogDays, c.LockLogDays))
	return awss3.NewBucket(stack, jsii.String("AuditBucket"), props)
}

// trailPrefix is where the trail's files begin in the log bucket.
const trailPrefix = "cloudtrail"

// trailDelivery lets this one trail write into the log bucket.
func trailDelivery(bucket, account, trail string) []policy.Statement {
	service := policy.Service("cloudtrail.amazonaws.com")
	arn := policy.Strings{"arn:aws:cloudtrail:" + Region + ":" + account + ":trail/" + trail}
	return []policy.Statement{
		{Sid: "TrailLooks", Effect: policy.Allow, Principal: service, Action: policy.Strings{"s3:GetBucketAcl"}, Resource: policy.Strings{bucket},
			Condition: policy.Condition{"StringEquals": {"aws:SourceArn": arn}}},
		{Sid: "TrailDelivery", Effect: policy.Allow, Principal: service, Action: policy.Strings{"s3:PutObject"},
			Resource:  policy.Strings{bucket + "/" + trailPrefix + "/AWSLogs/" + account + "/*"},
			Condition: policy.Condition{"StringEquals": {"s3:x-amz-acl": {"bucket-owner-full-control"}, "aws:SourceArn": arn}}},
	}
}
