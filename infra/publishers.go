package infra

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// newPublishers makes one role per publisher, in the order of the configuration. One of them may
// sign, if there is a key to sign with.
func newPublishers(stack awscdk.Stack, c Config, provider string, bucket awss3.IBucket, distribution awscloudfront.IDistribution, signingKey *string) []awsiam.Role {
	roles := make([]awsiam.Role, 0, len(c.Publishers))
	for i, p := range c.Publishers {
		id := roleID(p)
		rights := map[string]awsiam.PolicyDocument{
			string(p.Access): document(p.Permissions(*bucket.BucketArn(), *distribution.DistributionArn())),
		}
		if i == 0 {
			id = "GitHubActionsRole"
		}
		if signingKey != nil && p.Role == c.signer().Role {
			rights["sign"] = document(SigningPermissions(*signingKey))
		}
		roles = append(roles, newRole(stack, id, p, provider, rights))
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

func newRole(stack awscdk.Stack, id string, p Publisher, providerArn string, rights map[string]awsiam.PolicyDocument) awsiam.Role {
	conditions := asJSON(p.Trust(providerArn).Statement[0].Condition).(map[string]any)
	role := awsiam.NewRole(stack, jsii.String(id), &awsiam.RoleProps{
		RoleName:           jsii.String(p.Role),
		Description:        jsii.String(fmt.Sprintf("%s/%s: %s", p.Owner, p.Repo, p.Access)),
		AssumedBy:          awsiam.NewWebIdentityPrincipal(jsii.String(providerArn), &conditions),
		MaxSessionDuration: awscdk.Duration_Minutes(jsii.Number(p.Session.Minutes())),
		InlinePolicies:     &rights,
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
		Document:   document(policy.ManualUserPermissions(*bucket.BucketArn(), *distribution.DistributionArn())),
	}))
}

// manualUserArn is who may repair an immutable package, or empty.
func (c Config) manualUserArn(stack awscdk.Stack) string {
	if c.ManualUser == "" {
		return ""
	}
	return "arn:aws:iam::" + *stack.Account() + ":user/" + c.ManualUser
}

// Access is what a publisher's role may do.
type Access string

const (
	// Read lists and reads, which is enough for a dry run.
	Read Access = "read"
	// Publish adds objects and invalidates. It cannot delete.
	Publish Access = "publish"
	// Maintain may delete as well; what it deletes can be restored from its version.
	Maintain Access = "maintain"
)

// A Publisher is one IAM role and the workflows that may assume it.
type Publisher struct {
	// Name is short and unique; it names the role's construct and output.
	Name string
	// Role is the IAM role's name.
	Role string
	// Owner and Repo are the GitHub repository, OwnerID and RepoID its numbers.
	// Numbers survive renames and cannot be taken over; names alone can. Without them
	// no subject that contains numbers is trusted.
	Owner, Repo, OwnerID, RepoID string
	// Environment is the GitHub environment that the job must run in. Its protection
	// rules (reviewers, branches) are what guards the role.
	Environment string
	// Ref is the git ref of the run, such as refs/heads/main or refs/tags/v*. Together
	// with Environment both must hold.
	Ref string
	// PullRequests trusts runs for pull requests from the repository itself.
	PullRequests bool
	// AnyRef trusts every run of the repository: any branch, tag, pull request,
	// environment. It is what the Python stack did.
	AnyRef bool
	// Workflow is the job_workflow_ref that must match, such as
	// o/r/.github/workflows/publish.yml@refs/heads/main. Empty: any.
	Workflow string
	// Prefixes are the parts of the bucket, each ending in "/". Empty: all of it.
	Prefixes []string
	// From are other parts of the bucket, each ending in "/", that the role may read: it
	// promotes what is there to Prefixes. Empty: it promotes nothing.
	From []string
	// Access is what the role may do at Prefixes.
	Access Access
	// Signs lets this role sign with Options.SigningKey, and not the first publisher's.
	Signs bool
	// Session is the longest session of the role, 1 to 12 hours.
	Session time.Duration
	// ExpireDays removes what is below Prefixes after so many days. 0: never.
	ExpireDays int
}

// place is the environment, or else the ref, in which a job must run to assume the role.
func (p Publisher) place() string {
	switch {
	case p.Environment != "":
		return "environment " + p.Environment
	case p.Ref != "":
		return "ref " + p.Ref
	}
	return ""
}

func (p Publisher) validate() error {
	var found []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			found = append(found, fmt.Errorf(format, args...))
		}
	}
	refuse(!nameForm.MatchString(p.Name), "name %q: want up to 31 lower-case letters, digits and hyphens", p.Name)
	refuse(!userForm.MatchString(p.Role), "role %q: not an IAM role name (at most 64 characters)", p.Role)
	refuse(!repoForm.MatchString(p.Owner) || !repoForm.MatchString(p.Repo), "repo %q: want OWNER/NAME", p.Owner+"/"+p.Repo)
	refuse(!numberForm.MatchString(p.OwnerID), "owner-id %q: want a number, as GitHub writes it", p.OwnerID)
	refuse(!numberForm.MatchString(p.RepoID), "repo-id %q: want a number, as GitHub writes it", p.RepoID)
	refuse((p.OwnerID == "") != (p.RepoID == ""), "owner-id and repo-id go together: %s prints both", p.askForNumbers())
	refuse(strings.ContainsAny(p.Environment, "*?"), "environment %q: wildcards would trust environments that do not exist yet", p.Environment)
	refuse(p.Ref != "" && !strings.HasPrefix(p.Ref, "refs/"), "ref %q: want refs/heads/NAME or refs/tags/NAME", p.Ref)
	refuse(p.Workflow != "" && !workflowForm.MatchString(p.Workflow),
		"workflow %q: want OWNER/REPO/.github/workflows/FILE@REF, such as o/r/.github/workflows/publish.yml@refs/heads/main", p.Workflow)
	refuse(p.scopes() == 0, "trusts nobody: give environment, ref or pull-requests")
	refuse(p.scopes() > 1, "environment or ref, pull-requests and trust-any-ref exclude each other")
	refuse(p.Access == Maintain && (p.AnyRef || p.PullRequests), "access=maintain can delete: it must be tied to an environment or ref")
	refuse(p.Access == Maintain && p.Environment == "" && strings.ContainsAny(p.Ref, "*?"),
		"ref %q: access=maintain can delete, so it must be tied to one environment or to one ref without wildcards", p.Ref)
	refuse(p.PullRequests && p.Access != Read && len(p.Prefixes) == 0, "pull-requests may only publish below a prefix of their own")
	refuse(!slices.Contains([]Access{Read, Publish, Maintain}, p.Access), "access %q: want read, publish or maintain", p.Access)
	for _, prefix := range p.Prefixes {
		refuse(!prefixForm.MatchString(prefix), "prefix %q: want a path that ends in / and does not begin with it", prefix)
	}
	for _, from := range p.From {
		refuse(!prefixForm.MatchString(from), "from %q: want a path that ends in / and does not begin with it", from)
	}
	refuse(len(p.From) > 0 && p.Access != Publish, "from is for access=publish: a role that promotes reads there, and writes at its prefix")
	refuse(len(p.From) > 0 && overlap(p.From, p.prefixes()), "from and prefix overlap: a role that promotes must not write what it promotes")
	refuse(p.Signs && (p.Access == Read || p.PullRequests || p.AnyRef), "sign=true is for a role that publishes from one environment or ref")
	refuse(p.Session < time.Hour || p.Session > 12*time.Hour, "session %s: IAM allows 1 to 12 hours", p.Session)
	refuse(p.ExpireDays < 0 || p.ExpireDays > maxDays, "expire-days %d: want 1 to %d", p.ExpireDays, maxDays)
	refuse(p.ExpireDays > 0 && len(p.Prefixes) == 0, "expire-days needs a prefix: it would empty the bucket")
	return errors.Join(found...)
}

func (p Publisher) warnings() []string {
	var found []string
	if p.AnyRef {
		found = append(found, fmt.Sprintf("role %s trusts every run of %s/%s: any branch, tag, pull request and environment, so everybody with write access can publish. "+
			"Scope it with --environment or --ref.", p.Role, p.Owner, p.Repo))
	}
	if p.Environment == "" && policy.Wide(p.Ref) {
		found = append(found, fmt.Sprintf("role %s trusts every run of %s/%s on %s: everybody with write access can make such a branch or tag, and publish. "+
			"Name one ref, or scope it with --environment.", p.Role, p.Owner, p.Repo, p.Ref))
	}
	if !p.numbered() {
		found = append(found, fmt.Sprintf("role %s knows %s/%s by name only: a repository made, renamed or transferred after 15 July 2026 cannot assume it. "+
			"Give --github-owner-id and --github-repo-id (owner-id and repo-id of a --publisher): %s prints them.", p.Role, p.Owner, p.Repo, p.askForNumbers()))
	}
	return found
}

// askForNumbers is the command that prints the numbers of owner and repository.
func (p Publisher) askForNumbers() string {
	return "gh api repos/" + p.Owner + "/" + p.Repo + " --jq '.owner.id, .id'"
}

// scopes counts the ways in which the role says whom it trusts; it must be one.
func (p Publisher) scopes() int {
	n := 0
	for _, on := range []bool{p.Environment != "" || p.Ref != "", p.PullRequests, p.AnyRef} {
		if on {
			n++
		}
	}
	return n
}

// overlap reports whether two sets of prefixes have a part of the bucket in common.
func overlap(some, others []string) bool {
	for _, a := range some {
		for _, b := range others {
			if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
				return true
			}
		}
	}
	return false
}
