// Package preflight finds, before anything is made, the names that a deployment would take
// and that are taken. CloudFormation finds them one at a time, minutes into a deployment
// that it then takes back.
//
// It reads and never changes anything. What it may not read is reported as unseen: a
// deployment by narrow credentials continues, and CloudFormation has the last word.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// A Conflict is a name that is taken, or a thing that cannot be adopted as it is.
type Conflict struct {
	What, Why, Fix string
}

// A Site is where the deployment goes.
type Site struct {
	Account, Region, Stack string
	// Prefix is the --name-prefix of the deployment: no fix is to give it once more.
	Prefix string

	resource       string // the logical id of what is looked at
	config         aws.Config
	cloudFormation *cloudformation.Client
	s3             *s3.Client
	iam            *iam.Client
	cloudFront     *cloudfront.Client
	route53        *route53.Client
	cloudWatch     *cloudwatch.Client
	logs           *cloudwatchlogs.Client
	sqs            *sqs.Client
}

// NewSite opens the account that cfg has credentials of.
func NewSite(cfg aws.Config, account, region, stack string) Site {
	return Site{
		Account: account, Region: region, Stack: stack,
		config:         cfg,
		cloudFormation: cloudformation.NewFromConfig(cfg),
		s3:             s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil }),
		iam:            iam.NewFromConfig(cfg),
		cloudFront:     cloudfront.NewFromConfig(cfg),
		route53:        route53.NewFromConfig(cfg),
		cloudWatch:     cloudwatch.NewFromConfig(cfg),
		logs:           cloudwatchlogs.NewFromConfig(cfg),
		sqs:            sqs.NewFromConfig(cfg),
	}
}

// A Report is what was found, and what could not be seen.
type Report struct {
	Conflicts []Conflict
	Unseen    []string
}

// A check says what names a resource of one type, and how to see whether that is taken.
type check struct {
	// names are the properties that together are the resource's name, as dotted paths. A
	// resource that has none of them gets its name from CloudFormation.
	names []string
	look  func(Site, context.Context, template.Resource) ([]Conflict, error)
}

// checks are the types of resources that have names of their own.
var checks = map[string]check{
	"AWS::Athena::WorkGroup":                 {[]string{"Name"}, Site.workGroup},
	"AWS::Budgets::Budget":                   {[]string{"Budget.BudgetName"}, Site.budget},
	"AWS::CE::AnomalyMonitor":                {[]string{"MonitorName"}, Site.costMonitor},
	"AWS::CE::AnomalySubscription":           {[]string{"SubscriptionName"}, Site.costWarning},
	"AWS::CloudFront::CachePolicy":           {[]string{"CachePolicyConfig.Name"}, Site.cachePolicy},
	"AWS::CloudFront::Distribution":          {[]string{"DistributionConfig.Aliases"}, Site.distribution},
	"AWS::CloudFront::OriginAccessControl":   {[]string{"OriginAccessControlConfig.Name"}, Site.originAccess},
	"AWS::CloudFront::ResponseHeadersPolicy": {[]string{"ResponseHeadersPolicyConfig.Name"}, Site.headersPolicy},
	"AWS::CloudTrail::Trail":                 {[]string{"TrailName"}, Site.trail},
	"AWS::CloudWatch::Alarm":                 {[]string{"AlarmName"}, Site.alarm},
	"AWS::CloudWatch::Dashboard":             {[]string{"DashboardName"}, Site.dashboard},
	"AWS::Glue::Database":                    {[]string{"DatabaseInput.Name"}, Site.database},
	"AWS::Glue::Table":                       {[]string{"DatabaseName", "TableInput.Name"}, Site.table},
	"AWS::IAM::InstanceProfile":              {[]string{"InstanceProfileName"}, Site.instanceProfile},
	"AWS::IAM::OIDCProvider":                 {[]string{"Url"}, Site.provider},
	"AWS::IAM::Role":                         {[]string{"RoleName"}, Site.role},
	"AWS::IAM::User":                         {[]string{"UserName"}, Site.user},
	"AWS::KMS::Alias":                        {[]string{"AliasName"}, Site.keyAlias},
	"AWS::Logs::DeliveryDestination":         {[]string{"Name"}, Site.deliveryDestination},
	"AWS::Logs::DeliverySource":              {[]string{"Name"}, Site.deliverySource},
	"AWS::Route53::RecordSet":                {[]string{"HostedZoneId", "Name", "Type"}, Site.record},
	"AWS::S3::Bucket":                        {[]string{"BucketName"}, Site.bucket},
	"AWS::SQS::Queue":                        {[]string{"QueueName"}, Site.queue},
}

// nameless are the other types of the stack, each with why nothing can be in its way.
var nameless = map[string]string{
	"AWS::Athena::NamedQuery":                 "known by an id: Athena takes two of one name, and the workgroup is looked for",
	"AWS::CertificateManager::Certificate":    "known by an id: ACM takes two for one domain",
	"AWS::CloudFront::MonitoringSubscription": "a part of the distribution",
	"AWS::IAM::Policy":                        "a part of a user or role: CloudFormation adds or replaces it",
	"AWS::KMS::Key":                           "known by an id",
	"AWS::Logs::Delivery":                     "joins a source and a destination, which are looked for",
	"AWS::S3::BucketPolicy":                   "a part of the bucket, whose check looks for a policy",
	"AWS::SNS::Subscription":                  "a part of the topic",
	"AWS::SNS::Topic":                         "has a name that CloudFormation makes up",
	"AWS::SNS::TopicPolicy":                   "a part of the topic",
	"AWS::SQS::QueuePolicy":                   "a part of the queue",
}

// Check looks at every resource of next that the deployed template lacks or calls
// otherwise. The empty template stands for a stack that is not there yet.
func (s Site) Check(ctx context.Context, deployed, next template.Template) Report {
	var r Report
	for _, id := range next.IDs() {
		resource := next.Resources[id]
		c, ok := checks[resource.Type]
		if !ok || c.sameName(deployed.Resources[id], resource) {
			continue
		}
		switch known, named := c.named(resource); {
		case !named:
			continue
		case !known:
			r.Unseen = append(r.Unseen, id+": its name is known only once it is deployed")
			continue
		}
		at := s
		at.resource = id
		found, err := c.look(at, ctx, resource)
		if err != nil {
			r.Unseen = append(r.Unseen, fmt.Sprintf("%s: %v", id, err))
		}
		for _, f := range found {
			// Two records of one name are one conflict.
			if !slices.Contains(r.Conflicts, f) {
				r.Conflicts = append(r.Conflicts, f)
			}
		}
	}
	return r
}

// sameName says whether the deployed resource bears the same name, so that an update does
// not make a new one.
func (c check) sameName(old, now template.Resource) bool {
	if old.Type != now.Type {
		return false
	}
	for _, path := range c.names {
		if fmt.Sprint(property(old, path)) != fmt.Sprint(property(now, path)) {
			return false
		}
	}
	return true
}

// named says whether the resource has a name, and whether the template spells it out.
func (c check) named(r template.Resource) (known, named bool) {
	known = true
	for _, path := range c.names {
		switch v := property(r, path).(type) {
		case nil:
			continue
		case string:
		case []any:
			known = known && !slices.ContainsFunc(v, func(e any) bool { _, ok := e.(string); return !ok })
		default:
			known = false
		}
		named = true
	}
	return known, named
}

// property is the value at a dotted path, nil when there is none.
func property(r template.Resource, path string) any {
	var v any = r.Properties
	for key := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

// text is a property that is a plain string, empty otherwise.
func text(r template.Resource, path string) string {
	s, _ := property(r, path).(string)
	return s
}

// code is the error code of AWS, empty for another error.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// exists turns the answer of a look-up into whether the thing is there.
func exists(err error, missing ...string) (bool, error) {
	if err == nil {
		return true, nil
	}
	if slices.Contains(missing, code(err)) {
		return false, nil
	}
	return false, err
}

// anotherStack is what to do when a second deployment meets the first.
func (s Site) anotherStack() string {
	if s.Prefix != "" {
		return "for one more deployment in the account: another --name-prefix than " + s.Prefix
	}
	return "for a second deployment in the account: --name-prefix staging"
}

// renamed is the other way out where the name follows from that of the stack.
const renamed = "; or give another --stack-name"

// taken is the conflict of a name that exists and cannot be adopted.
func taken(there bool, err error, what, fix string) ([]Conflict, error) {
	if err != nil || !there {
		return nil, err
	}
	return []Conflict{{What: what, Why: "exists already", Fix: fix}}, nil
}

// owner is the name of the stack that a thing belongs to, empty when it belongs to none.
// That CloudFormation does not say is an error, and not an answer.
func (s Site) owner(ctx context.Context, physicalID string) (string, error) {
	out, err := s.cloudFormation.DescribeStackResources(ctx, &cloudformation.DescribeStackResourcesInput{PhysicalResourceId: &physicalID})
	if code(err) == "ValidationError" && strings.Contains(err.Error(), "does not exist") {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("which stack has %s: %w", physicalID, err)
	}
	for _, r := range out.StackResources {
		if aws.ToString(r.PhysicalResourceId) == physicalID && r.ResourceStatus != "DELETE_SKIPPED" && r.ResourceStatus != "DELETE_COMPLETE" {
			return aws.ToString(r.StackName), nil
		}
	}
	return "", nil
}

// ofAnother is the conflict of a thing that could be adopted if it were no other stack's.
func (s Site) ofAnother(ctx context.Context, physicalID, what, fix string) ([]Conflict, error) {
	stack, err := s.owner(ctx, physicalID)
	if err != nil || stack == "" || stack == s.Stack {
		return nil, err
	}
	return []Conflict{{what, "belongs to stack " + stack, fix}}, nil
}
