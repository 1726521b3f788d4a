// Package preflight finds, before anything is made, the names that a deployment would take
// and that are taken. CloudFormation finds them one at a time, minutes into a deployment
// that it then takes back.
//
// It reads and never changes anything. What it may not read is reported as unseen: a
// deployment by narrow credentials goes on, and CloudFormation has the last word.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/budgets"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
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

	cloudFormation *cloudformation.Client
	s3             *s3.Client
	iam            *iam.Client
	cloudFront     *cloudfront.Client
	route53        *route53.Client
	cloudWatch     *cloudwatch.Client
	logs           *cloudwatchlogs.Client
	sqs            *sqs.Client
	cloudTrail     *cloudtrail.Client
	budgets        *budgets.Client
}

// NewSite opens the account that cfg has credentials of.
func NewSite(cfg aws.Config, account, region, stack string) Site {
	return Site{
		Account: account, Region: region, Stack: stack,
		cloudFormation: cloudformation.NewFromConfig(cfg),
		s3:             s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil }),
		iam:            iam.NewFromConfig(cfg),
		cloudFront:     cloudfront.NewFromConfig(cfg),
		route53:        route53.NewFromConfig(cfg),
		cloudWatch:     cloudwatch.NewFromConfig(cfg),
		logs:           cloudwatchlogs.NewFromConfig(cfg),
		sqs:            sqs.NewFromConfig(cfg),
		cloudTrail:     cloudtrail.NewFromConfig(cfg),
		budgets:        budgets.NewFromConfig(cfg),
	}
}

// A Report is what was found, and what could not be seen.
type Report struct {
	Conflicts []Conflict
	Unseen    []string
}

// A check looks whether the name of one resource is taken.
type check func(Site, context.Context, template.Resource) ([]Conflict, error)

// checks are by type of resource. A type that is missing has no name of its own, or one
// that CloudFormation makes up.
var checks = map[string]check{
	"AWS::S3::Bucket":                        Site.bucket,
	"AWS::IAM::Role":                         Site.role,
	"AWS::IAM::User":                         Site.user,
	"AWS::IAM::InstanceProfile":              Site.instanceProfile,
	"AWS::IAM::OIDCProvider":                 Site.provider,
	"AWS::CloudFront::Distribution":          Site.distribution,
	"AWS::CloudFront::OriginAccessControl":   Site.originAccess,
	"AWS::CloudFront::CachePolicy":           Site.cachePolicy,
	"AWS::CloudFront::ResponseHeadersPolicy": Site.headersPolicy,
	"AWS::Route53::RecordSet":                Site.record,
	"AWS::CloudWatch::Alarm":                 Site.alarm,
	"AWS::CloudWatch::Dashboard":             Site.dashboard,
	"AWS::Logs::DeliverySource":              Site.deliverySource,
	"AWS::Logs::DeliveryDestination":         Site.deliveryDestination,
	"AWS::SQS::Queue":                        Site.queue,
	"AWS::CloudTrail::Trail":                 Site.trail,
	"AWS::Budgets::Budget":                   Site.budget,
}

// Check looks at every resource of next that the deployed template lacks or calls
// otherwise. The empty template stands for a stack that is not there yet.
func (s Site) Check(ctx context.Context, deployed, next template.Template) Report {
	var r Report
	for _, id := range next.IDs() {
		resource := next.Resources[id]
		look, ok := checks[resource.Type]
		if !ok || sameName(deployed.Resources[id], resource) {
			continue
		}
		found, err := look(s, ctx, resource)
		if err != nil {
			r.Unseen = append(r.Unseen, fmt.Sprintf("%s: %v", id, err))
		}
		for _, c := range found {
			// Two records of one name are one conflict.
			if !slices.Contains(r.Conflicts, c) {
				r.Conflicts = append(r.Conflicts, c)
			}
		}
	}
	return r
}

// naming are the properties that hold a resource's name.
var naming = []string{"BucketName", "RoleName", "UserName", "InstanceProfileName", "Url", "DistributionConfig", "OriginAccessControlConfig",
	"CachePolicyConfig", "ResponseHeadersPolicyConfig", "Name", "AlarmName", "DashboardName", "QueueName", "TrailName", "Budget"}

// sameName says whether the deployed resource bears the same name, so that an update does
// not make a new one.
func sameName(old, now template.Resource) bool {
	if old.Type != now.Type {
		return false
	}
	for _, p := range naming {
		if nameIn(old.Properties[p]) != nameIn(now.Properties[p]) {
			return false
		}
	}
	return true
}

// nameIn is the name in a property: the value itself, or what identifies it inside.
func nameIn(v any) string {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(v)
	}
	return fmt.Sprint(m["Name"], m["BudgetName"], m["Aliases"])
}

// text is a property that is a plain string, empty otherwise.
func text(r template.Resource, path ...string) string {
	var v any = r.Properties
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	s, _ := v.(string)
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

// taken is the conflict of a name that exists and cannot be adopted.
func taken(there bool, err error, what, fix string) ([]Conflict, error) {
	if err != nil || !there {
		return nil, err
	}
	return []Conflict{{What: what, Why: "exists already", Fix: fix}}, nil
}

// owner is the name of the stack that a thing belongs to, empty when it belongs to none
// or CloudFormation does not say.
func (s Site) owner(ctx context.Context, physicalID string) string {
	out, err := s.cloudFormation.DescribeStackResources(ctx, &cloudformation.DescribeStackResourcesInput{PhysicalResourceId: &physicalID})
	if err != nil {
		return ""
	}
	for _, r := range out.StackResources {
		if aws.ToString(r.PhysicalResourceId) == physicalID && r.ResourceStatus != "DELETE_SKIPPED" && r.ResourceStatus != "DELETE_COMPLETE" {
			return aws.ToString(r.StackName)
		}
	}
	return ""
}
