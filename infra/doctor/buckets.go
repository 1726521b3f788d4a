package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// bucket examines whether what protects the packages is still in force.
func (d Doctor) bucket(ctx context.Context) ([]Finding, error) {
	return d.protected(ctx, "bucket", d.Stack.Outputs["BucketName"],
		remake+", empty; the packages must be published again", d.cacheKeepsVersions, d.logging, d.replication)
}

// logBucket examines the same of the bucket that receives the logs.
func (d Doctor) logBucket(ctx context.Context) ([]Finding, error) {
	return d.protected(ctx, "log bucket", d.Stack.Outputs["LogBucketName"],
		remake, d.logsKeepVersions)
}

// auditBucket examines the bucket of CloudTrail's locked records.
func (d Doctor) auditBucket(ctx context.Context) ([]Finding, error) {
	return d.protected(ctx, "audit bucket", d.Stack.Outputs["AuditBucketName"],
		remake, d.logsKeepVersions, d.locked)
}

// replicaBucket examines the copy in the second region, which has a stack of its own.
func (d Doctor) replicaBucket(ctx context.Context) ([]Finding, error) {
	const check = "replica bucket"
	if d.Replica == nil {
		return nil, nil
	}
	stack, there, err := d.Replica(ctx)
	if code(err) == "ValidationError" && strings.Contains(err.Error(), "does not exist") {
		return []Finding{broken(check, "`infra deploy` makes it again", "the stack in the second region does not exist: %v", err)}, nil
	}
	if err != nil {
		return nil, err
	}
	d.Stack, d.S3 = stack, there
	return d.protected(ctx, check, stack.first("AWS::S3::Bucket"), remake+", empty; what is published from then on is copied", d.cacheKeepsVersions)
}

// locked examines whether records are still kept from being deleted.
func (d Doctor) locked(ctx context.Context, check, name string) ([]Finding, error) {
	out, err := d.S3.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &name})
	if err != nil && code(err) != "ObjectLockConfigurationNotFoundError" {
		return nil, fmt.Errorf("get object lock of %s: %w", name, err)
	}
	if err != nil || out.ObjectLockConfiguration.Rule == nil || out.ObjectLockConfiguration.Rule.DefaultRetention == nil {
		return []Finding{broken(check, redeploy, "s3://%s does not lock new records: they can be deleted", name)}, nil
	}
	return nil, nil
}

// A bucketCheck examines one property of a bucket.
type bucketCheck func(ctx context.Context, check, name string) ([]Finding, error)

// protected examines what all buckets of the stack have in common, and more. A property
// that cannot be read is a finding and keeps none of the others from being examined.
func (d Doctor) protected(ctx context.Context, check, name, lost string, more ...bucketCheck) ([]Finding, error) {
	if name == "" { // a stack of an earlier version
		return nil, nil
	}
	if _, err := d.S3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name}); err != nil {
		if code(err) == "NotFound" {
			return []Finding{broken(check, lost, "s3://%s does not exist", name)}, nil
		}
		// S3 says no more than 403 to a HEAD; the checks say what may not be read.
		if code(err) != "Forbidden" {
			return nil, fmt.Errorf("head bucket %s: %w", name, err)
		}
	}
	var found []Finding
	for _, look := range append([]bucketCheck{d.publicAccess, d.unfinished, d.encryption, d.ownership, d.bucketPolicy}, more...) {
		one, err := look(ctx, check, name)
		found = append(found, one...)
		if err != nil {
			found = append(found, unexamined(check, err))
		}
	}
	return orWell(found, check, "s3://%s is versioned, private, encrypted and cleans up after itself", name), nil
}

func (d Doctor) cacheKeepsVersions(ctx context.Context, check, name string) ([]Finding, error) {
	return d.versioned(ctx, check, name, "what is overwritten or deleted is gone")
}

func (d Doctor) logsKeepVersions(ctx context.Context, check, name string) ([]Finding, error) {
	return d.versioned(ctx, check, name, "a log that is deleted is gone")
}

func (d Doctor) versioned(ctx context.Context, check, name, so string) ([]Finding, error) {
	out, err := d.S3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &name})
	if err != nil {
		return nil, fmt.Errorf("get versioning of %s: %w", name, err)
	}
	if out.Status != s3types.BucketVersioningStatusEnabled {
		return []Finding{broken(check, redeploy, "s3://%s is not versioned: %s", name, so)}, nil
	}
	return nil, nil
}

func (d Doctor) publicAccess(ctx context.Context, check, name string) ([]Finding, error) {
	out, err := d.S3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &name})
	if err != nil && code(err) != "NoSuchPublicAccessBlockConfiguration" {
		return nil, fmt.Errorf("get public access block of %s: %w", name, err)
	}
	if err != nil || !blocksAll(out.PublicAccessBlockConfiguration) {
		return []Finding{broken(check, redeploy, "s3://%s does not block public access", name)}, nil
	}
	return nil, nil
}

func blocksAll(c *s3types.PublicAccessBlockConfiguration) bool {
	return c != nil && aws.ToBool(c.BlockPublicAcls) && aws.ToBool(c.BlockPublicPolicy) &&
		aws.ToBool(c.IgnorePublicAcls) && aws.ToBool(c.RestrictPublicBuckets)
}

func (d Doctor) unfinished(ctx context.Context, check, name string) ([]Finding, error) {
	out, err := d.S3.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &name})
	if err != nil && code(err) != "NoSuchLifecycleConfiguration" {
		return nil, fmt.Errorf("get lifecycle of %s: %w", name, err)
	}
	if err != nil || !abortsUploads(out.Rules) {
		return []Finding{broken(check, redeploy, "s3://%s keeps, and charges for, the parts of uploads that were never finished", name)}, nil
	}
	return nil, nil
}

func abortsUploads(rules []s3types.LifecycleRule) bool {
	return slices.ContainsFunc(rules, func(r s3types.LifecycleRule) bool {
		return r.Status == s3types.ExpirationStatusEnabled && r.AbortIncompleteMultipartUpload != nil
	})
}

func (d Doctor) encryption(ctx context.Context, check, name string) ([]Finding, error) {
	out, err := d.S3.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: &name})
	if err != nil && code(err) != "ServerSideEncryptionConfigurationNotFoundError" {
		return nil, fmt.Errorf("get encryption of %s: %w", name, err)
	}
	if err != nil {
		return []Finding{broken(check, redeploy, "s3://%s has no default encryption", name)}, nil
	}
	for _, r := range out.ServerSideEncryptionConfiguration.Rules {
		if by := r.ApplyServerSideEncryptionByDefault; by != nil && by.SSEAlgorithm != s3types.ServerSideEncryptionAes256 {
			return []Finding{broken(check, redeploy, "s3://%s encrypts with %s, the stack says AES256: CloudFront has no right to another key", name, by.SSEAlgorithm)}, nil
		}
	}
	return nil, nil
}

func (d Doctor) ownership(ctx context.Context, check, name string) ([]Finding, error) {
	out, err := d.S3.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &name})
	if err != nil && code(err) != "OwnershipControlsNotFoundError" {
		return nil, fmt.Errorf("get ownership of %s: %w", name, err)
	}
	if err != nil || !slices.ContainsFunc(out.OwnershipControls.Rules, func(r s3types.OwnershipControlsRule) bool {
		return r.ObjectOwnership == s3types.ObjectOwnershipBucketOwnerEnforced
	}) {
		return []Finding{broken(check, redeploy, "s3://%s lets objects have ACLs and owners of their own", name)}, nil
	}
	return nil, nil
}

// bucketPolicy compares the policy of the bucket with the stack's.
func (d Doctor) bucketPolicy(ctx context.Context, check, name string) ([]Finding, error) {
	want, err := d.Stack.policyOf(name)
	if err != nil {
		return nil, err
	}
	out, err := d.S3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &name})
	if code(err) == "NoSuchBucketPolicy" {
		return []Finding{broken(check, redeploy, "s3://%s has no policy: requests without TLS are let in, and CloudFront and the logs are not", name)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get policy of %s: %w", name, err)
	}
	return compared(check, "the policy of s3://"+name, []byte(aws.ToString(out.Policy)), want)
}

// compared is what is different between a policy in the account and the stack's.
func compared(check, what string, live []byte, want policy.Document) ([]Finding, error) {
	have, err := policy.Parse(live)
	switch {
	case errors.Is(err, policy.ErrNotModelled):
		return []Finding{broken(check, redeploy, "%s was changed by hand: %v", what, err)}, nil
	case err != nil:
		return nil, err
	case !alike(have, want):
		return []Finding{broken(check, redeploy, "%s was changed: %s", what, difference(have, want))}, nil
	}
	return nil, nil
}

// policyOf is the policy that the stack gives a bucket.
func (s Stack) policyOf(bucket string) (policy.Document, error) {
	for _, id := range s.Template.OfType("AWS::S3::BucketPolicy") {
		p := s.Template.Resources[id].Properties
		if name, err := s.Template.ResolveString(p["Bucket"], s.World); err != nil {
			return policy.Document{}, err
		} else if name == bucket {
			return s.documentOf(p["PolicyDocument"])
		}
	}
	return policy.Document{}, fmt.Errorf("the stack has no policy for bucket %s", bucket)
}

// logging examines whether S3 still records who reads and writes the packages.
func (d Doctor) logging(ctx context.Context, check, name string) ([]Finding, error) {
	out, err := d.S3.GetBucketLogging(ctx, &s3.GetBucketLoggingInput{Bucket: &name})
	if err != nil {
		return nil, fmt.Errorf("get logging of %s: %w", name, err)
	}
	logs := d.Stack.Outputs["LogBucketName"]
	if l := out.LoggingEnabled; l == nil || aws.ToString(l.TargetBucket) != logs {
		return []Finding{broken(check, redeploy, "s3://%s does not log its requests to s3://%s", name, logs)}, nil
	}
	return nil, nil
}

// replication examines whether what is written is still copied to the second region.
func (d Doctor) replication(ctx context.Context, check, name string) ([]Finding, error) {
	replica := d.Stack.Outputs["ReplicaBucketName"]
	if replica == "" {
		return nil, nil
	}
	out, err := d.S3.GetBucketReplication(ctx, &s3.GetBucketReplicationInput{Bucket: &name})
	if err != nil && code(err) != "ReplicationConfigurationNotFoundError" {
		return nil, fmt.Errorf("get replication of %s: %w", name, err)
	}
	if err == nil && slices.ContainsFunc(out.ReplicationConfiguration.Rules, func(r s3types.ReplicationRule) bool {
		return r.Status == s3types.ReplicationRuleStatusEnabled && r.Destination != nil && aws.ToString(r.Destination.Bucket) == "arn:aws:s3:::"+replica
	}) {
		return nil, nil
	}
	return []Finding{broken(check, redeploy, "s3://%s is not copied to s3://%s", name, replica)}, nil
}
