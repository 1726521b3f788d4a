package infra

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// Options are capabilities that a deployment can add. Each is off in its zero value.
type Options struct {
	// Tags are KEY=VALUE, put on every resource beside the stack's own tag.
	Tags []string
	// Inventory makes S3 list all objects and versions into the log bucket every week.
	Inventory bool
	// Athena makes tables over the logs, and saved queries.
	Athena bool
	// LockLogDays is for how many days nobody can delete CloudTrail's records: they go to
	// a bucket of their own with Object Lock. LockLogMode is governance, which only a
	// special right passes, or compliance, which nothing passes.
	LockLogDays int
	LockLogMode string
	// CertificateDays raises an alarm when the certificate ends within so many days. ACM
	// renews 60 days before the end.
	CertificateDays int
	// CostAnomaly warns by e-mail of unusual costs of the stack of so many dollars.
	CostAnomaly int
	// CacheTags makes CloudFront read the tags of objects for invalidations by tag.
	CacheTags bool
	// ReplicaRegion is a second region that holds a copy, from which CloudFront reads when S3
	// fails in the first.
	ReplicaRegion string
	// SigningKey is what signs what is published: new, for a key in KMS that the stack makes, or the
	// ARN of one that is there. One publisher may sign with it: see Publisher.Signs. Empty: there is none.
	SigningKey string
	// Deployer is the repository whose workflow deploys this stack from an environment, and
	// compares it for pull requests. nil: people deploy.
	Deployer *Publisher
}

const (
	governance = "governance"
	compliance = "compliance"

	// cacheTagHeader is the object metadata in which tags are, separated by commas: of
	// the headers that S3 sends, a publisher can set only such.
	cacheTagHeader = "x-amz-meta-cache-tag"

	// projectTag is on every resource, and is that by which costs can be told apart.
	projectTag, projectValue = "project", "slurm-factory-spack-buildcache"
)

var tagForm = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/+@-][\p{L}\p{Z}\p{N}_.:/+@-]{0,127}=[\p{L}\p{Z}\p{N}_.:/=+@-]{0,256}$`)

// optionErrors reports what is wrong with the options.
func (c Config) optionErrors() []error {
	var found []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			found = append(found, fmt.Errorf(format, args...))
		}
	}
	seen := map[string]bool{}
	for _, t := range c.Tags {
		refuse(!tagForm.MatchString(t), "--tag %q: want KEY=VALUE, at most 128 and 256 letters, digits, spaces and _.:/=+@-", t)
		key, _, _ := strings.Cut(t, "=")
		refuse(strings.HasPrefix(strings.ToLower(key), "aws:"), "--tag %q: AWS keeps keys that begin with aws: for itself", t)
		refuse(seen[key], "--tag %q: the key %s is given twice", t, key)
		seen[key] = true
		refuse(key == projectTag, "--tag %q: the stack has the tag %s=%s, by which its costs are told apart", t, projectTag, projectValue)
	}
	refuse(c.LockLogDays < 0, "--lock-log-days %d: want days, or 0 for none", c.LockLogDays)
	refuse(c.LockLogDays > 36500, "--lock-log-days %d: S3 locks for at most 36500 days", c.LockLogDays)
	refuse(c.LockLogDays > 0 && !c.CloudTrail, "--lock-log-days needs --cloudtrail: its records are what is locked")
	refuse(c.LockLogMode != governance && c.LockLogMode != compliance, "--lock-log-mode %q: want governance or compliance", c.LockLogMode)
	refuse(c.LockLogDays > 0 && len(c.AuditBucket()) > 63, "bucket name %q: too long for the bucket of locked logs, which ends in -audit: at most 57 characters", c.Bucket())
	refuse(c.CertificateDays < 0 || c.CertificateDays > 60, "--certificate-days %d: want 1 to 60, or 0 for none: ACM renews 60 days before the end", c.CertificateDays)
	refuse(c.CertificateDays > 0 && (c.Domain == "" || !c.Alarms), "--certificate-days needs --domain and --alarms")
	refuse(c.ReplicaRegion != "" && !regionForm.MatchString(c.ReplicaRegion), "--replica-region %q: want a region such as us-west-2", c.ReplicaRegion)
	refuse(c.ReplicaRegion == Region, "--replica-region %s is the region of the cache itself", c.ReplicaRegion)
	refuse(c.ReplicaRegion != "" && len(c.ReplicaBucket()) > 63, "bucket name %q: too long for the copy, which ends in -replica: at most 55 characters", c.Bucket())
	refuse(c.CostAnomaly < 0, "--cost-anomaly %d: want dollars, or 0 for none", c.CostAnomaly)
	refuse(c.CostAnomaly > 0 && c.AlarmEmail == "", "--cost-anomaly needs --alarm-email, the address to warn")
	c.signingKeyErrors(refuse)
	return append(found, c.deployerErrors()...)
}

// AuditBucket is the name of the bucket of locked logs.
func (c Config) AuditBucket() string { return c.Bucket() + "-audit" }

// tags are the stack's tags.
func (c Config) tags() *map[string]*string {
	all := map[string]*string{projectTag: jsii.String(projectValue)}
	for _, t := range c.Tags {
		key, value, _ := strings.Cut(t, "=")
		all[key] = jsii.String(value)
	}
	return &all
}

// inventoryPrefix is where the inventory is in the log bucket.
const inventoryPrefix = "inventory"

// listObjects makes S3 write a list of all objects and versions to the log bucket every
// week, as Parquet.
func listObjects(c Config, bucket, logs awss3.Bucket, account string) {
	if !c.Inventory {
		return
	}
	raw := bucket.Node().DefaultChild().(awss3.CfnBucket)
	raw.SetInventoryConfigurations(&[]any{&awss3.CfnBucket_InventoryConfigurationProperty{
		Id:                     jsii.String("weekly"),
		Enabled:                jsii.Bool(true),
		IncludedObjectVersions: jsii.String("All"),
		ScheduleFrequency:      jsii.String("Weekly"),
		OptionalFields:         jsii.Strings("Size", "LastModifiedDate", "ETag", "StorageClass", "IsMultipartUploaded", "ReplicationStatus", "ChecksumAlgorithm", "IntelligentTieringAccessTier"),
		Destination: &awss3.CfnBucket_DestinationProperty{
			BucketArn: logs.BucketArn(), BucketAccountId: jsii.String(account), Format: jsii.String("Parquet"), Prefix: jsii.String(inventoryPrefix),
		},
	}})
	logs.AddToResourcePolicy(statement(inventoryDelivery(*logs.BucketArn(), "arn:aws:s3:::"+c.Bucket(), account)))
}

// inventoryDelivery lets S3 write the inventory of this one bucket into the log bucket.
func inventoryDelivery(logs, bucket, account string) policy.Statement {
	return delivery("InventoryDelivery", "s3.amazonaws.com", logs+"/"+inventoryPrefix, account, bucket)
}

// prepareCacheTags makes the distribution remember the tags of objects.
func prepareCacheTags(c Config, distribution awscloudfront.Distribution) {
	if !c.CacheTags {
		return
	}
	raw := distribution.Node().DefaultChild().(awscloudfront.CfnDistribution)
	raw.AddPropertyOverride(jsii.String("DistributionConfig.CacheTagConfig"), map[string]any{"HeaderName": cacheTagHeader})
}
