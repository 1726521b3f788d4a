package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
)

// newOutputs tells what a publisher and a reader need to know. The names are an
// interface: workflows and the publisher's tests read them.
func newOutputs(stack awscdk.Stack, c Config, bucket, logs awss3.IBucket, distribution awscloudfront.IDistribution, roles []awsiam.Role, index *indexer, signingKey *string) {
	output := func(name, description string, value *string) {
		awscdk.NewCfnOutput(stack, jsii.String(name), &awscdk.CfnOutputProps{Value: value, Description: jsii.String(description)})
	}
	host := distribution.DistributionDomainName()
	if c.Domain != "" {
		host = jsii.String(c.Domain)
	}
	url := "https://" + *host
	output("BucketName", "S3 bucket of the binary cache", bucket.BucketName())
	output("BucketArn", "ARN of that bucket", bucket.BucketArn())
	output("DistributionId", "CloudFront distribution to invalidate", distribution.DistributionId())
	output("DistributionDomainName", "CloudFront's own name of the distribution", distribution.DistributionDomainName())
	output("PublicUrl", "where readers find the cache", jsii.String(url))
	output("LogBucketName", "S3 bucket of the access logs", logs.BucketName())
	for i, p := range c.Publishers {
		name := roleID(p) + "Arn"
		if i == 0 {
			name = "GitHubActionsRoleArn"
		}
		output(name, "role-to-assume for "+p.Owner+"/"+p.Repo+" ("+string(p.Access)+")", roles[i].RoleArn())
	}
	if index != nil {
		output("IndexerQueueUrl", "queue of publish indexer: --queue", index.queue.QueueUrl())
		output("IndexerDeadLetterQueueUrl", "where messages go that no indexer could do", index.dead.QueueUrl())
		output("IndexerRoleArn", "role of the hosts that run publish indexer", index.role.RoleArn())
	}
	if signingKey != nil {
		output("SigningKeyName", "the signing key: --sign-key, and publish keys create --kms", jsii.String("awskms:///"+c.SigningAlias()))
		output("SigningKeyArn", "ARN of that key; for --signing-key of a later stack", signingKey)
	}
	if c.LockLogDays > 0 {
		output("AuditBucketName", "S3 bucket of CloudTrail's locked records", jsii.String(c.AuditBucket()))
	}
	if c.ReplicaRegion != "" {
		output("ReplicaBucketName", "S3 bucket of the copy in "+c.ReplicaRegion, jsii.String(c.ReplicaBucket()))
	}
	if c.Athena {
		output("AthenaWorkGroup", "Athena workgroup with the saved queries", jsii.String(c.StackName))
	}
	output("MirrorCommand", "adds the cache to Spack; append the mirror's path",
		jsii.String("spack mirror add slurm-factory "+url))
}
