package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// A Stack is what CloudFormation says of itself: the template that was deployed and
// the names that its resources got. Everything is compared with this, not with the
// flags of today.
type Stack struct {
	Name, Status string
	Template     template.Template
	World        template.World
	Outputs      map[string]string
}

// CloudFormation is the part of the service that Read needs.
type CloudFormation interface {
	cloudformation.DescribeStacksAPIClient
	cloudformation.ListStackResourcesAPIClient
	GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error)
}

// Read asks CloudFormation for the stack.
func Read(ctx context.Context, cf CloudFormation, name string) (Stack, error) {
	described, err := cf.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(name)})
	if err != nil {
		return Stack{}, fmt.Errorf("describe stack %s: %w", name, err)
	}
	s := fromDescription(described.Stacks[0])
	body, err := cf.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: aws.String(name), TemplateStage: types.TemplateStageOriginal})
	if err != nil {
		return Stack{}, fmt.Errorf("get template of %s: %w", name, err)
	}
	if s.Template, err = template.Parse([]byte(aws.ToString(body.TemplateBody))); err != nil {
		return Stack{}, err
	}
	pages := cloudformation.NewListStackResourcesPaginator(cf, &cloudformation.ListStackResourcesInput{StackName: aws.String(name)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return Stack{}, fmt.Errorf("list resources of %s: %w", name, err)
		}
		for _, r := range page.StackResourceSummaries {
			s.World.Ref[aws.ToString(r.LogicalResourceId)] = aws.ToString(r.PhysicalResourceId)
		}
	}
	s.Derive()
	return s, nil
}

func fromDescription(d types.Stack) Stack {
	s := Stack{Name: aws.ToString(d.StackName), Status: string(d.StackStatus), Outputs: map[string]string{}}
	for _, o := range d.Outputs {
		s.Outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	// arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/ID
	if id := strings.Split(aws.ToString(d.StackId), ":"); len(id) > 4 {
		s.World.Region, s.World.Account = id[3], id[4]
	}
	s.World.StackName = s.Name
	s.World.Ref = map[string]string{}
	return s
}

// Derive fills in the attributes that follow from a resource's name, which are the
// ones that the policies refer to.
func (s *Stack) Derive() {
	if s.World.Attr == nil {
		s.World.Attr = map[string]map[string]string{}
	}
	for id, r := range s.Template.Resources {
		name, ok := s.World.Ref[id]
		if !ok {
			continue
		}
		attr := s.World.Attr[id]
		if attr == nil {
			attr = map[string]string{}
			s.World.Attr[id] = attr
		}
		switch r.Type {
		case "AWS::S3::Bucket":
			attr["Arn"] = "arn:aws:s3:::" + name
			attr["RegionalDomainName"] = name + ".s3." + s.World.Region + ".amazonaws.com"
		case "AWS::IAM::Role":
			attr["Arn"] = "arn:aws:iam::" + s.World.Account + ":role/" + name
		case "AWS::KMS::Key":
			attr["Arn"] = "arn:aws:kms:" + s.World.Region + ":" + s.World.Account + ":key/" + name
		case "AWS::SQS::Queue": // its name is its URL
			attr["Arn"] = arnOf(name, s.World.Region)
			attr["QueueName"] = name[strings.LastIndexByte(name, '/')+1:]
		case "AWS::IAM::OIDCProvider":
			attr["Arn"] = name
		case "AWS::CloudFront::OriginAccessControl":
			attr["Id"] = name
		case "AWS::CloudFront::Distribution":
			if host := s.Outputs["DistributionDomainName"]; host != "" {
				attr["DomainName"] = host
			}
		}
	}
}

// first is the physical id of the only resource of a type, empty when there is none.
func (s Stack) first(kind string) string {
	for _, id := range s.Template.OfType(kind) {
		return s.World.Ref[id]
	}
	return ""
}

// RoleNames are the names of the stack's roles.
func (s Stack) RoleNames() []string {
	var names []string
	for _, id := range s.Template.OfType("AWS::IAM::Role") {
		names = append(names, s.World.Ref[id])
	}
	return names
}

// documentOf reads a policy out of a value of the template.
func (s Stack) documentOf(v any) (policy.Document, error) {
	resolved, err := s.Template.Resolve(v, s.World)
	if err != nil {
		return policy.Document{}, err
	}
	b, err := json.Marshal(resolved)
	if err != nil {
		return policy.Document{}, err
	}
	return policy.Parse(b)
}

// A role is what the stack says of one of its roles.
type role struct {
	name   string
	trust  policy.Document
	inline map[string]policy.Document
	// boundary is the ARN of its permissions boundary, empty without one.
	boundary string
}

// boundaryOf is the ARN of the permissions boundary in the properties of a role or user,
// empty without one.
func (s Stack) boundaryOf(properties map[string]any) (string, error) {
	if properties["PermissionsBoundary"] == nil {
		return "", nil
	}
	return s.Template.ResolveString(properties["PermissionsBoundary"], s.World)
}

// roles reads every role of the stack with its policies.
func (s Stack) roles() ([]role, error) {
	var all []role
	for _, id := range s.Template.OfType("AWS::IAM::Role") {
		p := s.Template.Resources[id].Properties
		r := role{name: s.World.Ref[id], inline: map[string]policy.Document{}}
		var err error
		if r.trust, err = s.documentOf(p["AssumeRolePolicyDocument"]); err != nil {
			return nil, fmt.Errorf("trust policy of %s: %w", r.name, err)
		}
		if r.boundary, err = s.boundaryOf(p); err != nil {
			return nil, fmt.Errorf("permissions boundary of %s: %w", r.name, err)
		}
		inline, _ := p["Policies"].([]any)
		for _, e := range inline {
			named, _ := e.(map[string]any)
			d, err := s.documentOf(named["PolicyDocument"])
			if err != nil {
				return nil, fmt.Errorf("policy of %s: %w", r.name, err)
			}
			r.inline[fmt.Sprint(named["PolicyName"])] = d
		}
		all = append(all, r)
	}
	return all, nil
}
