package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
)

// A patient is a deployed account and the world outside that moto does not play: the
// edge, the resolver and the clock.
type patient struct {
	cfg    aws.Config
	doctor doctor.Doctor

	bucketSays, edgeSays int // what strangers get
	resolves             bool
	originAccess         bool // the distribution's origin has its access control
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	cfg, stack, _ := deployAll(t)
	p := &patient{cfg: cfg, bucketSays: http.StatusForbidden, edgeSays: http.StatusNotFound, resolves: true, originAccess: true}
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/bucket/") {
			w.WriteHeader(p.bucketSays)
			return
		}
		w.WriteHeader(p.edgeSays)
	}))
	t.Cleanup(outside.Close)
	p.doctor = doctor.Doctor{
		Stack:      stack,
		S3:         s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		CloudFront: cloudfront.NewFromConfig(cfg, func(o *cloudfront.Options) { o.HTTPClient = p }),
		ACM:        acm.NewFromConfig(cfg),
		Route53:    route53.NewFromConfig(cfg),
		IAM:        iam.NewFromConfig(cfg),
		SQS:        sqs.NewFromConfig(cfg),
		HTTP:       &http.Client{Transport: toServer{outside.URL}},
		Lookup: func(context.Context, string) ([]string, error) {
			if !p.resolves {
				return nil, errors.New("no such host")
			}
			return []string{"192.0.2.1"}, nil
		},
		BucketURL: func(string) string { return outside.URL + "/bucket/" },
		Now:       time.Now,
	}
	return p
}

// Do asks moto's CloudFront, and adds to its answer the origin access control, which
// moto takes and forgets.
func (p *patient) Do(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if p.originAccess {
		body = bytes.ReplaceAll(body, []byte("</Origin>"), []byte("<OriginAccessControlId>E1</OriginAccessControlId></Origin>"))
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
	return res, nil
}

// toServer sends every request to one server, whatever host it names.
type toServer struct{ url string }

func (s toServer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(s.url, "http://")
	return http.DefaultTransport.RoundTrip(r)
}

// validated lets the certificate be issued and the distribution be deployed.
func (p *patient) validated(t *testing.T) {
	t.Helper()
	// moto issues a certificate, and deploys a distribution, when it is asked again.
	deadline := time.Now().Add(90 * time.Second)
	for time.Now().Before(deadline) {
		if !mentions(p.doctor.Examine(context.Background()), "waits for validation") {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatal("moto never issued the certificate")
}

func mentions(all []doctor.Finding, text string) bool {
	for _, f := range all {
		if strings.Contains(f.Check+": "+f.Detail, text) {
			return true
		}
	}
	return false
}

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

	role := aws.String("slurm-factory-github-actions")
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
		{"deletion failed", func() error { d.Stack.Status = "DELETE_FAILED"; return nil }, "DELETE_FAILED", "names what resisted", false},
		{"update runs", func() error { d.Stack.Status = "UPDATE_IN_PROGRESS"; return nil }, "UPDATE_IN_PROGRESS", "cancel-update-stack", true},
		{"bucket is public", func() error { p.bucketSays = http.StatusOK; return nil }, "answers 200, want 403", "infra deploy", false},
		{"origin access control is gone", func() error { p.originAccess = false; return nil }, "has no origin access control", "infra deploy", false},
		{"origin access is refused", func() error { p.edgeSays = http.StatusForbidden; return nil }, "answers 403, want 404", "must let the distribution read and list", false},
		{"edge fails", func() error { p.edgeSays = http.StatusBadGateway; return nil }, "answers 502, want 404", "get-distribution", false},
		{"name does not resolve", func() error { p.resolves = false; return nil }, domain + " does not resolve", "48 hours", false},
		{"certificate ends", func() error { d.Now = func() time.Time { return time.Now().AddDate(20, 0, 0) }; return nil }, "ends on", "ACM renews by itself", true},
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
		{"record is gone", func() error { return deleteRecords(ctx, d) }, "has no AAAA record", "infra deploy", false},
		{"provider is gone", func() error {
			_, err := d.IAM.DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(providerArn)})
			return err
		}, "no workflow can sign in", "create-open-id-connect-provider", false},
		{"provider takes another audience", func() error {
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
		{"role is gone", func() error { return deleteRole(ctx, d, "slurm-factory-slurm") }, "it does not exist", "not made again by an update", false},
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
		}, "its policy was changed: not the stack's", "infra deploy", false},
		{"queue lets nobody in", func() error { return setQueue(ctx, d, queue, "Policy", "") }, "the bucket may not tell it", "infra deploy", false},
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
		}, "what no host can do is lost", "without --indexer-queue, then with it", false},
		{"queue is gone", func() error {
			_, err := d.SQS.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: queue})
			return err
		}, "indexers are told nothing", "without --indexer-queue, then with it", false},
		{"bucket is gone", func() error {
			d.Stack.Outputs["BucketName"] = "no-such-bucket"
			return nil
		}, "s3://no-such-bucket does not exist", "infra deploy", false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			status, now, said, edge, resolves, access := d.Stack.Status, d.Now, p.bucketSays, p.edgeSays, p.resolves, p.originAccess
			if err := fault.breaks(); err != nil {
				t.Fatal(err)
			}
			all := d.Examine(ctx)
			d.Stack.Status, d.Now, p.bucketSays, p.edgeSays, p.resolves, p.originAccess = status, now, said, edge, resolves, access
			for _, f := range all {
				if !strings.Contains(f.Detail, fault.detail) {
					continue
				}
				if !strings.Contains(f.Fix, fault.fix) {
					t.Errorf("fix %q does not mention %q", f.Fix, fault.fix)
				}
				if (f.Severity == doctor.Warn) != fault.onlyWarns || f.Severity == doctor.OK {
					t.Errorf("severity %s", f.Severity)
				}
				return
			}
			t.Errorf("nothing says %q:\n%s", fault.detail, text(all))
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

const providerArn = "arn:aws:iam::" + account + ":oidc-provider/token.actions.githubusercontent.com"

func text(all []doctor.Finding) string {
	var b strings.Builder
	for _, f := range all {
		b.WriteString(string(f.Severity) + " " + f.Check + ": " + f.Detail + " (" + f.Fix + ")\n")
	}
	return b.String()
}

func attachable(ctx context.Context, d *doctor.Doctor) *string {
	out, err := d.IAM.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("admin"), PolicyDocument: aws.String(
		`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`)})
	if err != nil {
		return nil
	}
	return out.Policy.Arn
}

func deleteRole(ctx context.Context, d *doctor.Doctor, name string) error {
	if _, err := d.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: aws.String("publish")}); err != nil {
		return err
	}
	_, err := d.IAM.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
	return err
}

func setQueue(ctx context.Context, d *doctor.Doctor, queue *string, name, value string) error {
	_, err := d.SQS.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: queue, Attributes: map[string]string{name: value}})
	return err
}

func deleteRecords(ctx context.Context, d *doctor.Doctor) error {
	zones, err := d.Route53.ListHostedZones(ctx, &route53.ListHostedZonesInput{})
	if err != nil {
		return err
	}
	sets, err := d.Route53.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: zones.HostedZones[0].Id})
	if err != nil {
		return err
	}
	for _, s := range sets.ResourceRecordSets {
		if s.Type != r53types.RRTypeAaaa {
			continue
		}
		if _, err := d.Route53.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: zones.HostedZones[0].Id,
			ChangeBatch: &r53types.ChangeBatch{Changes: []r53types.Change{{Action: r53types.ChangeActionDelete, ResourceRecordSet: &s}}}}); err != nil {
			return err
		}
	}
	return nil
}

func disable(ctx context.Context, d *doctor.Doctor) error {
	all, err := d.CloudFront.ListDistributions(ctx, &cloudfront.ListDistributionsInput{})
	if err != nil {
		return err
	}
	id := all.DistributionList.Items[0].Id
	got, err := d.CloudFront.GetDistributionConfig(ctx, &cloudfront.GetDistributionConfigInput{Id: id})
	if err != nil {
		return err
	}
	got.DistributionConfig.Enabled = aws.Bool(false)
	_, err = d.CloudFront.UpdateDistribution(ctx, &cloudfront.UpdateDistributionInput{Id: id, IfMatch: got.ETag, DistributionConfig: got.DistributionConfig})
	return err
}
