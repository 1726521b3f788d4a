package session_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

// explained is an error as people read it.
func explained(err error) string {
	text := err.Error()
	var failed *session.AuthError
	if errors.As(err, &failed) {
		for _, hint := range failed.Hints {
			text += "\nhint: " + hint
		}
	}
	return text
}

const role = "assume role arn:aws:iam::123456789012:role/publish: "

type diagnosis struct {
	name string
	is   sessiontest.Options
	set  func(t *testing.T, s *scene)
	sts  sessiontest.Fault
	want string
}

// diagnoses are all that can be wrong, in the very words that people read.
var diagnoses = []diagnosis{
	// The job cannot ask for a token.
	{name: "no permission", set: without, want: role + `NoIDTokenPermission: the job has no permission to ask for tokens
hint: add to the job:
permissions:
  id-token: write
  contents: read
hint: if this workflow is called by another one, the caller must give the permission, too`},
	{name: "no permission, pull request of the same repository", set: fromPull("vantagecompute/slurm-factory"), want: role + `NoIDTokenPermission: the job has no permission to ask for tokens
hint: add to the job:
permissions:
  id-token: write
  contents: read
hint: if this workflow is called by another one, the caller must give the permission, too`},
	{name: "fork", set: fromPull("somebody/slurm-factory"), want: role + `NoIDTokenPermission: GitHub gives no tokens to pull requests from forks
hint: skip this step there: ` + "`if: github.event.pull_request.head.repo.full_name == github.repository`"},
	{name: "dependabot", set: func(t *testing.T, s *scene) {
		fromPull("vantagecompute/slurm-factory")(t, s)
		s.env["GITHUB_ACTOR"] = "dependabot[bot]"
	}, want: role + `NoIDTokenPermission: GitHub gives no tokens to jobs that Dependabot started
hint: skip this step there: ` + "`if: github.actor != 'dependabot[bot]'`"},
	{name: "act", set: func(t *testing.T, s *scene) { without(t, s); s.env["ACT"] = "true" }, want: role + `NoIDTokenPermission: act gives out no tokens
hint: act has no OIDC (https://github.com/nektos/act/issues/2500): use ` + "`credentials: env`" + ` there`},
	{name: "no GitHub", set: func(t *testing.T, s *scene) { clear(s.env) }, want: role + `NoIDTokenPermission: this is not a GitHub job
hint: use ` + "`credentials: env`" + `, with credentials that the AWS SDK finds`},

	// GitHub gives none.
	{name: "GitHub is broken", set: tokens503, want: role + `NoIDToken: GitHub gives no token: 503 Service Unavailable upstream is away (tried 5 times)
hint: it is GitHub's side, see https://www.githubstatus.com: run the job again later`},
	{name: "GitHub refuses", set: tokenAnswer(404, "{\n}"), want: role + `NoIDToken: GitHub gives no token: 404 Not Found { }`},
	{name: "the job's right has ended", set: func(t *testing.T, s *scene) { s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = "old" }, want: role + `NoIDToken: GitHub no longer accepts the job's token request: 401 Unauthorized {"message":"Bad credentials"}
hint: the permission to request tokens can end before a job of many hours does: run the job again, completed objects stay`},
	{name: "empty token", set: tokenAnswer(200, `{"value":""}`), want: role + `NoIDToken: GitHub answered without a token (tried 5 times)
hint: it is GitHub's side, see https://www.githubstatus.com: run the job again later`},
	{name: "no network to GitHub", set: func(t *testing.T, s *scene) { delete(s.world, idp) }, want: role + `NoIDToken: GitHub cannot be reached: failed to make HTTP request: Get "https://pipelines.example/idtoken/15112233445?api-version=2.0&audience=sts.amazonaws.com": dial tcp: lookup pipelines.example: no such host (tried 5 times)
hint: the runner must reach *.actions.githubusercontent.com on port 443, through its proxy if it has one`},
	{name: "no JWT", set: tokenAnswer(200, `{"value":"abc"}`), want: role + `NoIDToken: a token of 1 parts, a JWT has 3`},

	// STS does not take it.
	{name: "denied, branch", sts: sessiontest.Denied, want: denied + `
hint: sub ends in :ref:refs/heads/main: a condition on another branch, a tag or an environment does not match` + deniedRest},
	{name: "denied, environment", is: job(sessiontest.Job{Environment: "release"}), sts: sessiontest.Denied, want: denied + `
hint: the job has the environment release, so sub ends in :environment:release: a condition on a branch or tag never matches` + deniedRest},
	{name: "denied, pull request", is: job(sessiontest.Job{Event: "pull_request", Ref: "refs/pull/7/merge"}), sts: sessiontest.Denied, want: denied + `
hint: the job runs for a pull request, so sub ends in :pull_request: a condition on a branch never matches; give pull requests a role that may only read` + deniedRest},
	{name: "denied, immutable", is: job(sessiontest.Job{Immutable: true}), sts: sessiontest.Denied, want: denied + `
hint: sub carries the numbers of owner and repository, as it does for repositories made, renamed or transferred since 15 July 2026: a trust policy with names only (repo:vantagecompute/slurm-factory:...) never matches
hint: sub ends in :ref:refs/heads/main: a condition on another branch, a tag or an environment does not match` + deniedRest},
	{name: "denied, template", is: job(sessiontest.Job{Subject: "repository_owner:vantagecompute:environment:release"}), sts: sessiontest.Denied, want: denied + `
hint: sub is repository_owner:vantagecompute:environment:release: a template of the organisation or the repository makes it, so conditions of the form repo:OWNER/NAME:... never match` + deniedRest},
	{name: "denied, letter case", is: job(sessiontest.Job{Repository: "VantageCompute/slurm-factory"}), sts: sessiontest.Denied, want: denied + `
hint: sub ends in :ref:refs/heads/main: a condition on another branch, a tag or an environment does not match
hint: IAM compares letter case: the repository is written VantageCompute/slurm-factory` + deniedRest},
	{name: "denied, audience", is: sessiontest.Options{Audiences: []string{"ours"}}, set: func(t *testing.T, s *scene) { s.role.Audience = "ours" }, sts: sessiontest.Denied, want: denied + `
hint: sub ends in :ref:refs/heads/main: a condition on another branch, a tag or an environment does not match
hint: aud is ours: the trust policy must ask for the same` + deniedRest},
	{name: "denied, GitHubActions", is: sessiontest.Options{Role: "arn:aws:iam::123456789012:role/GitHubActions"}, sts: sessiontest.Denied, want: strings.ReplaceAll(denied+`
hint: sub ends in :ref:refs/heads/main: a condition on another branch, a tag or an environment does not match
hint: a role named GitHubActions is known not to work: give it another name`+deniedRest, "publish", "GitHubActions")},
	{name: "no provider", sts: sessiontest.NoProvider, want: role + `InvalidIdentityToken: account 123456789012 has no identity provider for https://token.actions.githubusercontent.com
hint: create it: aws iam create-open-id-connect-provider --url https://token.actions.githubusercontent.com --client-id-list sts.amazonaws.com
hint: or correct the account in ` + "`role-to-assume`"},
	{name: "no provider for GHES", is: sessiontest.Options{Issuer: "https://ghes.example/_services/token"}, sts: sessiontest.NoProvider, want: role + `InvalidIdentityToken: account 123456789012 has no identity provider for https://ghes.example/_services/token
hint: the issuer is not https://token.actions.githubusercontent.com: GitHub Enterprise has its own, and provider and trust policy must name that
hint: create it: aws iam create-open-id-connect-provider --url https://ghes.example/_services/token --client-id-list sts.amazonaws.com
hint: or correct the account in ` + "`role-to-assume`"},
	{name: "audience", is: sessiontest.Options{Audiences: []string{"theirs"}}, want: role + `InvalidIdentityToken: the identity provider in account 123456789012 does not accept tokens for sts.amazonaws.com
hint: add it: aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com --client-id sts.amazonaws.com`},
	{name: "audience of one's own", set: func(t *testing.T, s *scene) { s.role.Audience = "ours" }, want: role + `InvalidIdentityToken: the identity provider in account 123456789012 does not accept tokens for ours
hint: add it: aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com --client-id ours
hint: or leave out ` + "`audience`" + `: it is sts.amazonaws.com then`},
	{name: "verification key", sts: sessiontest.NoKey, want: role + `InvalidIdentityToken: AWS could not fetch the keys of https://token.actions.githubusercontent.com (tried 6 times)
hint: this is temporary: run the job again`},
	{name: "IDP", sts: sessiontest.NoIDP, want: role + `IDPCommunicationError: AWS could not fetch the keys of https://token.actions.githubusercontent.com (tried 6 times)
hint: this is temporary: run the job again`},
	{name: "expired, clock behind", is: sessiontest.Options{Ahead: 450 * time.Second}, sts: sessiontest.Expired, want: role + `ExpiredTokenException: AWS rejects this job's new token as expired: "Token expired: current date/time 1755504000 must be before the expiration date/time 1755503999" (tried 6 times)
hint: the clock of this machine is 7m30s behind GitHub's: set it, and keep it right (timedatectl set-ntp true)`},
	{name: "expired, clock ahead", is: sessiontest.Options{Ahead: -time.Hour}, sts: sessiontest.TooOld, want: role + `InvalidIdentityToken: AWS rejects this job's new token as expired: "Token must be issued within timeframe"
hint: the clock of this machine is 1h0m0s ahead of GitHub's: set it, and keep it right (timedatectl set-ntp true)`},
	{name: "expired, clock right", sts: sessiontest.Expired, want: role + `ExpiredTokenException: AWS rejects this job's new token as expired: "Token expired: current date/time 1755504000 must be before the expiration date/time 1755503999" (tried 6 times)
hint: the clock of this machine agrees with GitHub's, so this is temporary: run the job again`},
	{name: "too long", set: func(t *testing.T, s *scene) { s.role.Duration = 4 * time.Hour }, want: role + `ValidationError: the role does not permit sessions of 14400 s: "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
hint: leave out ` + "`role-duration-seconds`" + `: 3600 works with every role, and sessions are renewed for as long as it takes`},
	{name: "chained", set: func(t *testing.T, s *scene) { s.role.Duration = 2 * time.Hour }, sts: sessiontest.Chained, want: role + `ValidationError: the role does not permit sessions of 7200 s: "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
hint: leave out ` + "`role-duration-seconds`" + `: 3600 works with every role, and sessions are renewed for as long as it takes`},
	{name: "policy too large", sts: sessiontest.PolicyTooLarge, want: role + `PackedPolicyTooLarge: AWS rejects the session policy: "Packed policy consumes 104% of allotted space, please use smaller policy."
hint: set ` + "`session-policy: none`" + `: the session may then do all that the role may`},
	{name: "policy malformed", set: func(t *testing.T, s *scene) { s.role.Policy = `{"Version":"2012-10-17","Statement":[]}` }, sts: sessiontest.PolicyMalformed, want: role + `MalformedPolicyDocument: AWS rejects the session policy: "This policy contains invalid Json"
hint: set ` + "`session-policy: none`" + `: the session may then do all that the role may`},
	{name: "region", sts: sessiontest.RegionDisabled, want: role + `RegionDisabledException: STS is not active in region eu-north-1
hint: activate it for account 123456789012: IAM, account settings, security token service
hint: or set ` + "`region`" + ` to one where it is, such as us-east-1`},
	{name: "account", is: sessiontest.Options{Role: minio}, set: func(t *testing.T, s *scene) { s.role.AllowedAccounts = []string{"111111111111", "222222222222"} }, want: "assume role " + minio + `: WrongAccount: the account of the role is unknown, and only these are allowed: 111111111111, 222222222222
hint: correct ` + "`role-to-assume` or `allowed-account-ids`" + `; nothing was written`},
	{name: "no network to STS", set: func(t *testing.T, s *scene) { delete(s.world, "sts.eu-north-1.amazonaws.com") }, want: role + `NoAnswer: STS cannot be reached: dial tcp: lookup sts.eu-north-1.amazonaws.com: no such host (tried 6 times)
hint: the runner must reach sts.eu-north-1.amazonaws.com on port 443, through its proxy if it has one`},
	{name: "silent STS", sts: sessiontest.Hang, want: role + `NoAnswer: STS cannot be reached: no answer in time (tried 6 times)
hint: the runner must reach sts.eu-north-1.amazonaws.com on port 443, through its proxy if it has one`},
	{name: "no STS but a proxy", sts: sessiontest.Answer(407, "<html>"), want: role + `NoAnswer: STS cannot be reached: 407 Proxy Authentication Required (tried 6 times)
hint: the runner must reach sts.eu-north-1.amazonaws.com on port 443, through its proxy if it has one`},
	{name: "unavailable", sts: sessiontest.Unavailable, want: role + `ServiceUnavailable: Service is unavailable (tried 6 times)`},
	{name: "something else", sts: sessiontest.Refuse(400, "Teapot", "short\n::add-mask::and stout"), want: role + `Teapot: short ::add-mask::and stout`},
	{name: "nothing in the answer", sts: sessiontest.Answer(200, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult/></AssumeRoleWithWebIdentityResponse>`), want: role + `NoCredentials: STS answered, but the answer has no credentials`},
	{name: "dead on arrival", is: sessiontest.Options{SessionLength: -time.Hour}, want: role + `NoCredentials: STS answered, but the answer has credentials that have expired`},
}

func TestDiagnoses(t *testing.T) {
	for _, row := range diagnoses {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, row.is)
				if row.set != nil {
					row.set(t, s)
				}
				if row.sts != sessiontest.None {
					s.HookSTS(sessiontest.Always(row.sts))
				}
				_, err := s.retrieve(t)
				if err == nil {
					t.Fatal("there are credentials")
				}
				if diff := cmp.Diff(row.want, explained(err)); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			})
		})
	}
}

const (
	minio = "arn:minio:iam:::role/publish"

	denied = `assume role arn:aws:iam::123456789012:role/publish: AccessDenied: AWS says "Not authorized to perform sts:AssumeRoleWithWebIdentity": the role's trust policy does not match this job's token, or there is no such role (tried 4 times)`

	deniedRest = `
hint: check whether the role exists: aws iam get-role --role-name publish (in account 123456789012)
hint: ForAllValues: in a condition of the trust policy does not do what it seems to: use StringEquals or StringLike
hint: if role or policy are younger than a minute, run the job again`
)

func job(j sessiontest.Job) sessiontest.Options { return sessiontest.Options{Job: j} }

func without(_ *testing.T, s *scene) {
	delete(s.env, "ACTIONS_ID_TOKEN_REQUEST_URL")
	delete(s.env, "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
}

// fromPull is a pull request from a repository.
func fromPull(repository string) func(*testing.T, *scene) {
	return func(t *testing.T, s *scene) {
		without(t, s)
		event := filepath.Join(t.TempDir(), "event.json")
		text := fmt.Sprintf(`{"pull_request": {"head": {"repo": {"full_name": %q}}}}`, repository)
		if err := os.WriteFile(event, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.env["GITHUB_EVENT_PATH"], s.env["GITHUB_EVENT_NAME"] = event, "pull_request"
	}
}

func tokens503(t *testing.T, s *scene) { tokenAnswer(503, "upstream\nis away\n")(t, s) }

func tokenAnswer(status int, body string) func(*testing.T, *scene) {
	return func(_ *testing.T, s *scene) {
		s.HookTokens(sessiontest.Always(sessiontest.Answer(status, body)))
	}
}

// The trust policy that we give out lets this job in, and nobody else.
func TestTrustPolicyIsForThisJob(t *testing.T) {
	const issuer = "token.actions.githubusercontent.com"
	for name, row := range map[string]struct {
		job  sessiontest.Job
		subs any
	}{
		"environment": {sessiontest.Job{Environment: "release"}, []any{
			"repo:vantagecompute/slurm-factory:environment:release",
			"repo:vantagecompute@81234567/slurm-factory@912345678:environment:release"}},
		"immutable": {sessiontest.Job{Environment: "prod:eu", Immutable: true}, []any{
			"repo:vantagecompute/slurm-factory:environment:prod%3Aeu",
			"repo:vantagecompute@81234567/slurm-factory@912345678:environment:prod%3Aeu"}},
		"branch": {sessiontest.Job{}, []any{
			"repo:vantagecompute/slurm-factory:ref:refs/heads/main",
			"repo:vantagecompute@81234567/slurm-factory@912345678:ref:refs/heads/main"}},
		"template": {sessiontest.Job{Subject: "repository_id:912345678:ref:refs/heads/main"}, []any{"repository_id:912345678:ref:refs/heads/main"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, job(row.job))
				s.HookSTS(sessiontest.Always(sessiontest.Denied))
				_, err := s.retrieve(t)
				var failed *session.AuthError
				if !errors.As(err, &failed) {
					t.Fatal(err)
				}
				var policy any
				if err := json.Unmarshal([]byte(failed.TrustPolicy), &policy); err != nil {
					t.Fatal(err)
				}
				want := map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
					"Effect":    "Allow",
					"Principal": map[string]any{"Federated": "arn:aws:iam::123456789012:oidc-provider/" + issuer},
					"Action":    "sts:AssumeRoleWithWebIdentity",
					"Condition": map[string]any{"StringEquals": map[string]any{
						issuer + ":aud": "sts.amazonaws.com", issuer + ":repository_id": "912345678", issuer + ":sub": row.subs,
					}},
				}}}
				if diff := cmp.Diff(want, policy); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
				same := row.job
				if row.job.Subject == "" {
					same.Immutable = !same.Immutable // whatever GitHub changes to
				}
				other, branch := row.job, row.job
				other.RepositoryID = "1" // somebody else took the name over
				branch.Subject = "repo:vantagecompute/slurm-factory:ref:refs/heads/other"
				for _, entry := range []struct {
					job sessiontest.Job
					let bool
				}{{row.job, true}, {same, true}, {other, false}, {branch, false}} {
					s := newScene(t, sessiontest.Options{Job: entry.job, Trust: failed.TrustPolicy})
					if _, err := s.retrieve(t); (err == nil) != entry.let {
						t.Errorf("%+v is let in: %v, want %v", entry.job, err == nil, entry.let)
					}
				}
			})
		})
	}
}

// An issuer that is not GitHub's own has no claims that AWS knows but aud and sub.
func TestTrustPolicyForAnotherIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{Issuer: "https://ghes.example/_services/token"})
		s.HookSTS(sessiontest.Always(sessiontest.Denied))
		_, err := s.retrieve(t)
		var failed *session.AuthError
		errors.As(err, &failed)
		s = newScene(t, sessiontest.Options{Issuer: "https://ghes.example/_services/token", Trust: failed.TrustPolicy})
		if _, err := s.retrieve(t); err != nil {
			t.Errorf("%v\n%s", err, failed.TrustPolicy)
		}
		if strings.Contains(failed.TrustPolicy, "repository_id") {
			t.Errorf("it asks for what AWS does not know:\n%s", failed.TrustPolicy)
		}
	})
}

func TestClaimsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, job(sessiontest.Job{Environment: "release"}))
		s.HookSTS(sessiontest.Always(sessiontest.Denied))
		_, err := s.retrieve(t)
		var failed *session.AuthError
		if !errors.As(err, &failed) {
			t.Fatal(err)
		}
		want := [][2]string{
			{"iss", "https://token.actions.githubusercontent.com"},
			{"aud", "sts.amazonaws.com"},
			{"sub", "repo:vantagecompute/slurm-factory:environment:release"},
			{"repository", "vantagecompute/slurm-factory"},
			{"repository_id", "912345678"},
			{"repository_owner_id", "81234567"},
			{"ref", "refs/heads/main"},
			{"environment", "release"},
			{"event_name", "workflow_dispatch"},
			{"job_workflow_ref", "vantagecompute/slurm-factory/.github/workflows/publish.yml@refs/heads/main"},
			{"runner_environment", "github-hosted"},
		}
		if diff := cmp.Diff(want, failed.Claims.Rows()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}
