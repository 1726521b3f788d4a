package e2e

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

const stackName = "SlurmFactoryInfraStack"

// last is the template that was uploaded last.
func (n *narrowed) last() template.Template { return n.uploaded[len(n.uploaded)-1] }

// policies are the stack policies that were set since the last call, oldest first.
func (n *narrowed) policies() []string {
	var all []string
	for _, s := range n.requests() {
		form, err := url.ParseQuery(string(s.body))
		if err == nil && form.Get("Action") == "SetStackPolicy" {
			all = append(all, form.Get("StackPolicyBody"))
		}
	}
	return all
}

func aliasesIn(t template.Template) []any {
	for _, id := range t.OfType("AWS::CloudFront::Distribution") {
		config := t.Resources[id].Properties["DistributionConfig"].(map[string]any)
		list, _ := config["Aliases"].([]any)
		return list
	}
	return nil
}

// protects says whether a stack policy denies to replace or delete a resource.
func protects(t *testing.T, policy, id string) bool {
	t.Helper()
	var p struct {
		Statement []struct {
			Effect, Principal string
			Action, Resource  []string
		}
	}
	if err := json.Unmarshal([]byte(policy), &p); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Statement {
		if s.Effect == "Deny" && s.Principal == "*" && slices.Contains(s.Action, "Update:Replace") && slices.Contains(s.Action, "Update:Delete") &&
			slices.Contains(s.Resource, "LogicalResourceId/"+id) {
			return true
		}
	}
	return false
}

// TestSettingsAreRemembered: once given, settings hold for later deployments by infra and
// by plain cdk. What others depend on goes only when it is named.
func TestSettingsAreRemembered(t *testing.T) {
	cdk := needCDK(t)
	account := narrow(t)
	zone, err := route53.NewFromConfig(config(t, machine.moto)).CreateHostedZone(context.Background(),
		&route53.CreateHostedZoneInput{Name: aws.String("example.com"), CallerReference: aws.String("1")})
	if err != nil {
		t.Fatal(err)
	}
	zoneID := strings.TrimPrefix(*zone.HostedZone.Id, "/hostedzone/")
	out := t.TempDir()
	deploy := func(flags ...string) result {
		t.Helper()
		return infra(t, account.URL, append([]string{"deploy", "--no-approval", "--output", out}, flags...)...)
	}
	plain := func(context ...string) result {
		t.Helper()
		args := []string{"--no-notices", "deploy", "--require-approval", "never", "--output", out}
		for _, c := range context {
			args = append(args, "-c", c)
		}
		return run(t, "..", awsEnv(account.URL), cdk, args...)
	}
	must := func(r result) {
		t.Helper()
		if r.code != 0 {
			t.Fatal(r)
		}
	}
	intact := func(when string) {
		t.Helper()
		tpl := account.last()
		if a := aliasesIn(tpl); len(a) != 1 || a[0] != domain || len(tpl.OfType("AWS::Route53::RecordSet")) != 2 || len(tpl.OfType("AWS::IAM::User")) != 1 {
			t.Errorf("%s: aliases %v, %d records, %d users", when, a, len(tpl.OfType("AWS::Route53::RecordSet")), len(tpl.OfType("AWS::IAM::User")))
		}
		if name := tpl.Resources["BinaryCacheBucketDC4CADE3"].Properties["BucketName"]; name != "slurm-factory-spack-buildcache-abcde" {
			t.Errorf("%s: the bucket would be %v", when, name)
		}
	}
	refused := func(what string, r result, uploads int, names ...string) {
		t.Helper()
		if r.code == 0 || len(account.uploaded) != uploads {
			t.Errorf("%s: was deployed: %s", what, r)
		}
		for _, name := range names {
			if !strings.Contains(r.stderr, "would take away") || !strings.Contains(r.stderr, "removal:"+name) {
				t.Errorf("%s: is not refused for removal:%s: %s", what, name, r)
			}
		}
	}

	mustInfra(t, account.URL, "bootstrap")
	must(deploy("--domain", domain, "--hosted-zone-id", zoneID, "--manual-user", "james", "--suffix", "abcde"))
	intact("first deployment")
	if set := account.policies(); len(set) != 1 || !protects(t, set[0], "BinaryCacheBucketDC4CADE3") || !protects(t, set[0], "AliasRecord851000D2") {
		t.Errorf("stack policies after the first deployment: %v", set)
	}
	if !account.guarded[stackName] {
		t.Error("the stack is not protected from termination")
	}

	must(deploy("--noncurrent-days", "60"))
	intact("infra deploy with one flag")
	if r := mustInfra(t, account.URL, "settings", "--deployed"); r.stdout != "domain: \""+domain+"\"\nhosted-zone-id: \""+zoneID+
		"\"\nmanual-user: \"james\"\nnoncurrent-days: \"60\"\nsuffix: \"abcde\"\nzone-name: \"example.com\"\n" {
		t.Errorf("remembered: %s", r)
	}
	must(plain("price-class=200"))
	intact("plain cdk deploy with one value")
	uploads := len(account.uploaded)
	must(plain())
	must(deploy())
	if len(account.uploaded) != uploads {
		t.Error("a deployment without settings changed the template")
	}
	account.requests()

	refused("domain", deploy("--domain", "none"), uploads, domain)
	refused("domain with cdk", plain("domain=none"), uploads, domain)
	refused("bucket", deploy("--suffix", "fghij"), uploads, "slurm-factory-spack-buildcache-abcde", "slurm-factory-spack-buildcache-abcde-logs")
	refused("bucket with cdk", plain("suffix=fghij"), uploads, "slurm-factory-spack-buildcache-abcde")
	refused("role", deploy("--maintain-environment", "none"), uploads, "slurm-factory-maintain")
	refused("role with cdk", plain("maintain-environment=none"), uploads, "slurm-factory-maintain")
	refused("user", deploy("--manual-user", "none"), uploads, "james")
	refused("provider", deploy("--oidc-provider-arn", providerArn), uploads, "token.actions.githubusercontent.com")
	refused("another one allowed", deploy("--domain", "none", "--manual-user", "none", "--allow", "removal:james"), uploads, domain)
	if r := mustInfra(t, account.URL, "diff", "--manual-user", "none", "--output", out, "--", "--method=template"); !strings.Contains(r.stderr, "deploy will refuse this") {
		t.Errorf("diff does not warn: %s", r)
	}
	if set := account.policies(); len(set) != 0 {
		t.Errorf("a refused deployment set stack policies: %v", set)
	}

	must(deploy("--domain", "none", "--allow", "removal:"+domain))
	if a := aliasesIn(account.last()); len(a) != 0 || len(account.last().OfType("AWS::IAM::User")) != 1 {
		t.Errorf("after an allowed removal: aliases %v", a)
	}
	// Lifted before the update, it fits what is deployed after it.
	if set := account.policies(); len(set) != 1 || protects(t, set[0], "AliasRecord851000D2") || !protects(t, set[0], "BinaryCacheBucketDC4CADE3") ||
		!protects(t, set[0], "GitHubActionsRole4F1BBA26") {
		t.Errorf("stack policies of an allowed removal: %v", set)
	}
	must(plain("manual-user=none", "allow=removal:james"))
	if len(account.last().OfType("AWS::IAM::User")) != 0 {
		t.Error("cdk: an allowed removal was not carried out")
	}
}

// TestAStackWithoutStoredSettings is one of an earlier version: nothing is remembered, and
// nothing goes silently either.
func TestAStackWithoutStoredSettings(t *testing.T) {
	needCDK(t)
	account := narrow(t)
	mustInfra(t, account.URL, "bootstrap")
	flags := []string{"--domain", domain, "--certificate-arn", "arn:aws:acm:us-east-1:123456789012:certificate/1"}
	mustInfra(t, account.URL, append([]string{"deploy", "--no-approval", "--output", t.TempDir()}, flags...)...)
	body := account.deployed[stackName]
	at := strings.Index(body, "SlurmFactory::Settings")
	if at < 0 {
		t.Fatal("the settings were not stored")
	}
	account.deployed[stackName] = strings.Replace(body, "SlurmFactory::Settings", "Something::Else", 1)
	r := infra(t, account.URL, "deploy", "--no-approval", "--output", t.TempDir())
	if r.code != 1 || !strings.Contains(r.stderr, "removal:"+domain) || !strings.Contains(r.stderr, "give them all once") {
		t.Errorf("%s", r)
	}
	// cdk that says --profile to nobody but itself, and an account that cannot be seen.
	r = run(t, "..", append(awsEnv(account.URL), "CDK_OUTDIR="+t.TempDir(), "CDK_DEFAULT_ACCOUNT=999999999999"), machine.infra, "synth")
	if r.code != 1 || !strings.Contains(r.stderr, "export AWS_PROFILE") {
		t.Errorf("another account's credentials: %s", r)
	}
}
