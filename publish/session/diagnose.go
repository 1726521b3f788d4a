package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/sethvargo/go-githubactions"

	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
)

// An AuthError explains why a role could not be assumed, and what to do about it. It wraps no other error: its text
// is complete.
type AuthError struct {
	// Role is the ARN of the role. It is empty if the failure came before the role was known.
	Role string
	// Code is the code of AWS, or one of the codes below.
	Code string
	// Problem describes the failure.
	Problem string
	// Hints say what to do, the most likely first.
	Hints []string
	// Claims are those of the token, or nil if there was none.
	Claims *Claims
	// TrustPolicy is a trust policy that matches this job and no other, ready for use. It is empty if the trust
	// policy is not the cause.
	TrustPolicy string
	// Skew is by how much the clock of the token issuer was ahead of the local one.
	Skew time.Duration
}

// Codes of failures that do not come from AWS.
const (
	NoTokenRight  = "NoIDTokenPermission" // the job may not request tokens
	NoToken       = "NoIDToken"           // it received none
	NoAnswer      = "NoAnswer"            // from STS
	WrongAccount  = "WrongAccount"        // not an allowed one
	NoCredentials = "NoCredentials"       // the answer of STS has none, or there were none for asking it
)

func (e *AuthError) Error() string {
	switch {
	case e.Role == "":
		return fmt.Sprintf("get a token: %s: %s", e.Code, e.Problem)
	default:
		return fmt.Sprintf("assume role %s: %s: %s", e.Role, e.Code, e.Problem)
	}
}

// explain returns an error that explains why the n-th and last attempt failed.
func (a *assumer) explain(err error, t try, n int) *AuthError {
	var known *AuthError
	if errors.As(err, &known) { // the token source has explained it
		e := *known
		e.Role = a.role.ARN
		return &e
	}
	e := &AuthError{Role: a.role.ARN, Code: codeOf(err), Claims: t.claims, Skew: t.skew}
	d := diagnosis{AuthError: e, role: a.role, region: a.sts.Options().Region, attempts: n, said: said(err)}
	d.diagnose(err)
	return e
}

// said returns the message of AWS, or of a proxy in between.
func said(err error) string {
	var api smithy.APIError
	var unsent *smithyhttp.RequestSendError
	switch status := statusOf(err); {
	case errors.As(err, &api) && api.ErrorMessage() != "":
		return oneLine(api.ErrorMessage())
	case status != 0:
		return fmt.Sprintf("%d %s", status, http.StatusText(status))
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &unsent):
		return oneLine(unsent.Err.Error())
	}
	return oneLine(err.Error())
}

// A diagnosis is an AuthError under construction.
type diagnosis struct {
	*AuthError
	role     *Role
	region   string
	attempts int
	said     string
}

func (d *diagnosis) diagnose(err error) {
	var failed *tokenError
	var account *accountError
	switch {
	case errors.As(err, &failed):
		d.Code, d.Problem = NoToken, d.said
		if d.role.Token == nil {
			d.Code, d.Problem = NoCredentials, "there are none to assume it with: "+d.said
		}
	case errors.As(err, &account):
		d.wrongAccount(account)
	case errors.Is(err, errNoCredentials), errors.Is(err, errExpired):
		d.Code, d.Problem = NoCredentials, "STS answered, but "+err.Error()
	case !d.role.ofJob():
		d.onHost()
	case d.Code == "":
		d.noAnswer()
	default:
		d.refused()
	}
}

// refused explains an error of AWS.
func (d *diagnosis) refused() {
	says := func(part string) bool { return strings.Contains(d.said, part) }
	switch {
	case d.Code == "AccessDenied" && says("sts:AssumeRoleWithWebIdentity"):
		d.denied()
	case d.Code == "InvalidIdentityToken" && says("No OpenIDConnect provider"):
		d.noProvider()
	case d.Code == "InvalidIdentityToken" && says("audience"):
		d.wrongAudience()
	case d.Code == "InvalidIdentityToken" && says("retrieve verification key"), d.Code == "IDPCommunicationError":
		d.Problem = d.tried("AWS could not fetch the keys of " + d.Claims.Issuer)
		d.hint("this is temporary: run the job again")
	case d.Code == "ExpiredTokenException", d.Code == "ExpiredToken", says("must be issued within"):
		d.expired()
	case says("DurationSeconds"), says("MaxSessionDuration"), says("role chaining"):
		d.tooLong()
	case d.Code == "PackedPolicyTooLarge", d.Code == "MalformedPolicyDocument":
		d.badPolicy()
	case d.Code == "RegionDisabledException":
		d.Problem = "STS is not active in region " + d.region
		d.hint("activate it for account %s: IAM, account settings, security token service", d.role.Account())
		d.hint("or set `region` to one where it is, such as %s", homes[d.role.partition()])
	default:
		d.Problem = d.tried(d.said)
	}
}

// tried adds the number of attempts.
func (d *diagnosis) tried(what string) string {
	if d.attempts == 1 {
		return what
	}
	return fmt.Sprintf("%s (tried %d times)", what, d.attempts)
}

func (d *diagnosis) hint(format string, args ...any) {
	d.Hints = append(d.Hints, joined(fmt.Sprintf(format, args...))) // the names of environments are chosen by users
}

// denied explains AccessDenied, the answer of AWS to every mistake in a role's trust policy.
func (d *diagnosis) denied() {
	d.Problem = d.tried(fmt.Sprintf("AWS says %q: the role's trust policy does not match this job's token, or there is no such role", d.said))
	c := d.Claims
	owner, _, _ := strings.Cut(c.Subject, "/")
	_, run, isRepo := cutSubject(c.Subject)
	switch {
	case !isRepo:
		d.hint("sub is %s: a template of the organisation or the repository makes it, so conditions of the form repo:OWNER/NAME:... never match", c.Subject)
	case strings.Contains(owner, "@"):
		d.hint("sub carries the numbers of owner and repository, as it does for repositories made, renamed or transferred since 15 July 2026: a trust policy with names only (repo:%s:...) never matches", c.Repository)
	}
	switch {
	case strings.HasPrefix(run, "environment:"):
		d.hint("the job has the environment %s, so sub ends in :%s: a condition on a branch or tag never matches", c.Environment, run)
	case run == "pull_request":
		d.hint("the job runs for a pull request, so sub ends in :pull_request: a condition on a branch never matches; give pull requests a role that may only read")
	case strings.HasPrefix(run, "ref:"):
		d.hint("sub ends in :%s: a condition on another branch, a tag or an environment does not match", run)
	}
	if c.Repository != strings.ToLower(c.Repository) {
		d.hint("IAM compares letter case: the repository is written %s", c.Repository)
	}
	if d.role.audience() != audiences["aws"] {
		d.hint("aud is %s: the trust policy must ask for the same", d.role.audience())
	}
	if d.role.Name() == "GitHubActions" {
		d.hint("a role named GitHubActions is known not to work: give it another name")
	}
	d.hint("check whether the role exists: aws iam get-role --role-name %s (in account %s)", shell.Quote(d.role.Name()), d.role.Account())
	d.hint("ForAllValues: in a condition of the trust policy does not do what it seems to: use StringEquals or StringLike")
	d.hint("if role or policy are younger than a minute, run the job again")
	d.TrustPolicy = trustPolicy(d.role, c)
}

func (d *diagnosis) noProvider() {
	d.Problem = fmt.Sprintf("account %s has no identity provider for %s", d.role.Account(), d.Claims.Issuer)
	if d.Claims.Issuer != githubIssuer {
		d.hint("the issuer is not %s: GitHub Enterprise has its own, and provider and trust policy must name that", githubIssuer)
	}
	d.hint("create it: aws iam create-open-id-connect-provider --url %s --client-id-list %s", shell.Quote(d.Claims.Issuer), shell.Quote(d.role.audience()))
	d.hint("or correct the account in `role-to-assume`")
	d.TrustPolicy = trustPolicy(d.role, d.Claims)
}

func (d *diagnosis) wrongAudience() {
	d.Problem = fmt.Sprintf("the identity provider in account %s does not accept tokens for %s", d.role.Account(), d.role.audience())
	d.hint("add it: aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn %s --client-id %s", shell.Quote(providerARN(d.role, d.Claims)), shell.Quote(d.role.audience()))
	if usual := audiences[d.role.partition()]; d.role.audience() != usual {
		d.hint("or leave out `audience`: it is %s then", usual)
	}
	d.TrustPolicy = trustPolicy(d.role, d.Claims)
}

func (d *diagnosis) expired() {
	d.Problem = d.tried(fmt.Sprintf("AWS rejects this job's new token as expired: %q", d.said))
	if d.Skew.Abs() <= maxSkew {
		d.hint("the clock of this machine agrees with GitHub's, so this is temporary: run the job again")
		return
	}
	where := "behind"
	if d.Skew < 0 {
		where = "ahead of"
	}
	d.hint("the clock of this machine is %v %s GitHub's: set it, and keep it right (timedatectl set-ntp true)", d.Skew.Abs().Round(time.Second), where)
}

func (d *diagnosis) tooLong() {
	d.Problem = fmt.Sprintf("the role does not permit sessions of %d s: %q", int(d.role.duration().Seconds()), d.said)
	d.hint("leave out `role-duration-seconds`: 3600 works with every role, and sessions are renewed for as long as it takes")
}

func (d *diagnosis) badPolicy() {
	d.Problem = fmt.Sprintf("AWS rejects the session policy: %q", d.said)
	d.hint("set `session-policy: none`: the session may then do all that the role may")
}

func (d *diagnosis) wrongAccount(err *accountError) {
	d.Code = WrongAccount
	d.Problem = fmt.Sprintf("%v, and only these are allowed: %s", err, strings.Join(d.role.AllowedAccounts, ", "))
	d.hint("correct `role-to-assume` or `allowed-account-ids`; nothing was written")
}

func (d *diagnosis) noAnswer() {
	d.Code = NoAnswer
	d.Problem = d.tried("STS cannot be reached: " + d.said)
	d.hint("the runner must reach sts.%s.amazonaws.com on port 443, through its proxy if it has one", d.region)
}

// explain says why GitHub gave no token after so many attempts.
func (g *GitHub) explain(err error, tries int) *AuthError {
	var missing *githubactions.EnvMissingError
	var refused *githubactions.RequestFailedError
	e := &AuthError{Code: NoToken, Skew: g.Skew()}
	switch {
	case errors.As(err, &missing):
		e.Code = NoTokenRight
		e.Problem, e.Hints = g.noRight()
	case errors.As(err, &refused) && (refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden):
		e.Problem = "GitHub no longer accepts the job's token request: " + reason(err)
		e.Hints = []string{"the permission to request tokens can end before a job of many hours does: run the job again, completed objects stay"}
	case errors.As(err, &refused) && !passes(err):
		e.Problem = "GitHub gives no token: " + reason(err)
	case errors.As(err, &refused):
		e.Problem = fmt.Sprintf("GitHub gives no token: %s (tried %d times)", reason(err), tries)
		e.Hints = []string{"it is GitHub's side, see https://www.githubstatus.com: run the job again later"}
	case errors.Is(err, errEmptyToken):
		e.Problem = fmt.Sprintf("GitHub answered without a token (tried %d times)", tries)
		e.Hints = []string{"it is GitHub's side, see https://www.githubstatus.com: run the job again later"}
	default:
		e.Problem = fmt.Sprintf("GitHub cannot be reached: %s (tried %d times)", reason(err), tries)
		e.Hints = []string{"the runner must reach *.actions.githubusercontent.com on port 443, through its proxy if it has one"}
	}
	return e
}

// permission is the permissions block that a job needs. Naming any permission removes all others, so it also names
// the usual one.
const permission = "permissions:\n  id-token: write\n  contents: read"

// noRight explains why the job may not request tokens.
func (g *GitHub) noRight() (problem string, hints []string) {
	switch event := g.Getenv("GITHUB_EVENT_NAME"); {
	case g.Getenv("ACT") == "true":
		return "act gives out no tokens", []string{
			"act has no OIDC (https://github.com/nektos/act/issues/2500): use `credentials: env` there",
		}
	case g.Getenv("GITHUB_ACTIONS") != "true":
		return "this is not a GitHub job", []string{
			"use `credentials: env`, with credentials that the AWS SDK finds",
		}
	case event == "pull_request" && g.Getenv("GITHUB_ACTOR") == "dependabot[bot]":
		return "GitHub gives no tokens to jobs that Dependabot started", []string{
			"skip this step there: `if: github.actor != 'dependabot[bot]'`",
		}
	case event == "pull_request" && g.isFork():
		return "GitHub gives no tokens to pull requests from forks", []string{
			"skip this step there: `if: github.event.pull_request.head.repo.full_name == github.repository`",
		}
	}
	return "the job has no permission to ask for tokens", []string{
		"add to the job:\n" + permission,
		"if this workflow is called by another one, the caller must give the permission, too",
	}
}

// isFork reports whether the pull request comes from another repository.
func (g *GitHub) isFork() bool {
	known, err := githubactions.New(githubactions.WithGetenv(g.Getenv)).Context()
	if err != nil && known == nil {
		return false
	}
	var from any = known.Event
	for _, name := range []string{"pull_request", "head", "repo", "full_name"} {
		object, ok := from.(map[string]any)
		if !ok {
			return false
		}
		from = object[name]
	}
	name, ok := from.(string)
	return ok && name != g.Getenv("GITHUB_REPOSITORY")
}
