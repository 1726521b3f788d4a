package preflight

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/budgets"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// anotherStack is what to do when a second deployment meets the first.
const anotherStack = "for a second deployment in the account: --name-prefix staging"

// bucket looks at a bucket, which is adopted when it is ours, free and in our region.
func (s Site) bucket(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "BucketName")
	what := "bucket " + name
	_, err := s.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	if code(err) == "NotFound" || code(err) == "NoSuchBucket" {
		return nil, nil
	}
	ours, err := s.ownBucket(ctx, name)
	if err != nil {
		return nil, err
	}
	if !ours {
		return []Conflict{{what, "belongs to another account", "choose another name: --suffix or --bucket-name"}}, nil
	}
	var found []Conflict
	location, err := s.s3.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &name})
	if err != nil {
		return nil, err
	}
	region := string(location.LocationConstraint)
	if region == "" {
		region = "us-east-1" // which S3 does not name
	}
	if region != s.Region {
		found = append(found, Conflict{what, "is in " + region + ", and the stack is in " + s.Region, "choose another name: --suffix or --bucket-name, and copy its objects"})
	}
	if stack := s.owner(ctx, name); stack != "" && stack != s.Stack {
		found = append(found, Conflict{what, "belongs to stack " + stack, anotherStack})
	}
	_, err = s.s3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &name})
	there, err := exists(err, "NoSuchBucketPolicy")
	if there {
		found = append(found, Conflict{what, "has a policy already, which the stack's own cannot replace",
			"save it (aws s3api get-bucket-policy --bucket " + name + "), then aws s3api delete-bucket-policy --bucket " + name})
	}
	return found, err
}

func (s Site) ownBucket(ctx context.Context, name string) (bool, error) {
	pages := s3.NewListBucketsPaginator(s.s3, &s3.ListBucketsInput{Prefix: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return false, err
		}
		for _, b := range page.Buckets {
			if aws.ToString(b.Name) == name {
				return true, nil
			}
		}
	}
	return false, nil
}

func (s Site) role(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "RoleName")
	if name == "" {
		return nil, nil
	}
	_, err := s.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	there, err := exists(err, "NoSuchEntity")
	return taken(there, err, "role "+name, "give another name (--role-name, or role= of a --publisher), or delete it; "+anotherStack)
}

// user looks at a user, who is adopted unless another stack has made the user.
func (s Site) user(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "UserName")
	_, err := s.iam.GetUser(ctx, &iam.GetUserInput{UserName: &name})
	if there, err := exists(err, "NoSuchEntity"); !there {
		return nil, err
	}
	if stack := s.owner(ctx, name); stack != "" && stack != s.Stack {
		return []Conflict{{"user " + name, "belongs to stack " + stack, "give another: --manual-user"}}, nil
	}
	return nil, nil
}

func (s Site) instanceProfile(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "InstanceProfileName")
	_, err := s.iam.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &name})
	there, err := exists(err, "NoSuchEntity")
	return taken(there, err, "instance profile "+name, "delete it, or leave ec2 out of --indexer-trust; "+anotherStack)
}

func (s Site) provider(ctx context.Context, r template.Resource) ([]Conflict, error) {
	host := strings.TrimPrefix(text(r, "Url"), "https://")
	arn := "arn:aws:iam::" + s.Account + ":oidc-provider/" + host
	_, err := s.iam.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	there, err := exists(err, "NoSuchEntity")
	if err != nil || !there {
		return nil, err
	}
	return []Conflict{{"OIDC provider " + host, "exists already, and an account can have only one", "add --oidc-provider-arn " + arn}}, nil
}

// distribution looks whether another distribution of the account answers to our names.
func (s Site) distribution(ctx context.Context, r template.Resource) ([]Conflict, error) {
	config, _ := r.Properties["DistributionConfig"].(map[string]any)
	list, _ := config["Aliases"].([]any)
	var names []string
	for _, e := range list {
		if name, ok := e.(string); ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	var found []Conflict
	pages := cloudfront.NewListDistributionsPaginator(s.cloudFront, &cloudfront.ListDistributionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return found, err
		}
		for _, d := range page.DistributionList.Items {
			if d.Aliases == nil {
				continue
			}
			for _, name := range names {
				id := aws.ToString(d.Id)
				if slices.Contains(d.Aliases.Items, name) && s.owner(ctx, id) != s.Stack {
					found = append(found, Conflict{"domain " + name, "belongs to distribution " + id, "take it out there first, or give another --domain"})
				}
			}
		}
	}
	return found, nil
}

func (s Site) originAccess(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "OriginAccessControlConfig", "Name")
	out, err := s.cloudFront.ListOriginAccessControls(ctx, &cloudfront.ListOriginAccessControlsInput{})
	if err != nil {
		return nil, err
	}
	there := false
	for _, o := range out.OriginAccessControlList.Items {
		there = there || aws.ToString(o.Name) == name
	}
	return taken(there, nil, "origin access control "+name, "delete it: aws cloudfront delete-origin-access-control; or give another --stack-name")
}

func (s Site) cachePolicy(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "CachePolicyConfig", "Name")
	out, err := s.cloudFront.ListCachePolicies(ctx, &cloudfront.ListCachePoliciesInput{Type: "custom"})
	if err != nil {
		return nil, err
	}
	there := false
	for _, p := range out.CachePolicyList.Items {
		there = there || aws.ToString(p.CachePolicy.CachePolicyConfig.Name) == name
	}
	return taken(there, nil, "cache policy "+name, "delete it: aws cloudfront delete-cache-policy; "+anotherStack)
}

func (s Site) headersPolicy(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "ResponseHeadersPolicyConfig", "Name")
	out, err := s.cloudFront.ListResponseHeadersPolicies(ctx, &cloudfront.ListResponseHeadersPoliciesInput{Type: "custom"})
	if err != nil {
		return nil, err
	}
	there := false
	for _, p := range out.ResponseHeadersPolicyList.Items {
		there = there || aws.ToString(p.ResponseHeadersPolicy.ResponseHeadersPolicyConfig.Name) == name
	}
	return taken(there, nil, "response headers policy "+name, "delete it: aws cloudfront delete-response-headers-policy; "+anotherStack)
}

// record looks for a record of the name, whatever its type: an alias cannot stand beside
// a CNAME either.
func (s Site) record(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name, zone := text(r, "Name"), text(r, "HostedZoneId")
	out, err := s.route53.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &zone, StartRecordName: &name})
	if err != nil {
		return nil, err
	}
	for _, set := range out.ResourceRecordSets {
		if aws.ToString(set.Name) != name {
			break // they are sorted
		}
		if kind := set.Type; kind == r53types.RRTypeCname || string(kind) == text(r, "Type") {
			return []Conflict{{string(kind) + " record " + strings.TrimSuffix(name, ".") + " in zone " + zone, "exists already",
				"delete it right before deploying, or give another --domain"}}, nil
		}
	}
	return nil, nil
}

func (s Site) alarm(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "AlarmName")
	out, err := s.cloudWatch.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{name}})
	if err != nil {
		return nil, err
	}
	return taken(len(out.MetricAlarms) > 0, nil, "alarm "+name, "delete it: aws cloudwatch delete-alarms --alarm-names "+name+"; or give another --stack-name")
}

func (s Site) dashboard(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "DashboardName")
	_, err := s.cloudWatch.GetDashboard(ctx, &cloudwatch.GetDashboardInput{DashboardName: &name})
	there, err := exists(err, "ResourceNotFound", "ResourceNotFoundException", "DashboardNotFoundError")
	return taken(there, err, "dashboard "+name, "delete it: aws cloudwatch delete-dashboards --dashboard-names "+name+"; or give another --stack-name")
}

func (s Site) deliverySource(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "Name")
	_, err := s.logs.GetDeliverySource(ctx, &cloudwatchlogs.GetDeliverySourceInput{Name: &name})
	there, err := exists(err, "ResourceNotFoundException")
	return taken(there, err, "log delivery source "+name, "delete it: aws logs delete-delivery-source --name "+name+"; or give another --stack-name")
}

func (s Site) deliveryDestination(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "Name")
	_, err := s.logs.GetDeliveryDestination(ctx, &cloudwatchlogs.GetDeliveryDestinationInput{Name: &name})
	there, err := exists(err, "ResourceNotFoundException")
	return taken(there, err, "log delivery destination "+name, "delete it: aws logs delete-delivery-destination --name "+name+"; or give another --stack-name")
}

func (s Site) queue(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "QueueName")
	if name == "" {
		return nil, nil
	}
	_, err := s.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	there, err := exists(err, "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
	return taken(there, err, "queue "+name, "delete it once it is empty, or give another --stack-name")
}

func (s Site) trail(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "TrailName")
	if name == "" {
		return nil, nil
	}
	_, err := s.cloudTrail.GetTrail(ctx, &cloudtrail.GetTrailInput{Name: &name})
	there, err := exists(err, "TrailNotFoundException")
	return taken(there, err, "trail "+name, "delete it: aws cloudtrail delete-trail --name "+name+"; or give another --stack-name")
}

func (s Site) budget(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "Budget", "BudgetName")
	_, err := s.budgets.DescribeBudget(ctx, &budgets.DescribeBudgetInput{AccountId: &s.Account, BudgetName: &name})
	there, err := exists(err, "NotFoundException")
	return taken(there, err, "budget "+name, "delete it: aws budgets delete-budget --account-id "+s.Account+" --budget-name "+name+"; or give another --stack-name")
}
