package infra

import (
	"regexp"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// An indexer is what hosts that run `publish indexer` are served by.
type indexer struct {
	queue, dead awssqs.Queue
	role        awsiam.Role
}

const (
	// maxDeliveries is how often a message is told before it is dead. The indexer waits
	// longer each time, so that the last one is more than an hour after the first.
	maxDeliveries = 10
	// messageDays is the longest that SQS keeps messages: nothing is lost while all hosts are
	// away for so long.
	messageDays = 14
	// maxMessageAge is for how many minutes the oldest message may wait: an indexer that lives takes it within
	// seconds. SQS does not count those that were told three times, which are the dead letters' matter.
	maxMessageAge = 15
	// hostsRole is the name of the role of the hosts, before the prefix.
	hostsRole = "slurm-factory-indexer"
)

// indexerRole is the name of the role of the hosts, and of their instance profile.
func (c Config) indexerRole() string { return c.Prefixed(hostsRole) }

// notifiedSuffixes are the ends of the names that change an index: documents of packages and keys, and
// what points at indices, in layouts v3 and v2; and of the tarballs of v2, which a publisher may replace. The
// content of packages in v3 is not told. No name has two of them, which S3 would refuse.
var notifiedSuffixes = []string{".manifest.json", ".spec.json", ".spec.json.sig", ".pub", "/index.json", "/index.json.hash", ".spack"}

// newIndexer makes S3 tell a queue what is stored, and who may take it from there. nil without
// --indexer-queue.
//
// S3 tells the queue itself and not through EventBridge: that is free, one thing less that can
// fail, and filters by the ends of names. What sends to the queue in another way is understood
// as well, but must be allowed by its administrator.
func newIndexer(stack awscdk.Stack, c Config, bucket awss3.Bucket, distribution awscloudfront.IDistribution) *indexer {
	if !c.IndexerQueue {
		return nil
	}
	// Each of the two queues names the other, so one needs a name that is known before.
	name := *stack.StackName() + "-indexer"
	dead := awssqs.NewQueue(stack, jsii.String("IndexerDeadLetters"), &awssqs.QueueProps{
		Encryption:      awssqs.QueueEncryption_SQS_MANAGED,
		EnforceSSL:      jsii.Bool(true),
		RetentionPeriod: days(messageDays),
		RedriveAllowPolicy: &awssqs.RedriveAllowPolicy{
			RedrivePermission: awssqs.RedrivePermission_BY_QUEUE,
			SourceQueues: &[]awssqs.IQueue{awssqs.Queue_FromQueueArn(stack, jsii.String("IndexerQueueByName"),
				jsii.String("arn:aws:sqs:"+Region+":"+*stack.Account()+":"+name))},
		},
	})
	queue := awssqs.NewQueue(stack, jsii.String("IndexerQueue"), &awssqs.QueueProps{
		QueueName:              jsii.String(name),
		Encryption:             awssqs.QueueEncryption_SQS_MANAGED,
		EnforceSSL:             jsii.Bool(true),
		RetentionPeriod:        days(messageDays),
		ReceiveMessageWaitTime: awscdk.Duration_Seconds(jsii.Number(20)),
		VisibilityTimeout:      minutes(2),
		DeadLetterQueue:        &awssqs.DeadLetterQueue{Queue: dead, MaxReceiveCount: jsii.Number(maxDeliveries)},
	})
	// By the bucket's name and not by a reference to it: the bucket needs this policy first.
	granted := queue.AddToResourcePolicy(statement(tellQueue(*queue.QueueArn(), "arn:aws:s3:::"+c.Bucket(), *stack.Account())))
	notify(bucket, queue, granted)
	role := awsiam.NewRole(stack, jsii.String("IndexerRole"), &awsiam.RoleProps{
		RoleName:    jsii.String(c.indexerRole()),
		Description: jsii.String("hosts that run publish indexer"),
		AssumedBy:   trustedBy(c.IndexerTrust),
		InlinePolicies: &map[string]awsiam.PolicyDocument{
			"indexer": document(IndexerPermissions(*bucket.BucketArn(), *distribution.DistributionArn(), *queue.QueueArn())),
		},
	})
	if slices.Contains(c.IndexerTrust, "ec2") {
		awsiam.NewInstanceProfile(stack, jsii.String("IndexerInstanceProfile"), &awsiam.InstanceProfileProps{
			InstanceProfileName: jsii.String(c.indexerRole()), Role: role,
		})
	}
	return &indexer{queue, dead, role}
}

// notify sets the notifications in the bucket's own properties: CDK's way would be a custom resource
// with a Lambda behind it.
func notify(bucket awss3.Bucket, queue awssqs.Queue, granted *awsiam.AddToResourcePolicyResult) {
	told := make([]any, 0, len(notifiedSuffixes))
	for _, suffix := range notifiedSuffixes {
		told = append(told, &awss3.CfnBucket_QueueConfigurationProperty{
			Event: jsii.String("s3:ObjectCreated:*"),
			Queue: queue.QueueArn(),
			Filter: &awss3.CfnBucket_NotificationFilterProperty{S3Key: &awss3.CfnBucket_S3KeyFilterProperty{
				Rules: []any{&awss3.CfnBucket_FilterRuleProperty{Name: jsii.String("suffix"), Value: jsii.String(suffix)}},
			}},
		})
	}
	raw := bucket.Node().DefaultChild().(awss3.CfnBucket)
	raw.SetNotificationConfiguration(&awss3.CfnBucket_NotificationConfigurationProperty{QueueConfigurations: told})
	raw.Node().AddDependency(granted.PolicyDependable) // S3 tries whether it may
}

// trustedForm is who may assume the indexer's role, besides the two services.
var trustedForm = regexp.MustCompile(`^arn:aws:iam::\d{12}:(root|(role|user)/[\w+=,.@/-]{1,512})$`)

// trustedBy is the principal of --indexer-trust.
func trustedBy(who []string) awsiam.IPrincipal {
	all := make([]awsiam.IPrincipal, 0, len(who))
	for _, w := range who {
		switch w {
		case "ec2":
			all = append(all, awsiam.NewServicePrincipal(jsii.String("ec2.amazonaws.com"), nil))
		case "ecs":
			all = append(all, awsiam.NewServicePrincipal(jsii.String("ecs-tasks.amazonaws.com"), nil))
		default:
			all = append(all, awsiam.NewArnPrincipal(jsii.String(w)))
		}
	}
	return awsiam.NewCompositePrincipal(all...)
}

// alarms tell of hosts that are not there, or cannot keep up, and of what no host could do.
func (x *indexer) alarms(stack awscdk.Stack) []awscloudwatch.Alarm {
	if x == nil {
		return nil
	}
	return []awscloudwatch.Alarm{
		awscloudwatch.NewAlarm(stack, jsii.String("IndexerAgeAlarm"), &awscloudwatch.AlarmProps{
			AlarmName:          jsii.String(*stack.StackName() + "-indexer-behind"),
			AlarmDescription:   jsii.String("No host takes messages from the indexer's queue, or too few. See docs/infra-troubleshooting.md."),
			Metric:             queueMetric(x.queue, "ApproximateAgeOfOldestMessage", "Maximum"),
			EvaluationPeriods:  jsii.Number(2),
			Threshold:          jsii.Number(maxMessageAge * 60),
			ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
			TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
		}),
		awscloudwatch.NewAlarm(stack, jsii.String("IndexerDeadAlarm"), &awscloudwatch.AlarmProps{
			AlarmName:          jsii.String(*stack.StackName() + "-indexer-dead-letters"),
			AlarmDescription:   jsii.String("A package or a key was pushed that cannot be indexed. See docs/infra-troubleshooting.md."),
			Metric:             queueMetric(x.dead, "ApproximateNumberOfMessagesVisible", "Maximum"),
			EvaluationPeriods:  jsii.Number(1),
			Threshold:          jsii.Number(0),
			ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
			TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
		}),
	}
}

// graphs are the indexer's row of the dashboard.
func (x *indexer) graphs() []awscloudwatch.IWidget {
	if x == nil {
		return nil
	}
	return []awscloudwatch.IWidget{
		graph("Indexer: age of the oldest message (s)", queueMetric(x.queue, "ApproximateAgeOfOldestMessage", "Maximum")),
		graph("Indexer: messages", queueMetric(x.queue, "ApproximateNumberOfMessagesVisible", "Maximum"), queueMetric(x.queue, "ApproximateNumberOfMessagesNotVisible", "Maximum")),
		graph("Indexer: messages done", queueMetric(x.queue, "NumberOfMessagesDeleted", "Sum")),
		graph("Indexer: dead letters", queueMetric(x.dead, "ApproximateNumberOfMessagesVisible", "Maximum")),
	}
}

// queueMetric is what SQS counts, free.
func queueMetric(queue awssqs.IQueue, name, statistic string) awscloudwatch.Metric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace:     jsii.String("AWS/SQS"),
		MetricName:    jsii.String(name),
		Statistic:     jsii.String(statistic),
		Period:        minutes(5),
		DimensionsMap: &map[string]*string{"QueueName": queue.QueueName()},
	})
}

// IndexerPermissions is what an indexer may do: read everything, write what follows from it, take
// messages, and tell the CDN. It can neither store nor replace a package's document, nor delete
// anything.
// Bucket, distribution and queue are ARNs.
func IndexerPermissions(bucket, distribution, queue string) policy.Document {
	written := indexerWrites(bucket)
	return policy.New(
		policy.Statement{Sid: "ReadObjects", Effect: policy.Allow, Action: policy.Strings{"s3:GetObject"}, Resource: policy.Strings{bucket + "/*"}},
		policy.Statement{Sid: "ListObjects", Effect: policy.Allow, Action: policy.Strings{"s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"},
			Resource: policy.Strings{bucket}},
		policy.Statement{Sid: "WriteIndices", Effect: policy.Allow, Resource: written,
			Action: policy.Strings{"s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}},
		policy.Statement{Sid: "Invalidate", Effect: policy.Allow, Resource: policy.Strings{distribution},
			Action: policy.Strings{"cloudfront:CreateInvalidation", "cloudfront:GetInvalidation"}},
		policy.Statement{Sid: "TakeMessages", Effect: policy.Allow, Resource: policy.Strings{queue},
			Action: policy.Strings{"sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}},
	)
}

// indexerWrites are the objects that an index and its history consist of, in a mirror at the root of the bucket
// and in those below it. Of blobs nobody can tell by their names which are indices; they are only
// ever created.
func indexerWrites(bucket string) policy.Strings {
	var all policy.Strings
	for _, name := range []string{
		"blobs/sha256/*", "v3/layout.json", "v3/manifests/index/index.manifest.json", "v3/manifests/key/keys.manifest.json",
		"build_cache/index.json", "build_cache/index.json.hash", "build_cache/_pgp/index.json", ".history/*",
	} {
		all = append(all, bucket+"/"+name, bucket+"/*/"+name)
	}
	return all
}

// tellQueue lets the one bucket of this account send to the queue.
func tellQueue(queue, bucket, account string) policy.Statement {
	return policy.Statement{
		Sid:       "BucketTells",
		Effect:    policy.Allow,
		Principal: policy.Service("s3.amazonaws.com"),
		Action:    policy.Strings{"sqs:SendMessage"},
		Resource:  policy.Strings{queue},
		Condition: policy.Condition{"StringEquals": {"aws:SourceAccount": {account}}, "ArnLike": {"aws:SourceArn": {bucket}}},
	}
}
