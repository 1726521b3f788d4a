package infra

import (
	"maps"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// qualifier is what `cdk bootstrap` puts into the names of its own resources.
const qualifier = "hnb659fds"

// applyBoundary sets the permissions boundary of every role and user of the stack.
func applyBoundary(stack awscdk.Stack, c Config) {
	if c.PermissionsBoundary == "" {
		return
	}
	awsiam.PermissionsBoundary_Of(stack).Apply(
		awsiam.ManagedPolicy_FromManagedPolicyName(stack, jsii.String("Boundary"), jsii.String(c.PermissionsBoundary)))
}

// names makes the ARNs of an account.
type names struct{ account string }

func (n names) regional(service, resource string) string {
	return "arn:aws:" + service + ":" + Region + ":" + n.account + ":" + resource
}

func (n names) global(service, resource string) string {
	return "arn:aws:" + service + "::" + n.account + ":" + resource
}

// buckets are the buckets of the stack, with an ending such as "/*".
func (n names) buckets(c Config, ending string) policy.Strings {
	all := policy.Strings{"arn:aws:s3:::" + c.Bucket() + ending, "arn:aws:s3:::" + c.LogBucket() + ending}
	if c.LockLogDays > 0 {
		all = append(all, "arn:aws:s3:::"+c.AuditBucket()+ending)
	}
	if c.ReplicaRegion != "" {
		all = append(all, "arn:aws:s3:::"+c.ReplicaBucket()+ending)
	}
	return all
}

// signingKeys is the signing key, or all keys where its id is not known yet.
func (n names) signingKeys(c Config) string {
	if c.SigningKey == newKey {
		return n.regional("kms", "key/*")
	}
	return c.SigningKey
}

// regions are those in which the stack deploys.
func (c Config) regions() []string {
	if c.ReplicaRegion == "" {
		return []string{Region}
	}
	return []string{Region, c.ReplicaRegion}
}

// identities are the roles, users and providers that the stack makes, and nothing else
// of the account's IAM.
func (n names) identities(c Config) policy.Strings {
	roles := policy.Strings{n.global("iam", "role/"+c.StackName+"-*")}
	for _, p := range c.Publishers {
		roles = append(roles, n.global("iam", "role/"+p.Role))
	}
	if c.IndexerQueue {
		roles = append(roles, n.global("iam", "role/"+c.indexerRole()), n.global("iam", "instance-profile/"+c.indexerRole()))
	}
	if c.Deployer != nil {
		roles = append(roles, n.global("iam", "role/"+c.DeployRole()), n.global("iam", "role/"+c.DiffRole()))
	}
	if c.ManualUser != "" {
		roles = append(roles, n.global("iam", "user/"+c.ManualUser))
	}
	return roles
}

// passed are the roles that the stack hands to a service: those of hosts and of the replication.
func (n names) passed(c Config) policy.Strings {
	roles := policy.Strings{n.global("iam", "role/"+c.StackName+"-*")}
	if c.IndexerQueue {
		roles = append(roles, n.global("iam", "role/"+c.indexerRole()))
	}
	return roles
}

// BoundaryPolicy is the most that a role or user of the stack can ever do, whatever its
// own policies say: use this cache. It reaches no other bucket or service, and no IAM.
func BoundaryPolicy(c Config) policy.Document {
	n := names{c.Account}
	cached := policy.Strings{"arn:aws:s3:::" + c.Bucket(), "arn:aws:s3:::" + c.Bucket() + "/*"}
	if c.ReplicaRegion != "" {
		cached = append(cached, "arn:aws:s3:::"+c.ReplicaBucket()+"/*")
	}
	bounds := policy.New(
		policy.Statement{Sid: "TheCache", Effect: policy.Allow, Action: policy.Strings{"s3:*"},
			Resource: cached},
		policy.Statement{Sid: "ItsDistribution", Effect: policy.Allow, Resource: policy.Strings{n.global("cloudfront", "distribution/*")},
			Action: policy.Strings{"cloudfront:CreateInvalidation", "cloudfront:GetInvalidation", "cloudfront:ListInvalidations"}},
		policy.Statement{Sid: "ItsQueue", Effect: policy.Allow, Resource: policy.Strings{n.regional("sqs", c.StackName+"-*")},
			Action: policy.Strings{"sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}},
	)
	if c.SigningKey != "" {
		rights := SigningPermissions(n.signingKeys(c)).Statement
		rights[0].Sid = "ItsKey"
		bounds.Statement = append(bounds.Statement, rights...)
	}
	if c.Deployer != nil {
		bounds.Statement = append(bounds.Statement, DeployPermissions(c, c.Account).Statement...)
	}
	return bounds
}

// ExecutionPolicy is what CloudFormation needs to make, change and delete the stack, in
// place of the AdministratorAccess that `cdk bootstrap` gives it by default. It reaches
// the stack's own names, and no object of the cache. With a permissions boundary, it
// makes no role or user without that boundary.
func ExecutionPolicy(c Config) policy.Document {
	n := names{c.Account}
	var assets, versions policy.Strings
	for _, region := range c.regions() {
		assets = append(assets, "arn:aws:s3:::cdk-"+qualifier+"-assets-"+c.Account+"-"+region+"/*")
		versions = append(versions, "arn:aws:ssm:"+region+":"+c.Account+":parameter/cdk-bootstrap/"+qualifier+"/version")
	}
	statements := []policy.Statement{
		{Sid: "Template", Action: policy.Strings{"s3:GetObject*"}, Resource: assets},
		{Sid: "Bootstrap", Action: policy.Strings{"ssm:GetParameters"}, Resource: versions},
		{Sid: "Buckets", Resource: n.buckets(c, ""), Action: policy.Strings{
			"s3:CreateBucket", "s3:GetBucket*", "s3:PutBucket*", "s3:DeleteBucketPolicy", "s3:ListBucket",
			"s3:Get*Configuration", "s3:Put*Configuration", "s3:ListTagsForResource", "s3:TagResource", "s3:UntagResource",
		}},
		{Sid: "CDN", Action: policy.Strings{"cloudfront:*"}, Resource: policy.Strings{
			n.global("cloudfront", "distribution/*"), n.global("cloudfront", "origin-access-control/*"),
			n.global("cloudfront", "cache-policy/*"), n.global("cloudfront", "response-headers-policy/*"),
		}},
		{Sid: "Unscoped", Resource: policy.Strings{"*"}, Action: unscoped(c)},
		{Sid: "Certificate", Resource: policy.Strings{n.regional("acm", "certificate/*")}, Action: policy.Strings{
			"acm:DescribeCertificate", "acm:DeleteCertificate", "acm:*Tags*"}},
		{Sid: "Logging", Action: policy.Strings{"logs:*Deliver*", "logs:*Tag*", "cloudtrail:*"}, Resource: policy.Strings{
			n.regional("logs", "delivery:*"), n.regional("logs", "delivery-source:"+c.StackName+"-*"),
			n.regional("logs", "delivery-destination:"+c.StackName+"-*"), n.regional("cloudtrail", "trail/"+c.StackName+"-*"),
		}},
		{Sid: "Watching", Action: policy.Strings{"cloudwatch:*", "sns:*", "budgets:*"}, Resource: policy.Strings{
			n.regional("cloudwatch", "alarm:"+c.StackName+"-*"), n.global("cloudwatch", "dashboard/"+c.StackName),
			n.regional("sns", c.StackName+"-*"), n.global("budgets", "budget/"+c.StackName+"-*"),
		}},
		{Sid: "Queues", Resource: policy.Strings{n.regional("sqs", c.StackName+"-*")}, Action: policy.Strings{
			"sqs:CreateQueue", "sqs:DeleteQueue", "sqs:Get*", "sqs:List*", "sqs:SetQueueAttributes", "sqs:TagQueue", "sqs:UntagQueue"}},
		{Sid: "Provider", Action: policy.Strings{"iam:*OpenIDConnectProvider*"}, Resource: policy.Strings{ProviderArn(c.Account)}},
		{Sid: "Identities", Resource: n.identities(c), Action: policy.Strings{
			"iam:Get*", "iam:List*", "iam:Tag*", "iam:Untag*", "iam:DeleteRole*", "iam:DeleteUserPolicy", "iam:UpdateRole*", "iam:UpdateAssumeRolePolicy",
			"iam:*InstanceProfile",
		}},
		{Sid: "Rights", Resource: n.identities(c), Condition: bounded(c), Action: policy.Strings{
			"iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary", "iam:CreateUser", "iam:PutUserPolicy", "iam:PutUserPermissionsBoundary"}},
		{Sid: "PassRoles", Action: policy.Strings{"iam:PassRole"}, Resource: n.passed(c), Condition: policy.Condition{
			"StringEquals": {"iam:PassedToService": {"ec2.amazonaws.com", "s3.amazonaws.com"}}}},
	}
	if c.HostedZoneID != "" {
		statements = append(statements, policy.Statement{Sid: "Records", Resource: policy.Strings{"arn:aws:route53:::hostedzone/" + c.HostedZoneID},
			Action: policy.Strings{"route53:GetHostedZone", "route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"}})
	}
	if c.Athena {
		statements = append(statements, policy.Statement{Sid: "Queries", Action: policy.Strings{"athena:*", "glue:*"}, Resource: policy.Strings{
			n.regional("athena", "workgroup/"+c.StackName), n.regional("glue", "catalog"), n.regional("glue", "database/"+c.database()),
			n.regional("glue", "table/"+c.database()+"/*")}})
	}
	if c.CostAnomaly > 0 {
		statements = append(statements, policy.Statement{Sid: "Costs", Resource: policy.Strings{"*"}, Action: policy.Strings{
			"ce:*Anomaly*", "ce:ListTagsForResource", "ce:TagResource", "ce:UntagResource"}})
	}
	statements = append(statements, n.makeKey(c)...)
	if c.PermissionsBoundary != "" {
		// What has the boundary keeps it.
		statements = append(statements, policy.Statement{Sid: "KeepBoundary", Effect: policy.Deny, Resource: policy.Strings{"*"},
			Action: policy.Strings{"iam:DeleteRolePermissionsBoundary", "iam:DeleteUserPermissionsBoundary"}})
	}
	for i := range statements {
		if statements[i].Effect == "" {
			statements[i].Effect = policy.Allow
		}
	}
	return policy.New(statements...)
}

// unscoped are calls that name no resource, and those that read a key, whose id is not known before.
func unscoped(c Config) policy.Strings {
	all := policy.Strings{
		"acm:RequestCertificate", "cloudfront:CreateOriginAccessControl", "cloudfront:CreateCachePolicy", "cloudfront:CreateResponseHeadersPolicy",
		"cloudwatch:DescribeAlarms", "logs:DescribeDeliver*", "cloudtrail:DescribeTrails", "route53:GetChange",
	}
	if c.SigningKey != "" {
		all = append(all, "kms:DescribeKey", "kms:GetKey*", "kms:List*")
	}
	return all
}

// makeKey is what CloudFormation needs to make and change the signing key and its alias. It deletes no
// key. The id of a key is not known before it is made, so the stack's key is known by its tag; keys that
// encrypt are out of reach, whatever their tags.
func (n names) makeKey(c Config) []policy.Statement {
	if c.SigningKey == "" {
		return nil
	}
	keys := n.signingKeys(c)
	statements := []policy.Statement{
		{Sid: "KeyAlias", Action: policy.Strings{"kms:*Alias"}, Resource: policy.Strings{n.regional("kms", c.SigningAlias()), keys}},
	}
	if c.SigningKey != newKey {
		return statements
	}
	ours := policy.Strings{projectValue}
	return append(statements,
		policy.Statement{Sid: "MakeKey", Action: policy.Strings{"kms:CreateKey", "kms:TagResource"}, Resource: policy.Strings{"*"},
			Condition: policy.Condition{"StringEquals": {"aws:RequestTag/" + projectTag: ours}}},
		policy.Statement{Sid: "ChangeKey", Resource: policy.Strings{keys},
			Action:    policy.Strings{"kms:PutKeyPolicy", "kms:UpdateKeyDescription", "kms:TagResource", "kms:UntagResource"},
			Condition: policy.Condition{"StringEquals": {"aws:ResourceTag/" + projectTag: ours, "kms:KeyUsage": {"SIGN_VERIFY"}}}})
}

// bounded holds for requests on identities that have the configured boundary.
func bounded(c Config) policy.Condition {
	if c.PermissionsBoundary == "" {
		return nil
	}
	return policy.Condition{"StringEquals": {"iam:PermissionsBoundary": {names{c.Account}.global("iam", "policy/"+c.PermissionsBoundary)}}}
}

// Policies are the documents that an administrator puts into the account before the
// first deployment, by name.
func Policies(c Config) map[string]policy.Document {
	return map[string]policy.Document{"boundary": BoundaryPolicy(c), "execution": ExecutionPolicy(c)}
}

// PolicyNames are the names of Policies, sorted.
func PolicyNames() []string { return slices.Sorted(maps.Keys(Policies(Config{}))) }
