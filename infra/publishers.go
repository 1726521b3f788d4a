package infra

import (
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
)

// newPublishers makes one role per publisher, in the order of the configuration.
func newPublishers(stack awscdk.Stack, c Config, provider string, bucket awss3.IBucket, distribution awscloudfront.IDistribution) []awsiam.Role {
	roles := make([]awsiam.Role, 0, len(c.Publishers))
	for i, p := range c.Publishers {
		id := roleID(p)
		if i == 0 {
			id = "GitHubActionsRole"
		}
		roles = append(roles, newRole(stack, id, p, provider, bucket, distribution))
	}
	return roles
}

// githubProvider is the ARN of GitHub's identity provider. An account holds one per
// issuer, so it is either the stack's or given.
func githubProvider(stack awscdk.Stack, c Config) string {
	if c.OIDCProviderArn != "" {
		return c.OIDCProviderArn
	}
	// Not the id of the Python stack: that one was a custom resource, and a resource
	// cannot change its type. Not OpenIdConnectProvider: it would bring a Lambda.
	provider := awsiam.NewOidcProviderNative(stack, jsii.String("GitHubProvider"), &awsiam.OidcProviderNativeProps{
		Url:       jsii.String("https://" + githubIssuer),
		ClientIds: jsii.Strings("sts.amazonaws.com"),
	})
	return *provider.OidcProviderArn()
}

func newRole(stack awscdk.Stack, id string, p Publisher, providerArn string, bucket awss3.IBucket, distribution awscloudfront.IDistribution) awsiam.Role {
	conditions := asJSON(p.Trust(providerArn).Statement[0].Condition).(map[string]any)
	role := awsiam.NewRole(stack, jsii.String(id), &awsiam.RoleProps{
		RoleName:           jsii.String(p.Role),
		Description:        jsii.String(fmt.Sprintf("%s/%s: %s", p.Owner, p.Repo, p.Access)),
		AssumedBy:          awsiam.NewWebIdentityPrincipal(jsii.String(providerArn), &conditions),
		MaxSessionDuration: awscdk.Duration_Minutes(jsii.Number(p.Session.Minutes())),
		InlinePolicies: &map[string]awsiam.PolicyDocument{
			string(p.Access): document(p.Permissions(*bucket.BucketArn(), *distribution.DistributionArn())),
		},
	})
	for _, w := range p.warnings() {
		awscdk.Annotations_Of(role).AddWarningV2(jsii.String("slurm-factory:trust"), jsii.String(w))
	}
	return role
}

// roleID is the construct id of a role other than the first: MaintainRole.
func roleID(p Publisher) string { return pascal(p.Name) + "Role" }

// pascal turns a publisher's name, such as pull-requests, into PullRequests.
func pascal(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// newManualUser is a person, for uploads by hand and for the day on which OIDC does
// not work. It has no access key: that would be a secret in the template. The user is
// retained, without rights, when the stack goes: IAM does not delete a user with keys
// or MFA devices, and a later stack adopts the user with them.
func newManualUser(stack awscdk.Stack, c Config, bucket awss3.IBucket, distribution awscloudfront.IDistribution) {
	if c.ManualUser == "" {
		return
	}
	user := awsiam.NewUser(stack, jsii.String("ManualUser"), &awsiam.UserProps{UserName: jsii.String(c.ManualUser)})
	user.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN)
	user.AttachInlinePolicy(awsiam.NewPolicy(stack, jsii.String("ManualUserPolicy"), &awsiam.PolicyProps{
		PolicyName: jsii.String("buildcache-full-access"),
		Document:   document(ManualUserPermissions(*bucket.BucketArn(), *distribution.DistributionArn())),
	}))
}

// manualUserArn is who may repair an immutable package, or empty.
func (c Config) manualUserArn(stack awscdk.Stack) string {
	if c.ManualUser == "" {
		return ""
	}
	return "arn:aws:iam::" + *stack.Account() + ":user/" + c.ManualUser
}
