package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
)

// TestDoctorFindsEveryFault breaks one thing after the other in a healthy account.
func TestDoctorFindsEveryFault(t *testing.T) {
	p := newPatient(t)
	ctx := context.Background()
	d := &p.doctor
	bucket := aws.String(d.Stack.Outputs["BucketName"])
	queue, dead := aws.String(d.Stack.Outputs["IndexerQueueUrl"]), aws.String(d.Stack.Outputs["IndexerDeadLetterQueueUrl"])
	if all := d.Examine(ctx); !mentions(all, "certificate: the certificate for "+domain+" waits for validation") {
		t.Errorf("a certificate that was just asked for is not found waiting:\n%s", text(all))
	}
	p.validated(t)
	if all := d.Examine(ctx); doctor.Failed(all) {
		t.Fatalf("a healthy account is found ill:\n%s", text(all))
	}
	if all := d.Examine(ctx); !mentions(all, "it has no MFA device") || !mentions(all, "role slurm-factory-slurm: it knows vantagecompute/slurm-factory by name only") {
		t.Errorf("neither the lack of an MFA device nor that of the repository's numbers is found:\n%s", text(all))
	}
	if err := enableMFA(ctx, d, "james"); err != nil {
		t.Fatal(err)
	}
	if all := d.Examine(ctx); mentions(all, "it has no MFA device") {
		t.Errorf("the MFA device is not found:\n%s", text(all))
	}

	role, james := aws.String("slurm-factory-github-actions"), aws.String("james")
	key := d.Stack.Outputs["SigningKeyArn"]
	replica := aws.String(*bucket + "-replica")
	alarm, logs := "SlurmFactoryInfraStack-high-error-rate", aws.String(d.Stack.Outputs["LogBucketName"])
	certificate, err := d.ACM.ListCertificates(ctx, &acm.ListCertificatesInput{})
	if err != nil || len(certificate.CertificateSummaryList) != 1 {
		t.Fatal(err)
	}
	ends := *certificate.CertificateSummaryList[0].NotAfter
	for _, fault := range []struct {
		name      string
		breaks    func() error
		detail    string // what the finding must say
		fix       string // what its fix must say
		onlyWarns bool
	}{
		{"stack was taken back", func() error { d.Stack.Status = "UPDATE_ROLLBACK_COMPLETE"; return nil }, "the last deployment was taken back", "describe-stack-events", true},
		{"first deployment failed", func() error { d.Stack.Status = "ROLLBACK_COMPLETE"; return nil }, "its first deployment failed", "infra destroy --force", false},
		{"rollback failed", func() error { d.Stack.Status = "UPDATE_ROLLBACK_FAILED"; return nil }, "could not go back", "continue-update-rollback", false},
		{"deletion failed", func() error { d.Stack.Status = "DELETE_FAILED"; return nil }, "DELETE_FAILED", "infra destroy --allow removal:SlurmFactoryInfraStack", false},
		{"update runs", func() error { d.Stack.Status = "UPDATE_IN_PROGRESS"; return nil }, "UPDATE_IN_PROGRESS", "cancel-update-stack", true},
		{"bucket is public", func() error { p.bucketSays = http.StatusOK; return nil }, "answers 200, want 403", "infra deploy", false},
		{"origin access control is gone", func() error { p.originAccess = false; return nil }, "has no origin access control", "infra deploy", false},
		{"origin access is refused", func() error { p.edgeSays = http.StatusForbidden; return nil }, "answers 403, want 404", "must let the distribution read and list", false},
		{"edge fails", func() error { p.edgeSays = http.StatusBadGateway; return nil }, "answers 502, want 404", "get-distribution", false},
		{"name does not resolve", func() error { p.resolves = false; return nil }, domain + " does not resolve", "48 hours", false},
		{"certificate ends soon", func() error { d.Now = func() time.Time { return ends.AddDate(0, 0, -10) }; return nil }, "ends on", "ACM renews by itself", true},
		{"certificate has ended", func() error { d.Now = func() time.Time { return ends.AddDate(0, 0, 1) }; return nil }, "ended on", "ACM renews by itself", false},
		{"environment is not there", func() error { p.environment = ""; return nil }, "has no such environment", "create and protect it", false},
		{"environment is not protected", func() error { p.environment = "{}"; return nil }, "everybody who can push a branch to vantagecompute/slurm-factory can publish with slurm-factory-github-actions", "restrict its deployment branches", false},
		{"environment needs nobody's approval", func() error { p.environment = `{"deployment_branch_policy": {}}`; return nil }, "can delete packages with slurm-factory-maintain, and needs nobody's approval", "add required reviewers", true},
		{"anybody may deploy", func() error { p.environment = `{"deployment_branch_policy": {}}`; return nil }, "a job in it can deploy the stack with slurm-factory-infra-deploy", "add required reviewers", true},
		{"environment takes any branch", func() error {
			p.environment = `{"protection_rules": [{"type": "required_reviewers", "reviewers": [{}]}]}`
			return nil
		}, "any branch of vantagecompute/slurm-factory may run a job in it", "restrict its deployment branches", true},
		{"GitHub does not answer", func() error { p.environment = "no JSON"; return nil }, "could not be examined: GitHub's answer", "try again", false},
		{"gh is not there", func() error { d.GitHub = nil; return nil }, "gh is not installed", "gh auth login", true},
		{"nobody has confirmed", func() error { p.unconfirmed = true; return nil }, "ops@example.com has not confirmed", "aws sns subscribe", true},
		{"what may not be read", func() error { p.forbidden = "?encryption"; return nil }, "could not be examined: get encryption of", "ReadOnlyAccess", false},
		{"versioning is suspended", func() error {
			_, err := d.S3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: bucket,
				VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusSuspended}})
			return err
		}, "is not versioned", "infra deploy", false},
		{"public access block is gone", func() error {
			_, err := d.S3.DeletePublicAccessBlock(ctx, &s3.DeletePublicAccessBlockInput{Bucket: bucket})
			return err
		}, "does not block public access", "infra deploy", false},
		{"lifecycle is gone", func() error {
			_, err := d.S3.DeleteBucketLifecycle(ctx, &s3.DeleteBucketLifecycleInput{Bucket: bucket})
			return err
		}, "uploads that were never finished", "infra deploy", false},
		{"encryption is gone", func() error {
			_, err := d.S3.DeleteBucketEncryption(ctx, &s3.DeleteBucketEncryptionInput{Bucket: bucket})
			return err
		}, "has no default encryption", "infra deploy", false},
		{"encryption by a key", func() error {
			_, err := d.S3.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: bucket, ServerSideEncryptionConfiguration: &s3types.ServerSideEncryptionConfiguration{
				Rules: []s3types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &s3types.ServerSideEncryptionByDefault{SSEAlgorithm: s3types.ServerSideEncryptionAwsKms}}}}})
			return err
		}, "encrypts with aws:kms", "infra deploy", false},
		{"log is off", func() error {
			_, err := d.S3.PutBucketLogging(ctx, &s3.PutBucketLoggingInput{Bucket: bucket, BucketLoggingStatus: &s3types.BucketLoggingStatus{}})
			return err
		}, "does not log its requests", "infra deploy", false},
		{"objects have owners", func() error {
			_, err := d.S3.DeleteBucketOwnershipControls(ctx, &s3.DeleteBucketOwnershipControlsInput{Bucket: bucket})
			return err
		}, "ACLs and owners of their own", "infra deploy", false},
		{"bucket's policy is widened", func() error {
			_, err := d.S3.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: bucket, Policy: aws.String(
				`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "` + "arn:aws:s3:::" + *bucket + `/*"}]}`)})
			return err
		}, "the policy of s3://" + *bucket + " was changed: not the stack's", "infra deploy", false},
		{"bucket's policy is gone", func() error {
			_, err := d.S3.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: bucket})
			return err
		}, "s3://" + *bucket + " has no policy", "infra deploy", false},
		{"logs are not versioned", func() error {
			_, err := d.S3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: logs,
				VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusSuspended}})
			return err
		}, "a log that is deleted is gone", "infra deploy", false},
		{"records are not locked", func() error {
			_, err := d.S3.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{Bucket: aws.String(d.Stack.Outputs["AuditBucketName"]),
				ObjectLockConfiguration: &s3types.ObjectLockConfiguration{ObjectLockEnabled: s3types.ObjectLockEnabledEnabled}})
			return err
		}, "does not lock new records", "infra deploy", false},
		{"replication is off", func() error {
			_, err := d.S3.DeleteBucketReplication(ctx, &s3.DeleteBucketReplicationInput{Bucket: bucket})
			return err
		}, "is not copied to s3://" + *bucket + "-replica", "infra deploy", false},
		{"copy is open to the public", func() error {
			_, err := d.S3.DeletePublicAccessBlock(ctx, &s3.DeletePublicAccessBlockInput{Bucket: replica})
			return err
		}, "replica bucket: s3://" + *replica + " does not block public access", "infra deploy --revert-drift", false},
		{"policy of the copy is gone", func() error {
			_, err := d.S3.DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: replica})
			return err
		}, "replica bucket: s3://" + *replica + " has no policy", "infra deploy --revert-drift", false},
		{"stack of the copy is gone", func() error {
			p.replicaSays = &smithy.GenericAPIError{Code: "ValidationError", Message: "Stack with id SlurmFactoryInfraStack-replica does not exist"}
			return nil
		}, "replica bucket: the stack in the second region does not exist", "infra deploy", false},
		{"copy may not be seen", func() error {
			p.replicaSays = &smithy.GenericAPIError{Code: "AccessDenied", Message: "no"}
			return nil
		}, "replica bucket: could not be examined", "ReadOnlyAccess", false},
		{"alarm is off", func() error {
			return putAlarm(ctx, d, alarm, false)
		}, "alarm " + alarm + " is switched off", "enable-alarm-actions", false},
		{"alarm is raised", func() error {
			_, err := d.CloudWatch.SetAlarmState(ctx, &cloudwatch.SetAlarmStateInput{AlarmName: &alarm, StateValue: cwtypes.StateValueAlarm, StateReason: aws.String("too many errors")})
			return err
		}, "is raised: too many errors", "infra-monitoring.md#alarms", true},
		{"alarm tells nobody", func() error {
			return putAlarm(ctx, d, alarm, true)
		}, "alarm " + alarm + " does not tell arn:aws:sns:", "infra deploy", false},
		{"alarm is gone", func() error {
			_, err := d.CloudWatch.DeleteAlarms(ctx, &cloudwatch.DeleteAlarmsInput{AlarmNames: []string{alarm}})
			return err
		}, "alarm " + alarm + " does not exist", "infra deploy --revert-drift", false},
		{"nobody is subscribed", func() error {
			all, err := d.SNS.ListSubscriptions(ctx, &sns.ListSubscriptionsInput{})
			if err != nil {
				return err
			}
			for _, s := range all.Subscriptions {
				if _, err := d.SNS.Unsubscribe(ctx, &sns.UnsubscribeInput{SubscriptionArn: s.SubscriptionArn}); err != nil {
					return err
				}
			}
			return nil
		}, "the alarms reach nobody", "aws sns subscribe", false},
		{"log delivery is gone", func() error {
			_, err := d.Logs.DeleteDelivery(ctx, &cloudwatchlogs.DeleteDeliveryInput{Id: aws.String(d.Stack.World.Ref["AccessLogDelivery"])})
			return err
		}, "requests of readers are not logged", "infra deploy --revert-drift", false},
		{"key of the user is old", func() error {
			if _, err := d.IAM.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: james}); err != nil {
				return err
			}
			d.Now = func() time.Time { return time.Now().AddDate(0, 0, 100) }
			return nil
		}, "is 100 days old", "delete-access-key --user-name james --access-key-id ", true},
		{"user has another policy", func() error {
			_, err := d.IAM.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: james, PolicyName: aws.String("extra"), PolicyDocument: aws.String(
				`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`)})
			return err
		}, "it has the policy extra", "delete-user-policy", true},
		{"user may delete without MFA", func() error {
			_, err := d.IAM.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: james, PolicyName: aws.String("buildcache-full-access"), PolicyDocument: aws.String(
				`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}`)})
			return err
		}, "its policy buildcache-full-access was changed: ", "put-user-policy", false},
		{"user has no policy", func() error {
			_, err := d.IAM.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: james, PolicyName: aws.String("buildcache-full-access")})
			return err
		}, "its policy buildcache-full-access is missing", "put-user-policy", false},
		{"old TLS is let in", func() error {
			return reconfigure(ctx, d, func(c *cftypes.DistributionConfig) {
				c.ViewerCertificate.MinimumProtocolVersion = cftypes.MinimumProtocolVersionTLSv12016
			})
		}, "readers may use TLSv1_2016, the stack says TLSv1.2_2021", "infra deploy", false},
		{"readers are answered without TLS", func() error {
			return reconfigure(ctx, d, func(c *cftypes.DistributionConfig) {
				c.DefaultCacheBehavior.ViewerProtocolPolicy = cftypes.ViewerProtocolPolicyAllowAll
			})
		}, "answered without TLS", "infra deploy", false},
		{"record is gone", func() error { return deleteRecords(ctx, d) }, "has no AAAA record", "change-resource-record-sets", false},
		{"provider is gone", func() error {
			_, err := d.IAM.DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(providerArn)})
			return err
		}, "no workflow can sign in", "create-open-id-connect-provider", false},
		{"provider takes another audience", func() error {
			if _, err := d.IAM.DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(providerArn)}); err != nil {
				return err
			}
			_, err := d.IAM.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: aws.String("https://token.actions.githubusercontent.com"),
				ClientIDList: []string{"https://github.com/vantagecompute"}, ThumbprintList: []string{strings.Repeat("0", 40)}})
			return err
		}, "does not accept the audience", "add-client-id", false},
		{"policy is attached by hand", func() error {
			_, err := d.IAM.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: role, PolicyArn: attachable(ctx, d)})
			return err
		}, "is attached to it, which the stack does not know", "detach-role-policy", false},
		{"policy is added by hand", func() error {
			_, err := d.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: role, PolicyName: aws.String("extra"), PolicyDocument: aws.String(
				`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "*"}]}`)})
			return err
		}, "it has the policy extra", "delete-role-policy", false},
		{"permissions are widened", func() error {
			_, err := d.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: role, PolicyName: aws.String("publish"), PolicyDocument: aws.String(
				`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}`)})
			return err
		}, "its policy publish was changed: not the stack's", "infra deploy", false},
		{"permissions are written in words unknown here", func() error {
			_, err := d.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: role, PolicyName: aws.String("publish"), PolicyDocument: aws.String(
				`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::x"}]}`)})
			return err
		}, "its policy publish was changed by hand: ", "infra deploy", false},
		{"permissions are gone", func() error {
			_, err := d.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: role, PolicyName: aws.String("publish")})
			return err
		}, "its policy publish is missing", "infra deploy", false},
		{"trust is opened to the world", func() error {
			_, err := d.IAM.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: role, PolicyDocument: aws.String(
				`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Federated": "` + providerArn + `"},
				"Action": "sts:AssumeRoleWithWebIdentity", "Condition": {"StringLike": {"token.actions.githubusercontent.com:sub": "repo:vantagecompute/*"}}}]}`)})
			return err
		}, "its trust policy was changed: not the stack's", "infra deploy", false},
		{"role has lost its boundary", func() error {
			_, err := d.IAM.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: role})
			return err
		}, "role " + *role + ": it does not have the permissions boundary " + boundaryArn, "infra deploy", false},
		{"user has lost its boundary", func() error { p.userBounded = false; return nil }, "user james: it does not have the permissions boundary " + boundaryArn, "infra deploy", false},
		{"signing key is disabled", func() error { return onKey(ctx, d, "DisableKey", nil) }, "signing key: " + key + " is in the state Disabled", "`aws kms enable-key --key-id " + key[len(key)-36:] + "`", false},
		{"signing key is to be deleted", func() error {
			return onKey(ctx, d, "ScheduleKeyDeletion", map[string]any{"PendingWindowInDays": 7})
		}, "is in the state PendingDeletion", "cancel-key-deletion", false},
		{"others may sign", func() error {
			return onKey(ctx, d, "PutKeyPolicy", map[string]any{"PolicyName": "default", "Policy": `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}]}`})
		}, "signing key: its policy was changed, so that others may sign", "infra deploy", false},
		{"alias leads to another key", func() error { return misleadAlias(ctx, d) }, "signatures of another key are refused", "infra deploy", false},
		{"alias of the signing key is gone", func() error {
			return awsjson.Call(ctx, d.AWS, "kms", "TrentService.DeleteAlias", map[string]any{"AliasName": signingAlias}, nil)
		}, signingAlias + " does not exist", "infra deploy --revert-drift", false},
		{"nobody may sign", func() error {
			_, err := d.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: role, PolicyName: aws.String("sign")})
			return err
		}, "its policy sign is missing", "infra deploy", false},
		{"role knows a name only", func() error { return p.forgetNumbers("slurm-factory-infra-deploy") },
			"role slurm-factory-infra-deploy: it knows vantagecompute/slurm-factory-publish by name only", "gh api repos/vantagecompute/slurm-factory-publish --jq '.owner.id, .id'", true},
		{"role is gone", func() error { return deleteRole(ctx, d, "slurm-factory-slurm") }, "it does not exist", "infra deploy --revert-drift", false},
		{"distribution is disabled", func() error { return disable(ctx, d) }, "is disabled", "infra deploy", false},
		{"a message is dead", func() error {
			_, err := d.SQS.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: dead, MessageBody: aws.String("hello")})
			return err
		}, "there are 1: packages or keys that are in no index", "start-message-move-task --source-arn arn:aws:sqs:us-east-1:" + account + ":dead", true},
		{"queue keeps messages for a day", func() error { return setQueue(ctx, d, queue, "MessageRetentionPeriod", "86400") }, `MessageRetentionPeriod is "86400", the stack says 1209600`, "infra deploy", true},
		{"queue answers at once", func() error { return setQueue(ctx, d, queue, "ReceiveMessageWaitTimeSeconds", "0") }, `ReceiveMessageWaitTimeSeconds is "0", the stack says 20`, "infra deploy", true},
		{"queue hands nothing on", func() error { return setQueue(ctx, d, queue, "RedrivePolicy", "") }, "messages that no host can do do not go to arn:aws:sqs:us-east-1:" + account + ":dead", "infra deploy", false},
		{"queue lets anybody in", func() error {
			return setQueue(ctx, d, queue, "Policy", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sqs:SendMessage", "Resource": "*"}]}`)
		}, "its policy was changed: not the stack's", "set-queue-attributes", false},
		{"queue lets nobody in", func() error { return setQueue(ctx, d, queue, "Policy", "") }, "the bucket may not tell it", "set-queue-attributes", false},
		{"bucket tells half", func() error {
			have, err := d.S3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: bucket})
			if err != nil {
				return err
			}
			_, err = d.S3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{Bucket: bucket,
				NotificationConfiguration: &s3types.NotificationConfiguration{QueueConfigurations: have.QueueConfigurations[1:]}})
			return err
		}, "does not tell the queue of names that end in .manifest.json: ", "infra deploy", false},
		{"bucket tells nothing", func() error {
			_, err := d.S3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{Bucket: bucket, NotificationConfiguration: &s3types.NotificationConfiguration{}})
			return err
		}, "names that end in .manifest.json, .spec.json, ", "infra deploy", false},
		{"dead-letter queue is gone", func() error {
			_, err := d.SQS.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: dead})
			return err
		}, "what no host can do is lost", "infra deploy --revert-drift", false},
		{"queue is gone", func() error {
			_, err := d.SQS.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: queue})
			return err
		}, "indexers are told nothing", "infra deploy --revert-drift", false},
		{"bucket is gone", func() error {
			d.Stack.Outputs["BucketName"] = "no-such-bucket"
			return nil
		}, "s3://no-such-bucket does not exist", "infra deploy", false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			status, whole, now, said, edge, resolves, access := d.Stack.Status, d.Stack.Template, d.Now, p.bucketSays, p.edgeSays, p.resolves, p.originAccess
			api := d.GitHub
			if err := fault.breaks(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				d.Stack.Status, d.Stack.Template, d.Now, p.bucketSays, p.edgeSays, p.resolves, p.originAccess = status, whole, now, said, edge, resolves, access
				d.GitHub, p.environment, p.forbidden = api, protected, ""
				p.unconfirmed, p.userBounded, p.replicaSays = false, true, nil
			}()
			all := d.Examine(ctx)
			for _, f := range all {
				if !strings.Contains(f.Check+": "+f.Detail, fault.detail) {
					continue
				}
				if !strings.Contains(f.Fix, fault.fix) {
					t.Errorf("fix %q does not mention %q", f.Fix, fault.fix)
				}
				if (f.Severity == doctor.Warn) != fault.onlyWarns || f.Severity == doctor.OK {
					t.Errorf("severity %s", f.Severity)
				}
				p.mends(t, fault.name, f)
				return
			}
			t.Errorf("nothing says %q:\n%s", fault.detail, text(all))
		})
	}
}

// TestDoctorContinuesAfterWhatItMayNotRead: one right that lacks hides nothing else.
func TestDoctorContinuesAfterWhatItMayNotRead(t *testing.T) {
	p := newPatient(t)
	ctx := context.Background()
	d := &p.doctor
	p.validated(t)
	d.GitHub = nil
	bucket := aws.String(d.Stack.Outputs["BucketName"])
	if _, err := d.S3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: bucket,
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusSuspended}}); err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{"?publicAccessBlock", "?lifecycle", "?encryption", "?ownershipControls", "?policy", "?logging", "?notification"} {
		t.Run(request, func(t *testing.T) {
			p.forbidden = request
			defer func() { p.forbidden = "" }()
			all := d.Examine(ctx)
			for _, want := range []string{"could not be examined", "is not versioned", "alarm e-mail: ops@example.com receives the alarms", "role slurm-factory-slurm"} {
				if !mentions(all, want) {
					t.Errorf("nothing says %q:\n%s", want, text(all))
				}
			}
		})
	}
}

// TestDoctorReadsTheStack: what the doctor compares with comes from CloudFormation.
func TestDoctorReadsTheStack(t *testing.T) {
	needMachine(t)
	if r := infra(t, machine.moto, "doctor"); r.code != 1 || !strings.Contains(r.stderr, "there is no stack SlurmFactoryInfraStack") {
		t.Errorf("no stack: %s", r)
	}
	ctx := context.Background()
	cf := cloudformation.NewFromConfig(config(t, machine.moto))
	body := `{"Resources": {
		"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "cache"}},
		"Role": {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "publish", "AssumeRolePolicyDocument": {"Statement": []}}}},
		"Outputs": {"BucketName": {"Value": {"Ref": "Bucket"}}}}`
	if _, err := cf.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("SlurmFactoryInfraStack"), TemplateBody: aws.String(body)}); err != nil {
		t.Fatal(err)
	}
	s, err := doctor.Read(ctx, cf, "SlurmFactoryInfraStack")
	if err != nil {
		t.Fatal(err)
	}
	if s.Status != "CREATE_COMPLETE" || s.World.Account != account || s.World.Region != "us-east-1" || s.Outputs["BucketName"] != "cache" ||
		s.World.Ref["Role"] != "publish" || s.World.Attr["Role"]["Arn"] != "arn:aws:iam::"+account+":role/publish" ||
		s.World.Attr["Bucket"]["Arn"] != "arn:aws:s3:::cache" || s.Template.Resources["Role"].Type != "AWS::IAM::Role" {
		t.Errorf("%+v", s)
	}
}
