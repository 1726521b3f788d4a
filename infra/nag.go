package infra

import (
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
)

// A finding is one that cdk-nag's AwsSolutions rules report of this stack and that we
// accept: on one resource, for one reason. Applies narrows IAM5 to one wildcard.
type finding struct {
	Path, Rule, Applies, Reason string
}

const (
	whyNoGeo = "The cache is public software for sites everywhere, so there is no country to keep out; " +
		"the reference infrastructure asks for no geographic restriction."
	whyNoWAF = "The distribution serves only GET, HEAD and OPTIONS for static objects, where a web ACL costs more than " +
		"it protects; --waf-arn attaches one (docs/infra-security.md)."
	whyLogsV2 = "Access logs are delivered by CloudFront's logging version 2 (AWS::Logs::Delivery), which the rule does " +
		"not know; the older logging needs ACLs. A test asserts the delivery (docs/infra-monitoring.md)."
	whyOldTLS = "Without a domain the distribution has CloudFront's own certificate, for which AWS fixes the minimum at " +
		"TLSv1; with a domain it is TLSv1.2_2021 (docs/infra.md, custom domain)."
	whyObjects = "A publisher writes objects whose names follow from their content and cannot be listed in advance; the " +
		"wildcard ends at the publisher's own prefix (docs/infra-security.md)."
	whyIndices = "An indexer serves every mirror in the bucket, wherever publishers put it, and writes only what an index consists of; " +
		"the wildcards stand for the mirror's path and for the content that indices are named after (docs/infra-security.md)."
	whyReplicate = "S3 copies every object of the cache to the second region, whatever it is called, so the wildcard stands for all objects of " +
		"these two buckets; the role is S3's alone, for this one bucket."
	whyStackID = "CloudFormation ends the ARN of a stack in an id that is new with each creation, so the wildcard stands for that id; " +
		"the stack's name before it is exact (docs/infra-security.md)."
	whyLook = "Before a first deployment infra looks whether a name is taken by another owner, so it must read resources of any owner; " +
		"these calls only read, and most of them take no resource (docs/infra-security.md)."
	whyFullAccess = "The manual user exists for emergencies and has every action on this one bucket by intent; deletions " +
		"and changes of the bucket's protection are denied without MFA (docs/infra-security.md)."
)

// acceptedFindings lists what cdk-nag finds in the stack of this configuration. It is
// exact: a test fails when a finding is missing here and when one here is not found.
func acceptedFindings(c Config) []finding {
	distribution := "Distribution/Resource"
	found := []finding{
		{distribution, "AwsSolutions-CFR1", "", whyNoGeo},
		{distribution, "AwsSolutions-CFR3", "", whyLogsV2},
	}
	if c.WebACLArn == "" {
		found = append(found, finding{distribution, "AwsSolutions-CFR2", "", whyNoWAF})
	}
	if c.Domain == "" {
		found = append(found, finding{distribution, "AwsSolutions-CFR4", "", whyOldTLS})
	}
	for i, p := range c.Publishers {
		path := roleID(p) + "/Resource"
		if i == 0 {
			path = "GitHubActionsRole/Resource"
		}
		for _, prefix := range slices.Concat(p.prefixes(), p.From) {
			found = append(found, finding{path, "AwsSolutions-IAM5", "Resource::<BinaryCacheBucketDC4CADE3.Arn>/" + prefix + "*", whyObjects})
		}
	}
	if c.IndexerQueue {
		for _, object := range append(indexerWrites("Resource::<BinaryCacheBucketDC4CADE3.Arn>"), "Resource::<BinaryCacheBucketDC4CADE3.Arn>/*") {
			if strings.Contains(object, "*") {
				found = append(found, finding{"IndexerRole/Resource", "AwsSolutions-IAM5", object, whyIndices})
			}
		}
	}
	if c.ReplicaRegion != "" {
		for _, bucket := range []string{c.Bucket(), c.ReplicaBucket()} {
			found = append(found, finding{"ReplicationRole/Resource", "AwsSolutions-IAM5", "Resource::arn:aws:s3:::" + bucket + "/*", whyReplicate})
		}
	}
	if c.Deployer != nil {
		found = append(found, finding{"InfraDeployRole/Resource", "AwsSolutions-IAM5", "Resource::*", whyLook})
		for _, stack := range (names{c.Account}).stacks(c) {
			found = append(found,
				finding{"InfraDeployRole/Resource", "AwsSolutions-IAM5", "Resource::" + stack, whyStackID},
				finding{"InfraDiffRole/Resource", "AwsSolutions-IAM5", "Resource::" + stack, whyStackID})
		}
	}
	if c.ManualUser != "" {
		found = append(found,
			finding{"ManualUserPolicy/Resource", "AwsSolutions-IAM5", "Action::s3:*", whyFullAccess},
			finding{"ManualUserPolicy/Resource", "AwsSolutions-IAM5", "Resource::<BinaryCacheBucketDC4CADE3.Arn>/*", whyFullAccess},
		)
	}
	return found
}

// acceptFindings tells cdk-nag, in the template's metadata, what is accepted and why.
func acceptFindings(stack awscdk.Stack, c Config) {
	for _, f := range acceptedFindings(c) {
		suppression := &cdknag.NagPackSuppression{Id: jsii.String(f.Rule), Reason: jsii.String(f.Reason)}
		if f.Applies != "" {
			suppression.AppliesTo = &[]any{f.Applies}
		}
		path := "/" + *stack.Node().Path() + "/" + f.Path
		cdknag.NagSuppressions_AddResourceSuppressionsByPath(stack, path, &[]*cdknag.NagPackSuppression{suppression}, jsii.Bool(false))
	}
}
