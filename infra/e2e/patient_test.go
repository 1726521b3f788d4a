package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
	"github.com/vantagecompute/slurm-factory-publish/infra/github"
)

// A patient is a deployed account and the world outside that moto does not play: the
// edge, the resolver and the clock.
type patient struct {
	cfg    aws.Config
	doctor doctor.Doctor

	bucketSays, edgeSays int // what strangers get
	resolves             bool
	originAccess         bool // the distribution's origin has its access control
	environment          string
	forbidden            string // part of an S3 request that is denied
	unconfirmed          bool   // the subscription waits for its receiver
	userBounded          bool   // the manual user has its permissions boundary

	replica     *doctor.Stack // in the second region; nil: there is none
	replicaSays error         // that CloudFormation gives there
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	cfg, stack, replica, _ := deployRegions(t)
	p := newPatientOf(t, cfg, stack)
	p.replica = &replica
	p.doctor.Replica = func(context.Context) (doctor.Stack, *s3.Client, error) { return *p.replica, p.doctor.S3, p.replicaSays }
	return p
}

// newPatientOf is a patient with another stack than the full one.
func newPatientOf(t *testing.T, cfg aws.Config, stack doctor.Stack) *patient {
	t.Helper()
	p := &patient{cfg: cfg, bucketSays: http.StatusForbidden, edgeSays: http.StatusNotFound, resolves: true, originAccess: true, environment: protected, userBounded: true}
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
		S3:         s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle, o.HTTPClient = true, denying{p} }),
		CloudFront: cloudfront.NewFromConfig(cfg, func(o *cloudfront.Options) { o.HTTPClient = p }),
		ACM:        acm.NewFromConfig(cfg),
		Route53:    route53.NewFromConfig(cfg),
		IAM:        iam.NewFromConfig(cfg, func(o *iam.Options) { o.HTTPClient = bounding{p} }),
		SQS:        sqs.NewFromConfig(cfg),
		SNS:        sns.NewFromConfig(cfg, func(o *sns.Options) { o.HTTPClient = unconfirmed{p} }),
		CloudWatch: cloudwatch.NewFromConfig(cfg),
		Logs:       cloudwatchlogs.NewFromConfig(cfg),
		AWS:        cfg,
		GitHub: func(context.Context, string) ([]byte, error) {
			if p.environment == "" {
				return nil, github.ErrNotFound
			}
			return []byte(p.environment), nil
		},
		HTTP: &http.Client{Transport: toServer{outside.URL}},
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

// protected is what GitHub says of an environment with reviewers and a rule for branches.
const protected = `{"protection_rules": [{"type": "required_reviewers", "reviewers": [{}]}], "deployment_branch_policy": {"protected_branches": true}}`

// denying answers for S3 where the examiner lacks a right, and else asks moto.
type denying struct{ *patient }

func (d denying) Do(r *http.Request) (*http.Response, error) {
	if d.forbidden == "" || !strings.Contains(r.URL.RequestURI(), d.forbidden) {
		return http.DefaultClient.Do(r)
	}
	return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/xml"}}, Request: r,
		Body: io.NopCloser(strings.NewReader("<Error><Code>AccessDenied</Code><Message>no</Message></Error>"))}, nil
}

// unconfirmed asks moto, which confirms every subscription, and takes that back.
type unconfirmed struct{ *patient }

func (u unconfirmed) Do(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultClient.Do(r)
	if err != nil || !u.patient.unconfirmed {
		return res, err
	}
	return rewritten(res, func(body []byte) []byte {
		return regexp.MustCompile("<SubscriptionArn>[^<]*").ReplaceAll(body, []byte("<SubscriptionArn>PendingConfirmation"))
	})
}

// bounding asks moto, and adds to its answer the permissions boundary of the user, for which
// moto has no API.
type bounding struct{ *patient }

func (b bounding) Do(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultClient.Do(r)
	if err != nil || !b.userBounded {
		return res, err
	}
	return rewritten(res, func(body []byte) []byte {
		return bytes.ReplaceAll(body, []byte("</User>"), []byte("<PermissionsBoundary><PermissionsBoundaryArn>"+boundaryArn+"</PermissionsBoundaryArn></PermissionsBoundary></User>"))
	})
}

// rewritten is the response with another body.
func rewritten(res *http.Response, rewrite func([]byte) []byte) (*http.Response, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	body = rewrite(body)
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
	return res, nil
}

// Do asks moto's CloudFront, and adds to its answer the origin access control, which
// moto takes and forgets.
func (p *patient) Do(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	return rewritten(res, func(body []byte) []byte {
		if !p.originAccess {
			return body
		}
		return bytes.ReplaceAll(body, []byte("</Origin>"), []byte("<OriginAccessControlId>E1</OriginAccessControlId></Origin>"))
	})
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

const (
	boundaryArn = "arn:aws:iam::" + account + ":policy/cache-boundary"
	providerArn = "arn:aws:iam::" + account + ":oidc-provider/token.actions.githubusercontent.com"
)

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

func enableMFA(ctx context.Context, d *doctor.Doctor, user string) error {
	device, err := d.IAM.CreateVirtualMFADevice(ctx, &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: &user})
	if err != nil {
		return err
	}
	_, err = d.IAM.EnableMFADevice(ctx, &iam.EnableMFADeviceInput{UserName: &user, SerialNumber: device.VirtualMFADevice.SerialNumber,
		AuthenticationCode1: aws.String("123456"), AuthenticationCode2: aws.String("654321")})
	return err
}

// putAlarm replaces an alarm by one that has no actions.
func putAlarm(ctx context.Context, d *doctor.Doctor, name string, enabled bool) error {
	_, err := d.CloudWatch.PutMetricAlarm(ctx, &cloudwatch.PutMetricAlarmInput{AlarmName: &name, ActionsEnabled: &enabled,
		ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold, EvaluationPeriods: aws.Int32(1), MetricName: aws.String("5xxErrorRate"),
		Namespace: aws.String("AWS/CloudFront"), Period: aws.Int32(60), Threshold: aws.Float64(5), Statistic: cwtypes.StatisticAverage})
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

// forgetNumbers makes the stack one whose role trusts a repository by its name only.
func (p *patient) forgetNumbers(role string) error {
	stack := &p.doctor.Stack
	stack.Template.Resources = maps.Clone(stack.Template.Resources)
	for id, r := range stack.Template.Resources {
		if stack.World.Ref[id] != role {
			continue
		}
		b, err := json.Marshal(r.Properties)
		if err != nil {
			return err
		}
		b = regexp.MustCompile(`,"[^"]*:repository(_owner)?_id":"[^"]*"`).ReplaceAll(b, nil)
		r.Properties = nil
		if err := json.Unmarshal(b, &r.Properties); err != nil {
			return err
		}
		stack.Template.Resources[id] = r
	}
	return nil
}

func disable(ctx context.Context, d *doctor.Doctor) error {
	return reconfigure(ctx, d, func(c *cftypes.DistributionConfig) { c.Enabled = aws.Bool(false) })
}

// reconfigure changes the distribution by hand.
func reconfigure(ctx context.Context, d *doctor.Doctor, change func(*cftypes.DistributionConfig)) error {
	all, err := d.CloudFront.ListDistributions(ctx, &cloudfront.ListDistributionsInput{})
	if err != nil {
		return err
	}
	id := all.DistributionList.Items[0].Id
	got, err := d.CloudFront.GetDistributionConfig(ctx, &cloudfront.GetDistributionConfigInput{Id: id})
	if err != nil {
		return err
	}
	change(got.DistributionConfig)
	_, err = d.CloudFront.UpdateDistribution(ctx, &cloudfront.UpdateDistributionInput{Id: id, IfMatch: got.ETag, DistributionConfig: got.DistributionConfig})
	return err
}
