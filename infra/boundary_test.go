package infra

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// bounded configurations name a boundary and have every option.
func boundedConfig() Config {
	c := variants()["everything"]
	c.PermissionsBoundary = "cache-boundary"
	return c
}

// TestManagedPoliciesFit: IAM counts the characters of a managed policy without white space.
func TestManagedPoliciesFit(t *testing.T) {
	for name, d := range Policies(boundedConfig()) {
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 6144 {
			t.Errorf("%s has %d characters, IAM takes 6144", name, len(b))
		}
	}
}

// callsOfCloudFormation are, by type of resource, the calls with which CloudFormation
// makes, reads, changes and deletes it; an arn may contain the resource's name as {}.
var callsOfCloudFormation = map[string]struct {
	name, arn string // the property that names it, and the form of its ARN
	calls     string
}{
	"AWS::S3::Bucket": {"BucketName", "arn:aws:s3:::{}",
		"s3:CreateBucket s3:PutBucketVersioning s3:PutEncryptionConfiguration s3:PutBucketPublicAccessBlock s3:PutBucketOwnershipControls s3:PutLifecycleConfiguration " +
			"s3:PutBucketLogging s3:PutBucketCORS s3:PutMetricsConfiguration s3:PutBucketNotification s3:PutBucketTagging s3:GetBucketVersioning s3:GetEncryptionConfiguration " +
			"s3:PutInventoryConfiguration s3:PutReplicationConfiguration s3:PutBucketObjectLockConfiguration s3:ListBucket"},
	"AWS::S3::BucketPolicy":                   {"", "arn:aws:s3:::slurm-factory-spack-buildcache-4b670", "s3:PutBucketPolicy s3:GetBucketPolicy s3:DeleteBucketPolicy"},
	"AWS::CloudFront::Distribution":           {"", "arn:aws:cloudfront::123456789012:distribution/E1", "cloudfront:CreateDistribution cloudfront:UpdateDistribution cloudfront:DeleteDistribution cloudfront:GetDistribution cloudfront:TagResource"},
	"AWS::CloudFront::MonitoringSubscription": {"", "arn:aws:cloudfront::123456789012:distribution/E1", "cloudfront:CreateMonitoringSubscription cloudfront:DeleteMonitoringSubscription"},
	"AWS::CloudFront::OriginAccessControl":    {"", "arn:aws:cloudfront::123456789012:origin-access-control/E1", "cloudfront:CreateOriginAccessControl cloudfront:UpdateOriginAccessControl cloudfront:DeleteOriginAccessControl"},
	"AWS::CloudFront::CachePolicy":            {"", "arn:aws:cloudfront::123456789012:cache-policy/1", "cloudfront:CreateCachePolicy cloudfront:UpdateCachePolicy cloudfront:DeleteCachePolicy"},
	"AWS::CloudFront::ResponseHeadersPolicy":  {"", "arn:aws:cloudfront::123456789012:response-headers-policy/1", "cloudfront:CreateResponseHeadersPolicy cloudfront:UpdateResponseHeadersPolicy"},
	"AWS::CertificateManager::Certificate":    {"", "arn:aws:acm:us-east-1:123456789012:certificate/1", "acm:RequestCertificate acm:DescribeCertificate acm:DeleteCertificate acm:AddTagsToCertificate"},
	"AWS::Route53::RecordSet":                 {"", "arn:aws:route53:::hostedzone/" + testZone, "route53:ChangeResourceRecordSets route53:ListResourceRecordSets route53:GetHostedZone"},
	"AWS::Logs::DeliverySource":               {"Name", "arn:aws:logs:us-east-1:123456789012:delivery-source:{}", "logs:PutDeliverySource logs:GetDeliverySource logs:DeleteDeliverySource logs:TagResource"},
	"AWS::Logs::DeliveryDestination":          {"Name", "arn:aws:logs:us-east-1:123456789012:delivery-destination:{}", "logs:PutDeliveryDestination logs:GetDeliveryDestination logs:DeleteDeliveryDestination"},
	"AWS::Logs::Delivery":                     {"", "arn:aws:logs:us-east-1:123456789012:delivery:1", "logs:CreateDelivery logs:GetDelivery logs:DeleteDelivery"},
	"AWS::CloudTrail::Trail":                  {"TrailName", "arn:aws:cloudtrail:us-east-1:123456789012:trail/{}", "cloudtrail:CreateTrail cloudtrail:PutEventSelectors cloudtrail:StartLogging cloudtrail:GetTrail cloudtrail:DeleteTrail cloudtrail:AddTags"},
	"AWS::CloudWatch::Alarm":                  {"AlarmName", "arn:aws:cloudwatch:us-east-1:123456789012:alarm:{}", "cloudwatch:PutMetricAlarm cloudwatch:DeleteAlarms cloudwatch:DescribeAlarms"},
	"AWS::CloudWatch::Dashboard":              {"DashboardName", "arn:aws:cloudwatch::123456789012:dashboard/{}", "cloudwatch:PutDashboard cloudwatch:GetDashboard cloudwatch:DeleteDashboards"},
	"AWS::SNS::Topic":                         {"", "arn:aws:sns:us-east-1:123456789012:SlurmFactoryInfraStack-AlarmTopic-1", "sns:CreateTopic sns:DeleteTopic sns:SetTopicAttributes sns:TagResource"},
	"AWS::SNS::TopicPolicy":                   {"", "arn:aws:sns:us-east-1:123456789012:SlurmFactoryInfraStack-AlarmTopic-1", "sns:SetTopicAttributes"},
	"AWS::SNS::Subscription":                  {"", "arn:aws:sns:us-east-1:123456789012:SlurmFactoryInfraStack-AlarmTopic-1", "sns:Subscribe sns:Unsubscribe"},
	"AWS::SQS::Queue":                         {"", "arn:aws:sqs:us-east-1:123456789012:SlurmFactoryInfraStack-indexer", "sqs:CreateQueue sqs:GetQueueAttributes sqs:SetQueueAttributes sqs:DeleteQueue sqs:TagQueue"},
	"AWS::SQS::QueuePolicy":                   {"", "arn:aws:sqs:us-east-1:123456789012:SlurmFactoryInfraStack-indexer", "sqs:SetQueueAttributes"},
	"AWS::Budgets::Budget":                    {"", "arn:aws:budgets::123456789012:budget/SlurmFactoryInfraStack-monthly", "budgets:ModifyBudget budgets:ViewBudget"},
	"AWS::Athena::WorkGroup":                  {"Name", "arn:aws:athena:us-east-1:123456789012:workgroup/{}", "athena:CreateWorkGroup athena:GetWorkGroup athena:UpdateWorkGroup athena:DeleteWorkGroup athena:TagResource"},
	"AWS::Athena::NamedQuery":                 {"WorkGroup", "arn:aws:athena:us-east-1:123456789012:workgroup/{}", "athena:CreateNamedQuery athena:GetNamedQuery athena:DeleteNamedQuery"},
	"AWS::Glue::Database":                     {"", "arn:aws:glue:us-east-1:123456789012:database/slurmfactoryinfrastack", "glue:CreateDatabase glue:GetDatabase glue:UpdateDatabase glue:DeleteDatabase"},
	"AWS::Glue::Table":                        {"", "arn:aws:glue:us-east-1:123456789012:table/slurmfactoryinfrastack/cdn_requests", "glue:CreateTable glue:GetTable glue:UpdateTable glue:DeleteTable"},
	"AWS::CE::AnomalyMonitor":                 {"", "*", "ce:CreateAnomalyMonitor ce:GetAnomalyMonitors ce:UpdateAnomalyMonitor ce:DeleteAnomalyMonitor"},
	"AWS::CE::AnomalySubscription":            {"", "*", "ce:CreateAnomalySubscription ce:GetAnomalySubscriptions ce:UpdateAnomalySubscription ce:DeleteAnomalySubscription"},
	"AWS::KMS::Key":                           {"", testKey, "kms:CreateKey kms:DescribeKey kms:GetKeyPolicy kms:PutKeyPolicy kms:UpdateKeyDescription kms:TagResource kms:UntagResource kms:ListResourceTags kms:GetKeyRotationStatus"},
	"AWS::KMS::Alias":                         {"AliasName", "arn:aws:kms:us-east-1:123456789012:{}", "kms:CreateAlias kms:UpdateAlias kms:DeleteAlias"},
	"AWS::IAM::OIDCProvider":                  {"", testProvider, "iam:CreateOpenIDConnectProvider iam:GetOpenIDConnectProvider iam:DeleteOpenIDConnectProvider iam:TagOpenIDConnectProvider"},
	"AWS::IAM::Role":                          {"RoleName", "arn:aws:iam::123456789012:role/{}", "iam:CreateRole iam:PutRolePolicy iam:GetRole iam:UpdateAssumeRolePolicy iam:DeleteRolePolicy iam:DeleteRole iam:TagRole iam:PutRolePermissionsBoundary iam:UpdateRole iam:UpdateRoleDescription"},
	"AWS::IAM::User":                          {"UserName", "arn:aws:iam::123456789012:user/{}", "iam:CreateUser iam:GetUser iam:TagUser iam:PutUserPermissionsBoundary"},
	"AWS::IAM::Policy":                        {"", "arn:aws:iam::123456789012:user/james", "iam:PutUserPolicy iam:DeleteUserPolicy iam:GetUserPolicy"},
	"AWS::IAM::InstanceProfile":               {"InstanceProfileName", "arn:aws:iam::123456789012:instance-profile/{}", "iam:CreateInstanceProfile iam:AddRoleToInstanceProfile iam:DeleteInstanceProfile"},
}

// TestExecutionPolicyMakesTheStack asks the policy about the calls for every resource
// of the stack with every option.
func TestExecutionPolicyMakesTheStack(t *testing.T) {
	c := boundedConfig()
	d := ExecutionPolicy(c)
	keys := map[string]string{"iam:PermissionsBoundary": "arn:aws:iam::123456789012:policy/cache-boundary", "iam:PassedToService": "ec2.amazonaws.com",
		"aws:RequestTag/project": "slurm-factory-spack-buildcache", "aws:ResourceTag/project": "slurm-factory-spack-buildcache", "kms:KeyUsage": "SIGN_VERIFY"}
	for id, r := range parsed(t, "everything").Resources {
		made, ok := callsOfCloudFormation[r.Type]
		if !ok {
			t.Errorf("%s %s: add the calls with which CloudFormation makes it", r.Type, id)
			continue
		}
		arn := made.arn
		if made.name != "" {
			name, _ := r.Properties[made.name].(string)
			if name == "" {
				t.Errorf("%s %s has no fixed %s, by which the policy could be narrow", r.Type, id, made.name)
			}
			arn = strings.ReplaceAll(arn, "{}", name)
		}
		for _, call := range strings.Fields(made.calls) {
			decide(t, id, d, policy.Request{Action: call, Resource: arn, Keys: keys}, true)
		}
	}
	decide(t, "pass", d, policy.Request{Action: "iam:PassRole", Resource: "arn:aws:iam::123456789012:role/slurm-factory-indexer", Keys: keys}, true)
	decide(t, "template", d, policy.Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::cdk-hnb659fds-assets-123456789012-us-east-1/x.json"}, true)
}

// TestExecutionPolicyReachesNothingElse: who takes over CloudFormation's role can
// neither touch a package nor leave the stack.
func TestExecutionPolicyReachesNothingElse(t *testing.T) {
	bucket := "arn:aws:s3:::slurm-factory-spack-buildcache-4b670"
	with := map[string]string{"iam:PermissionsBoundary": "arn:aws:iam::123456789012:policy/cache-boundary"}
	other := map[string]string{"iam:PermissionsBoundary": "arn:aws:iam::123456789012:policy/anything"}
	role := "arn:aws:iam::123456789012:role/slurm-factory-github-actions"
	key := func(project, usage string) map[string]string {
		return map[string]string{"aws:ResourceTag/project": project, "kms:KeyUsage": usage}
	}
	for _, row := range []struct {
		name, action, resource string
		keys                   map[string]string
	}{
		{"read a package", "s3:GetObject", bucket + "/v3/layout.json", nil},
		{"write a package", "s3:PutObject", bucket + "/v3/layout.json", nil},
		{"delete a package", "s3:DeleteObject", bucket + "/v3/layout.json", nil},
		{"destroy a version", "s3:DeleteObjectVersion", bucket + "/v3/layout.json", nil},
		{"delete the bucket, which is retained", "s3:DeleteBucket", bucket, nil},
		{"another bucket", "s3:PutBucketPolicy", "arn:aws:s3:::payroll", nil},
		{"a role of another name", "iam:CreateRole", "arn:aws:iam::123456789012:role/admin", with},
		{"a role without the boundary", "iam:CreateRole", role, nil},
		{"a role with another boundary", "iam:CreateRole", role, other},
		{"rights for a role without the boundary", "iam:PutRolePolicy", role, nil},
		{"another boundary for a role", "iam:PutRolePermissionsBoundary", role, other},
		{"taking the boundary away", "iam:DeleteRolePermissionsBoundary", role, with},
		{"taking a user's boundary away", "iam:DeleteUserPermissionsBoundary", "arn:aws:iam::123456789012:user/james", with},
		{"AWS's own policies for a role", "iam:AttachRolePolicy", role, with},
		{"an access key", "iam:CreateAccessKey", "arn:aws:iam::123456789012:user/james", with},
		{"a password", "iam:CreateLoginProfile", "arn:aws:iam::123456789012:user/james", with},
		{"assuming a role", "sts:AssumeRole", role, nil},
		{"passing a publisher's role", "iam:PassRole", role, map[string]string{"iam:PassedToService": "ec2.amazonaws.com"}},
		{"passing a role to Lambda", "iam:PassRole", role, map[string]string{"iam:PassedToService": "lambda.amazonaws.com"}},
		{"another stack's queue", "sqs:DeleteQueue", "arn:aws:sqs:us-east-1:123456789012:orders", nil},
		{"messages of the stack's queue", "sqs:ReceiveMessage", "arn:aws:sqs:us-east-1:123456789012:SlurmFactoryInfraStack-indexer", nil},
		{"a signature", "kms:Sign", testKey, key(projectValue, "SIGN_VERIFY")},
		{"the end of the key, which is retained", "kms:ScheduleKeyDeletion", testKey, key(projectValue, "SIGN_VERIFY")},
		{"another app's signing key", "kms:PutKeyPolicy", testKey, key("payroll", "SIGN_VERIFY")},
		{"a key that encrypts", "kms:PutKeyPolicy", testKey, key(projectValue, "ENCRYPT_DECRYPT")},
		{"another key's alias", "kms:UpdateAlias", "arn:aws:kms:us-east-1:123456789012:alias/payroll", nil},
		{"a key without the stack's tag", "kms:CreateKey", "*", nil},
		{"another zone", "route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z1", nil},
		{"another trail", "cloudtrail:StopLogging", "arn:aws:cloudtrail:us-east-1:123456789012:trail/organisation", nil},
		{"a machine", "ec2:RunInstances", "*", nil},
		{"a function", "lambda:CreateFunction", "*", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			decide(t, row.name, ExecutionPolicy(boundedConfig()), policy.Request{Action: row.action, Resource: row.resource, Keys: row.keys}, false)
		})
	}
}

// TestBoundaryAllowsWhatTheRolesNeed: a right is what both the role's policy and its
// boundary allow.
func TestBoundaryAllowsWhatTheRolesNeed(t *testing.T) {
	c := boundedConfig()
	bucket, distribution, queue := "arn:aws:s3:::"+c.Bucket(), distributionArn, "arn:aws:sqs:us-east-1:123456789012:SlurmFactoryInfraStack-indexer"
	documents := map[string]policy.Document{
		"manual user": policy.ManualUserPermissions(bucket, distribution), "indexer": IndexerPermissions(bucket, distribution, queue),
	}
	documents[c.DeployRole()], documents[c.DiffRole()] = DeployPermissions(c, testAccount), DiffPermissions(c, testAccount)
	documents["signer"] = SigningPermissions(testKey)
	documents["replication"] = ReplicationPermissions(bucket, "arn:aws:s3:::"+c.ReplicaBucket())
	for _, p := range c.Publishers {
		documents[p.Role] = p.Permissions(bucket, distribution)
	}
	d := BoundaryPolicy(c)
	for who, granted := range documents {
		for _, st := range granted.Statement {
			for _, action := range st.Action {
				for _, resource := range st.Resource {
					if st.Effect == policy.Allow {
						decide(t, who, d, policy.Request{Action: action, Resource: resource}, true)
					}
				}
			}
		}
	}
	for _, row := range [][2]string{
		{"s3:GetObject", "arn:aws:s3:::payroll/x"}, {"s3:DeleteObject", "arn:aws:s3:::" + c.LogBucket() + "/s3/x"}, {"iam:CreateUser", jamesArn},
		{"cloudfront:UpdateDistribution", distribution}, {"sqs:SendMessage", queue}, {"sts:AssumeRole", "arn:aws:iam::123456789012:role/admin"},
		{"kms:Decrypt", testKey},
	} {
		decide(t, "boundary", d, policy.Request{Action: row[0], Resource: row[1]}, false)
	}
}

// TestEveryIdentityHasTheBoundary, whichever options add roles and users.
func TestEveryIdentityHasTheBoundary(t *testing.T) {
	tpl := parsed(t, "bounded")
	identities := append(tpl.OfType("AWS::IAM::Role"), tpl.OfType("AWS::IAM::User")...)
	if len(identities) < 4 {
		t.Fatalf("identities %v", identities)
	}
	for _, id := range identities {
		boundary, err := json.Marshal(tpl.Resources[id].Properties["PermissionsBoundary"])
		if err != nil || !strings.Contains(string(boundary), ":policy/cache-boundary") {
			t.Errorf("%s: boundary %s %v", id, boundary, err)
		}
	}
	for _, id := range parsed(t, "everything").OfType("AWS::IAM::Role") {
		if b := parsed(t, "everything").Resources[id].Properties["PermissionsBoundary"]; b != nil {
			t.Errorf("%s has the boundary %v, and none was named", id, b)
		}
	}
}
