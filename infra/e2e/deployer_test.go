package e2e

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// credential is who signed a request, and for which service.
var credential = regexp.MustCompile(`Credential=([^/]+)/\d+/[^/]+/([^/]+)/aws4_request`)

// ownCall is a request of the caller's own credentials as IAM sees it, and false for one
// that CDK made with a role that it had assumed.
func ownCall(t *testing.T, s seen) (policy.Request, bool) {
	t.Helper()
	m := credential.FindStringSubmatch(s.request.Header.Get("Authorization"))
	if m == nil || m[1] != "test" {
		return policy.Request{}, false
	}
	form, _ := url.ParseQuery(string(s.body))
	call := policy.Request{Action: m[2] + ":" + form.Get("Action"), Resource: "*"}
	switch m[2] {
	case "cloudformation":
		if form.Get("StackName") != "" { // a stack can be looked for by what it has
			call.Resource = "arn:aws:cloudformation:us-east-1:" + account + ":stack/" + form.Get("StackName") + "/1"
		}
	case "sts":
		call.Resource = form.Get("RoleArn")
		if form.Get("Action") == "GetCallerIdentity" { // needs no right
			return call, false
		}
	case "cloudfront":
		call.Action = "cloudfront:List" + map[string]string{"distribution": "Distributions", "cache-policy": "CachePolicies",
			"origin-access-control": "OriginAccessControls", "response-headers-policy": "ResponseHeadersPolicies"}[strings.Split(s.request.URL.Path, "/")[2]]
	case "sqs", "logs", "athena", "glue", "ce", "cloudtrail", "budgets": // the target is SERVICE.ACTION
		_, action, _ := strings.Cut(s.request.Header.Get("X-Amz-Target"), ".")
		call.Action = m[2] + ":" + action
		if action == "DescribeBudget" { // which has a right of another name
			call.Action = "budgets:ViewBudget"
		}
	case "monitoring":
		call.Action = "cloudwatch:" + form.Get("Action")
	case "route53":
		zone := strings.Split(s.request.URL.Path, "/")[3]
		call.Action, call.Resource = "route53:GetHostedZone", "arn:aws:route53:::hostedzone/"+zone
		if strings.HasSuffix(s.request.URL.Path, "/rrset") {
			call.Action = "route53:ListResourceRecordSets"
		}
	case "s3":
		if s.request.URL.Path == "/" {
			call.Action = "s3:ListAllMyBuckets"
			break
		}
		bucket := "arn:aws:s3:::" + strings.Split(s.request.URL.Path, "/")[1]
		switch q := s.request.URL.Query(); {
		case s.request.Method == http.MethodHead:
			call = policy.Request{Action: "s3:ListBucket", Resource: bucket}
		case q.Has("location"):
			call = policy.Request{Action: "s3:GetBucketLocation", Resource: bucket}
		case q.Has("policy"):
			call = policy.Request{Action: "s3:GetBucketPolicy", Resource: bucket}
		default:
			t.Errorf("%s %s: no call that is known here", s.request.Method, s.request.URL)
		}
	}
	return call, true
}

// TestDeployerRightsSuffice deploys and compares, and asks the deployer's policies about
// each call that is not CDK's in a role of the bootstrap.
func TestDeployerRightsSuffice(t *testing.T) {
	needCDK(t)
	moto := narrow(t)
	tpl := synthesized(t, "--account", account, "--deployer", "repo=vantagecompute/slurm-factory-publish,owner-id=111,repo-id=444")
	stack, _ := apply(t, config(t, machine.moto), tpl) // for the roles alone
	deploy := policies(t, config(t, machine.moto), stack, "slurm-factory-infra-deploy")
	diff := policies(t, config(t, machine.moto), stack, "slurm-factory-infra-diff")
	reset(t)

	mustInfra(t, moto.URL, "bootstrap", "--region", "us-east-1")
	moto.requests()
	mustInfra(t, moto.URL, "deploy", "--no-approval", "--output", t.TempDir(), "--tag", "a=b",
		"--athena", "--cloudtrail", "--alarm-email", "ops@example.com", "--monthly-budget", "50", "--cost-anomaly", "20", "--indexer-queue")
	suffice(t, "deploy", deploy, moto.requests())
	mustInfra(t, moto.URL, "deploy", "--no-approval", "--output", t.TempDir(), "--noncurrent-days", "60")
	suffice(t, "second deploy", deploy, moto.requests())
	infra(t, moto.URL, "diff", "--output", t.TempDir(), "--", "--method=template")
	suffice(t, "diff", diff, withoutHandOver(moto.requests()))
}

// withoutHandOver leaves out that CDK tries to assume its roles: where it may not, it
// continues with the caller's credentials.
func withoutHandOver(all []seen) []seen {
	var left []seen
	for _, s := range all {
		if !strings.Contains(string(s.body), "Action=AssumeRole") {
			left = append(left, s)
		}
	}
	return left
}

func suffice(t *testing.T, what string, docs []policy.Document, requests []seen) {
	t.Helper()
	asked := map[string]bool{}
	for _, s := range requests {
		call, own := ownCall(t, s)
		if !own {
			continue
		}
		asked[call.Action] = true
		if got := decide(t, docs, call); !got.Allowed {
			t.Errorf("%s: %s %s: %s", what, call.Action, call.Resource, got)
		}
	}
	if !asked["cloudformation:DescribeStacks"] || what == "deploy" && !asked["glue:GetDatabase"] {
		t.Errorf("%s: asked only for %v", what, asked)
	}
}
