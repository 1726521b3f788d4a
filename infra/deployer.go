package infra

import (
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// The roles of the workflow that deploys the stack.
const (
	deployRole = "slurm-factory-infra-deploy"
	diffRole   = "slurm-factory-infra-diff"
)

// DeployRole is the name of the role that deploys the stack, DiffRole that of the one
// that compares it for pull requests.
func (c Config) DeployRole() string { return c.Prefixed(deployRole) }

// DiffRole is described at DeployRole.
func (c Config) DiffRole() string { return c.Prefixed(diffRole) }

// newDeployers makes the two roles of the repository whose workflow deploys the stack.
func newDeployers(stack awscdk.Stack, c Config, provider string) {
	if c.Deployer == nil {
		return
	}
	n := names{*stack.Account()}
	for _, r := range []struct {
		id, name, does string
		who            Publisher
		may            policy.Document
	}{
		{"DeployRole", c.DeployRole(), "deploys the stack", *c.Deployer, DeployPermissions(c, n.account)},
		{"DiffRole", c.DiffRole(), "compares the stack for pull requests", c.Deployer.pulls(), DiffPermissions(c, n.account)},
	} {
		conditions := asJSON(r.who.Trust(provider).Statement[0].Condition).(map[string]any)
		role := awsiam.NewRole(stack, jsii.String("Infra"+r.id), &awsiam.RoleProps{
			RoleName:       jsii.String(r.name),
			Description:    jsii.String(fmt.Sprintf("%s/%s: %s", c.Deployer.Owner, c.Deployer.Repo, r.does)),
			AssumedBy:      awsiam.NewWebIdentityPrincipal(jsii.String(provider), &conditions),
			InlinePolicies: &map[string]awsiam.PolicyDocument{"infra": document(r.may)},
		})
		awscdk.NewCfnOutput(stack, jsii.String("Infra"+r.id+"Arn"), &awscdk.CfnOutputProps{
			Value: role.RoleArn(), Description: jsii.String("role-to-assume of the workflow that " + r.does),
		})
	}
}

// pulls is the same repository, trusted for its pull requests.
func (p Publisher) pulls() Publisher {
	p.Environment, p.Ref, p.Workflow, p.PullRequests = "", "", "", true
	return p
}

// DiffPermissions is what `infra diff` reads. It shows the template, not the cache: a pull
// request can run any code with it.
func DiffPermissions(c Config, account string) policy.Document {
	n := names{account}
	statements := []policy.Statement{
		{Sid: "ReadStack", Effect: policy.Allow, Resource: n.stacks(c),
			Action: policy.Strings{"cloudformation:DescribeStacks", "cloudformation:GetTemplate"}},
	}
	if c.HostedZoneID != "" {
		statements = append(statements, policy.Statement{Sid: "NameZone", Effect: policy.Allow, Action: policy.Strings{"route53:GetHostedZone"},
			Resource: policy.Strings{n.zone(c)}})
	}
	return policy.New(statements...)
}

// DeployPermissions is what `infra deploy` needs: to look before it deploys, to keep the
// stack's policy, and to hand over to the roles that `cdk bootstrap` has made. What the
// deployment itself may do is the execution policy's matter.
func DeployPermissions(c Config, account string) policy.Document {
	n := names{account}
	var bootstrapped policy.Strings
	for _, region := range c.regions() {
		for _, kind := range []string{"deploy-role", "file-publishing-role", "lookup-role"} {
			bootstrapped = append(bootstrapped, n.global("iam", "role/cdk-"+qualifier+"-"+kind+"-"+account+"-"+region))
		}
	}
	d := DiffPermissions(c, account)
	d.Statement = append(d.Statement,
		policy.Statement{Sid: "KeepStackPolicy", Effect: policy.Allow, Resource: policy.Strings{n.stack(c)},
			Action: policy.Strings{"cloudformation:GetStackPolicy", "cloudformation:SetStackPolicy"}},
		policy.Statement{Sid: "HandOver", Effect: policy.Allow, Action: policy.Strings{"sts:AssumeRole"}, Resource: bootstrapped},
		// Before a first deployment: is a name taken?
		policy.Statement{Sid: "LookForNames", Effect: policy.Allow, Resource: policy.Strings{"*"}, Action: policy.Strings{
			"athena:ListWorkGroups", "budgets:ViewBudget", "ce:GetAnomalyMonitors", "ce:GetAnomalySubscriptions", "cloudformation:DescribeStackResources",
			"cloudfront:ListDistributions", "cloudfront:ListCachePolicies", "cloudfront:ListOriginAccessControls", "cloudfront:ListResponseHeadersPolicies",
			"cloudtrail:GetTrail", "cloudwatch:DescribeAlarms", "cloudwatch:GetDashboard", "glue:GetDatabase", "glue:GetTable",
			"logs:GetDeliverySource", "logs:GetDeliveryDestination",
			"iam:GetInstanceProfile", "iam:GetOpenIDConnectProvider", "iam:GetRole", "iam:GetUser", "kms:DescribeKey", "s3:ListAllMyBuckets", "sqs:GetQueueUrl"}},
		policy.Statement{Sid: "LookAtBuckets", Effect: policy.Allow, Resource: n.buckets(c, ""),
			Action: policy.Strings{"s3:ListBucket", "s3:GetBucketLocation", "s3:GetBucketPolicy"}},
	)
	if c.HostedZoneID != "" {
		d.Statement = append(d.Statement, policy.Statement{Sid: "LookForRecords", Effect: policy.Allow, Action: policy.Strings{"route53:ListResourceRecordSets"},
			Resource: policy.Strings{n.zone(c)}})
	}
	return d
}

func (n names) stack(c Config) string {
	return n.regional("cloudformation", "stack/"+c.StackName+"/*")
}

// stacks are that of the cache and, with a second region, that of the copy.
func (n names) stacks(c Config) policy.Strings {
	all := policy.Strings{n.stack(c)}
	if c.ReplicaRegion != "" {
		all = append(all, "arn:aws:cloudformation:"+c.ReplicaRegion+":"+n.account+":stack/"+c.ReplicaStack()+"/*")
	}
	return all
}

func (n names) zone(c Config) string { return "arn:aws:route53:::hostedzone/" + c.HostedZoneID }

// deployerErrors reports what is wrong with the repository that deploys the stack.
func (c Config) deployerErrors() []error {
	d := c.Deployer
	if d == nil {
		return nil
	}
	var found []error
	if err := d.validate(); err != nil {
		found = append(found, fmt.Errorf("--deployer: %w", err))
	}
	if !d.numbered() {
		found = append(found, fmt.Errorf("--deployer needs repo, owner-id and repo-id: who deploys decides on everything else (%s prints the numbers)", d.askForNumbers()))
	}
	if d.Environment == "" {
		found = append(found, fmt.Errorf("--deployer needs an environment, with reviewers"))
	}
	for _, p := range c.Publishers {
		if p.Role == c.DeployRole() || p.Role == c.DiffRole() {
			found = append(found, fmt.Errorf("--deployer: role %s belongs to publisher %s", p.Role, p.Name))
		}
		if strings.EqualFold(p.Environment, d.Environment) && p.Owner == d.Owner && p.Repo == d.Repo {
			found = append(found, fmt.Errorf("--deployer: environment %s is that of publisher %s: a job that publishes could deploy", d.Environment, p.Name))
		}
	}
	return found
}
