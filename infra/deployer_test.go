package infra

import (
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// testDeployer is the repository of this project with invented numbers.
func testDeployer() *Publisher {
	return &Publisher{Name: "deployer", Role: deployRole, Owner: "vantagecompute", Repo: "slurm-factory-publish", OwnerID: "111", RepoID: "444",
		Environment: "infrastructure", Access: Read, Session: time.Hour}
}

func TestDeployerTrust(t *testing.T) {
	tpl := parsed(t, "everything")
	const repo = "repo:vantagecompute@111/slurm-factory-publish@444:"
	for _, row := range []struct {
		name, sub, id string
		deploy, diff  bool
	}{
		{"environment", repo + "environment:infrastructure", "444", true, false},
		{"pull request", repo + "pull_request", "444", false, true},
		{"main without the environment", repo + "ref:refs/heads/main", "444", false, false},
		{"another environment", repo + "environment:release", "444", false, false},
		{"name taken over", "repo:vantagecompute/slurm-factory-publish:environment:infrastructure", "999", false, false},
	} {
		keys := map[string]string{claim("aud"): "sts.amazonaws.com", claim("sub"): row.sub, claim("repository"): "vantagecompute/slurm-factory-publish", claim("repository_id"): row.id}
		for id, want := range map[string]bool{"InfraDeployRole": row.deploy, "InfraDiffRole": row.diff} {
			trust := livePolicy(t, tpl, startingWith(t, tpl, id), "AssumeRolePolicyDocument")
			decide(t, id+" "+row.name, trust, assume("GitHubProviderDD1D07DF", keys), want)
		}
	}
}

// TestDeployerPermissions: a pull request's code can read the template and nothing else;
// the deploying role hands over to CDK's roles and touches nothing itself.
func TestDeployerPermissions(t *testing.T) {
	c := variants()["everything"]
	stack := "arn:aws:cloudformation:us-east-1:123456789012:stack/SlurmFactoryInfraStack/1"
	bucket := "arn:aws:s3:::" + c.Bucket()
	cdk := "arn:aws:iam::123456789012:role/cdk-hnb659fds-"
	for _, row := range []struct {
		name, action, resource string
		deploy, diff           bool
	}{
		{"read the template", "cloudformation:GetTemplate", stack, true, true},
		{"read the template of the copy", "cloudformation:GetTemplate", "arn:aws:cloudformation:us-west-2:123456789012:stack/SlurmFactoryInfraStack-replica/1", true, true},
		{"read another stack", "cloudformation:GetTemplate", strings.Replace(stack, "SlurmFactoryInfraStack", "Other", 1), false, false},
		{"name the zone", "route53:GetHostedZone", "arn:aws:route53:::hostedzone/" + testZone, true, true},
		{"hand over to CDK", "sts:AssumeRole", cdk + "deploy-role-123456789012-us-east-1", true, false},
		{"upload the template as CDK", "sts:AssumeRole", cdk + "file-publishing-role-123456789012-us-east-1", true, false},
		{"read the account as CDK", "sts:AssumeRole", cdk + "lookup-role-123456789012-us-east-1", true, false},
		{"be CloudFormation", "sts:AssumeRole", cdk + "cfn-exec-role-123456789012-us-east-1", false, false},
		{"be a publisher", "sts:AssumeRole", "arn:aws:iam::123456789012:role/slurm-factory-github-actions", false, false},
		{"keep the stack's policy", "cloudformation:SetStackPolicy", stack, true, false},
		{"update the stack itself", "cloudformation:UpdateStack", stack, false, false},
		{"delete the stack", "cloudformation:DeleteStack", stack, false, false},
		{"look for a role", "iam:GetRole", "arn:aws:iam::123456789012:role/slurm-factory-github-actions", true, false},
		{"make a role", "iam:CreateRole", "arn:aws:iam::123456789012:role/slurm-factory-github-actions", false, false},
		{"pass a role", "iam:PassRole", cdk + "cfn-exec-role-123456789012-us-east-1", false, false},
		{"look at the bucket", "s3:ListBucket", bucket, true, false},
		{"read a package", "s3:GetObject", bucket + "/v3/layout.json", false, false},
		{"write a package", "s3:PutObject", bucket + "/v3/layout.json", false, false},
		{"change the bucket", "s3:PutBucketPolicy", bucket, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := policy.Request{Action: row.action, Resource: row.resource}
			decide(t, "deploy", DeployPermissions(c, testAccount), r, row.deploy)
			decide(t, "diff", DiffPermissions(c, testAccount), r, row.diff)
		})
	}
	for _, name := range []string{"InfraDeployRoleArn", "InfraDiffRoleArn"} {
		if _, ok := parsed(t, "everything").Outputs[name]; !ok {
			t.Errorf("no output %s", name)
		}
		if _, ok := parsed(t, "vantage").Outputs[name]; ok {
			t.Errorf("output %s without a deployer", name)
		}
	}
}

func TestBadDeployers(t *testing.T) {
	for want, change := range map[string]func(*Publisher){
		"needs repo, owner-id and repo-id": func(p *Publisher) { p.OwnerID, p.RepoID = "", "" },
		"needs an environment":             func(p *Publisher) { p.Environment, p.Ref = "", "refs/heads/main" },
		"want OWNER/NAME":                  func(p *Publisher) { p.Repo = "" },
		"a job that publishes could deploy": func(p *Publisher) {
			p.Repo, p.Environment = "slurm-factory", "release"
		},
	} {
		c := Default()
		c.Account, c.Deployer = testAccount, testDeployer()
		change(c.Deployer)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
