package e2e

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

const bucketName = "slurm-factory-spack-buildcache-34179" // follows from moto's account

// needCDK installs the pinned CDK command line tool as the documentation says.
func needCDK(t *testing.T) string {
	t.Helper()
	needMachine(t)
	path, err := filepath.Abs("../node_modules/.bin/cdk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if r := run(t, "..", os.Environ(), "npm", "ci", "--no-audit", "--no-fund"); r.code != 0 {
			t.Fatal(r)
		}
	}
	return path
}

// TestLifeOfAStack is what a user does, in order: bootstrap, deploy, look, change,
// destroy, and deploy again over the buckets that stayed.
func TestLifeOfAStack(t *testing.T) {
	needCDK(t)
	account := narrow(t)
	cfg := config(t, machine.moto)
	ctx := context.Background()
	zone, err := route53.NewFromConfig(cfg).CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: aws.String("example.com"), CallerReference: aws.String("1")})
	if err != nil {
		t.Fatal(err)
	}
	zoneID := strings.TrimPrefix(*zone.HostedZone.Id, "/hostedzone/")
	out := t.TempDir()
	// The zone's name is looked up, as the documentation promises for deploy.
	settings := []string{"--domain", domain, "--hosted-zone-id", zoneID, "--manual-user", "james", "--output", out}
	deploy := append([]string{"deploy", "--no-approval"}, settings...)

	mustInfra(t, account.URL, "bootstrap", "--region", "us-east-1")
	mustInfra(t, account.URL, deploy...)
	if len(account.uploaded) != 1 || len(account.uploaded[0].OfType("AWS::CloudFront::Distribution")) != 1 {
		t.Fatalf("cdk uploaded %d templates, want 1 with the distribution", len(account.uploaded))
	}
	sets := account.changeSets()
	if len(sets) != 1 || sets[0].Get("ImportExistingResources") != "true" {
		t.Fatalf("the change set does not import existing resources: %v", sets)
	}
	if !exists(t, bucketName) || !exists(t, bucketName+"-logs") {
		t.Error("a bucket was not made")
	}
	for _, role := range []string{"slurm-factory-github-actions", "slurm-factory-maintain"} {
		if _, err := iam.NewFromConfig(cfg).GetRole(ctx, &iam.GetRoleInput{RoleName: &role}); err != nil {
			t.Error(err)
		}
	}
	if _, err := iam.NewFromConfig(cfg).GetUser(ctx, &iam.GetUserInput{UserName: aws.String("james")}); err != nil {
		t.Error(err)
	}

	diff := append([]string{"diff"}, settings...)
	if r := mustInfra(t, account.URL, append(diff, "--", "--method=template")...); !strings.Contains(r.stdout+r.stderr, "no differences") {
		t.Errorf("diff with the settings that are deployed shows a difference: %s", r)
	}
	if r := mustInfra(t, account.URL, append(diff, "--price-class", "200", "--", "--method=template")...); !strings.Contains(r.stdout+r.stderr, "AWS::CloudFront::Distribution") {
		t.Errorf("diff does not show the changed distribution: %s", r)
	}
	if r := mustInfra(t, account.URL, append(diff, "--trust-any-ref", "--", "--method=template")...); !strings.Contains(r.stdout+r.stderr, "trusts every run") {
		t.Errorf("cdk does not show the warning: %s", r)
	}
	if r := infra(t, account.URL, append(diff, "--price-class", "200", "--fail", "--", "--method=template")...); r.code != 1 {
		t.Errorf("diff --fail: want cdk's exit code 1, have %s", r)
	}
	if r := infra(t, account.URL, append(deploy, "--", "--no-such-flag=x", "--app=nowhere")...); r.code == 0 {
		t.Errorf("cdk's failure was swallowed: %s", r)
	}
	// None of the settings is given from here on: the stack remembers them.
	if r := infra(t, account.URL, "destroy", "--force", "--output", out); r.code != 1 || !strings.Contains(r.stderr, "hint: infra destroy --allow removal:SlurmFactoryInfraStack") {
		t.Errorf("destroy of a protected stack: %s", r)
	}
	destroy := []string{"destroy", "--allow", "removal:SlurmFactoryInfraStack", "--output", out}
	declined := runWithInput(t, account.URL, "n\n", destroy...)
	if declined.code != 1 || !strings.Contains(declined.stderr, "nothing was destroyed") {
		t.Errorf("destroy that was declined: %s", declined)
	}
	for _, want := range []string{"Role slurm-factory-github-actions", "Distribution ", "stays, with what is in it:\n  Bucket " + bucketName + "\n", "User james"} {
		if !strings.Contains(declined.stderr, want) {
			t.Errorf("destroy does not name %q before it asks: %s", want, declined)
		}
	}

	r := mustInfra(t, account.URL, append(destroy, "--force")...)
	for _, want := range []string{"retained: s3://" + bucketName, "s3://" + bucketName + "-logs", "infra deploy with the same settings adopts them", "OIDC provider", `domain: "` + domain + `"`} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("destroy does not say %q: %s", want, r)
		}
	}
	if !exists(t, bucketName) {
		t.Fatal("the bucket went with the stack")
	}
	if _, err := iam.NewFromConfig(cfg).GetUser(ctx, &iam.GetUserInput{UserName: aws.String("james")}); err != nil {
		t.Errorf("the manual user went with the stack: %v", err)
	}
	account.requests()

	// Another setting, since cdk does not upload a template that it has uploaded before.
	mustInfra(t, account.URL, append(deploy, "--noncurrent-days", "60")...)
	if sets := account.changeSets(); len(sets) != 1 || sets[0].Get("ImportExistingResources") != "true" {
		t.Errorf("the second deployment does not adopt the bucket: %v", sets)
	}
}

func runWithInput(t *testing.T, endpoint, input string, args ...string) result {
	t.Helper()
	cmd := exec.Command(machine.infra, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = "..", awsEnv(endpoint), strings.NewReader(input), &stdout, &stderr
	_ = cmd.Run()
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// TestNarrowDeployment is what docs/infra-security.md says of an account in which even
// CloudFormation has no administrator rights.
func TestNarrowDeployment(t *testing.T) {
	needCDK(t)
	account := narrow(t)
	ctx := context.Background()
	c := iam.NewFromConfig(config(t, machine.moto))
	settings := []string{"--account", "123456789012", "--permissions-boundary", "cache-boundary"}
	arns := map[string]string{}
	for _, name := range []string{"boundary", "execution"} {
		r := mustInfra(t, account.URL, append([]string{"policy", name}, settings...)...)
		out, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("cache-" + name), PolicyDocument: &r.stdout})
		if err != nil {
			t.Fatal(err)
		}
		arns[name] = *out.Policy.Arn
	}
	mustInfra(t, account.URL, "bootstrap", "--", "--cloudformation-execution-policies", arns["execution"])
	// moto's CloudFormation does not attach policies to a role: see what cdk asks for.
	given := 0
	for _, s := range account.requests() {
		if form, err := url.ParseQuery(string(s.body)); err == nil && form.Get("Action") == "CreateChangeSet" {
			for key := range form {
				if form.Get(key) == "CloudFormationExecutionPolicies" && form.Get(strings.Replace(key, "Key", "Value", 1)) == arns["execution"] {
					given++
				}
			}
		}
	}
	if given != 1 {
		t.Errorf("cdk gives the execution policy to CloudFormation %d times, want once", given)
	}

	mustInfra(t, account.URL, append([]string{"deploy", "--no-approval", "--output", t.TempDir()}, settings...)...)
	for _, role := range []string{"slurm-factory-github-actions", "slurm-factory-maintain"} {
		out, err := c.GetRole(ctx, &iam.GetRoleInput{RoleName: &role})
		if err != nil {
			t.Fatal(err)
		}
		if b := out.Role.PermissionsBoundary; b == nil || *b.PermissionsBoundaryArn != arns["boundary"] {
			t.Errorf("%s has the boundary %+v", role, b)
		}
	}
}

// TestPlainCDK deploys without our command line: npx cdk deploy, with cdk.json and
// values of the context.
func TestPlainCDK(t *testing.T) {
	cdk := needCDK(t)
	account := narrow(t)
	mustInfra(t, account.URL, "bootstrap")
	r := run(t, "..", awsEnv(account.URL), cdk, "--no-notices", "deploy", "--import-existing-resources", "--require-approval", "never", "--output", t.TempDir(),
		"-c", "config=vantage.yaml", "-c", "suffix=abcde", "-c", "zone-name=vantagecompute.ai")
	if r.code != 0 {
		t.Fatal(r)
	}
	if len(account.uploaded) != 1 {
		t.Fatalf("cdk uploaded %d templates", len(account.uploaded))
	}
	tpl := account.uploaded[0]
	if name := tpl.Resources["BinaryCacheBucketDC4CADE3"].Properties["BucketName"]; name != "slurm-factory-spack-buildcache-abcde" {
		t.Errorf("context suffix was not taken: %v", name)
	}
	if len(tpl.OfType("AWS::IAM::User")) != 1 || len(tpl.OfType("AWS::CertificateManager::Certificate")) != 1 {
		t.Error("the file of the context's config was not taken")
	}
	sets := account.changeSets()
	if len(sets) != 1 || sets[0].Get("ImportExistingResources") != "true" {
		t.Errorf("change sets %v", sets)
	}
}

// TestPreflight: what would fail in CloudFormation after minutes fails at once.
func TestPreflight(t *testing.T) {
	needCDK(t)
	ctx := context.Background()
	cfg := config(t, machine.moto)
	if _, err := iam.NewFromConfig(cfg).CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{
		Url: aws.String("https://token.actions.githubusercontent.com"), ThumbprintList: []string{strings.Repeat("0", 40)}}); err != nil {
		t.Fatal(err)
	}
	r := infra(t, machine.moto, "deploy", "--no-approval", "--output", t.TempDir(), "--oidc-provider-arn", providerArn)
	if r.code == 0 || !strings.Contains(r.stderr, "hint: the account is not bootstrapped in us-east-1: infra bootstrap") {
		t.Errorf("an account that is not bootstrapped: %s", r)
	}
	r = infra(t, machine.moto, "deploy", "--no-approval", "--output", t.TempDir())
	if r.code != 1 || !strings.Contains(r.stderr, "hint: add --oidc-provider-arn "+providerArn) {
		t.Errorf("an account that has a provider: %s", r)
	}
	r = infra(t, machine.moto, "deploy", "--account", "999999999999", "--output", t.TempDir())
	if r.code != 1 || !strings.Contains(r.stderr, "the credentials belong to "+account) {
		t.Errorf("another account: %s", r)
	}
	r = infra(t, machine.moto, "deploy", "--domain", domain, "--hosted-zone-id", "ZNOSUCH", "--output", t.TempDir())
	if r.code != 1 || !strings.Contains(r.stderr, "look up hosted zone ZNOSUCH") || !strings.Contains(r.stderr, "list-hosted-zones") {
		t.Errorf("unknown zone: %s", r)
	}
	r = infra(t, machine.moto, "deploy", "--existing-bucket", "no-such-bucket", "--output", t.TempDir())
	if r.code != 1 || !strings.Contains(r.stderr, "look for bucket no-such-bucket") || !strings.Contains(r.stderr, "aws s3 ls") {
		t.Errorf("a bucket that is not there: %s", r)
	}
	// /dev/null passes for a person, who is not asked when the answer would be of no use.
	for _, refused := range [][]string{{"--noncurrent-days", "0"}, {"--existing-bucket", "no-such-bucket"}, {}} {
		r = infra(t, machine.moto, append([]string{"deploy", "--output", t.TempDir()}, refused...)...)
		if r.code == 0 || strings.Contains(r.stderr, "Address that receives") {
			t.Errorf("deploy %v asks before it refuses: %s", refused, r)
		}
	}
}

// TestStacksOfOtherAppsAreLeftAlone: a name that was mistaken takes nothing away, also
// what readers and publishers do not depend on.
func TestStacksOfOtherAppsAreLeftAlone(t *testing.T) {
	needCDK(t)
	cf := cloudformation.NewFromConfig(config(t, machine.moto))
	ctx := context.Background()
	if _, err := cf.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("Other"), TemplateBody: aws.String(
		`{"Resources": {"T": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "other"}}}, "Outputs": {"T": {"Value": {"Ref": "T"}}}}`)}); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"deploy --no-approval", "deploy --revert-drift", "diff", "drift", "destroy --force", "doctor", "adopt --force", "settings --deployed"} {
		r := infra(t, machine.moto, append(strings.Fields(command), "--stack-name", "Other")...)
		if r.code != 1 || !strings.Contains(r.stderr, "stack Other is another app's") || !strings.Contains(r.stderr, "hint: --stack-name and --name-prefix") {
			t.Errorf("infra %s: %s", command, r)
		}
	}
	out, err := cf.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String("Other")})
	if err != nil || out.Stacks[0].StackStatus != "CREATE_COMPLETE" {
		t.Errorf("%+v %v", out, err)
	}
}

// TestOutputs reads the outputs of a stack in every format.
func TestOutputs(t *testing.T) {
	needMachine(t)
	ctx := context.Background()
	cf := cloudformation.NewFromConfig(config(t, machine.moto))
	if r := infra(t, machine.moto, "outputs"); r.code != 1 || !strings.Contains(r.stderr, "there is no stack SlurmFactoryInfraStack") {
		t.Errorf("no stack: %s", r)
	}
	if _, err := cf.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("SlurmFactoryInfraStack"), TemplateBody: aws.String(`{
		"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "cache"}}},
		"Outputs": {"BucketName": {"Value": {"Ref": "B"}, "Description": "the bucket"}, "PublicUrl": {"Value": "https://it's.example"}}}`)}); err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{
		"table": "BucketName  cache                 the bucket",
		"json":  `"BucketName": "cache"`,
		"env":   `PUBLIC_URL='https://it'\''s.example'`,
	} {
		if r := mustInfra(t, machine.moto, "outputs", "--format", format); !strings.Contains(r.stdout, want) {
			t.Errorf("%s: no %q in %s", format, want, r)
		}
	}
	file := filepath.Join(t.TempDir(), "output")
	env := append(awsEnv(machine.moto), "GITHUB_OUTPUT="+file)
	if r := run(t, "..", env, machine.infra, "outputs", "--format", "github"); r.code != 0 {
		t.Fatal(r)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "BucketName=cache\nPublicUrl=https://it's.example\n" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := cf.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("Silent"), TemplateBody: aws.String(
		`{"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "silent"}}}}`)}); err != nil {
		t.Fatal(err)
	}
	if r := infra(t, machine.moto, "outputs", "--stack-name", "Silent", "--format", "env"); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "stack Silent has no outputs") {
		t.Errorf("outputs of nothing: %s", r)
	}
	// A change set that was made and never carried out leaves a stack that is only a name.
	if _, err := cf.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{StackName: aws.String("Reviewed"), ChangeSetName: aws.String("c"), ChangeSetType: "CREATE",
		TemplateBody: aws.String(`{"Resources": {"B": {"Type": "AWS::S3::Bucket"}}}`)}); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"outputs", "doctor", "drift", "settings --deployed"} {
		if r := infra(t, machine.moto, append(strings.Fields(command), "--stack-name", "Reviewed")...); r.code != 1 ||
			!strings.Contains(r.stderr, "is in REVIEW_IN_PROGRESS") || !strings.Contains(r.stderr, "hint: infra deploy makes the stack") {
			t.Errorf("%s of a stack in review: %s", command, r)
		}
	}
	if r := infra(t, machine.moto, "outputs", "--format", "xml"); r.code != 2 {
		t.Errorf("unknown format: %s", r)
	}
	if r := infra(t, machine.moto, "outputs", "--format", "github"); r.code != 2 || !strings.Contains(r.stderr, "GITHUB_OUTPUT is not set") {
		t.Errorf("outside a workflow: %s", r)
	}
}

// A pythonStack is a deployed stack of the Python app, as CloudFormation shows it; moto
// cannot make its custom resource. Everything else is asked of moto.
type pythonStack struct {
	moto     *httputil.ReverseProxy
	template string
	updates  []url.Values
}

func (p *pythonStack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	setBody(r, body)
	form, _ := url.ParseQuery(string(body))
	status := "CREATE_COMPLETE"
	if len(p.updates) > 0 {
		status = "UPDATE_COMPLETE"
	}
	switch form.Get("Action") {
	case "GetTemplate":
		var escaped bytes.Buffer
		_ = xml.EscapeText(&escaped, []byte(p.template))
		fmt.Fprintf(w, "<GetTemplateResponse><GetTemplateResult><TemplateBody>%s</TemplateBody></GetTemplateResult></GetTemplateResponse>", &escaped)
	case "DescribeStacks":
		fmt.Fprintf(w, `<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>SlurmFactoryInfraStack</StackName>
			<StackStatus>%s</StackStatus><Parameters><member><ParameterKey>BootstrapVersion</ParameterKey></member></Parameters>
			</member></Stacks></DescribeStacksResult></DescribeStacksResponse>`, status)
	case "UpdateStack":
		p.updates = append(p.updates, form)
		p.template = form.Get("TemplateBody")
		fmt.Fprint(w, "<UpdateStackResponse><UpdateStackResult><StackId>id</StackId></UpdateStackResult></UpdateStackResponse>")
	default:
		p.moto.ServeHTTP(w, r)
	}
}

// TestAdoption prepares a stack of the Python app: its provider, made by a custom
// resource, must survive its taking over.
func TestAdoption(t *testing.T) {
	needMachine(t)
	if r := infra(t, machine.moto, "adopt", "--force"); r.code != 1 || !strings.Contains(r.stderr, "there is no stack") {
		t.Errorf("nothing to adopt: %s", r)
	}
	target, err := url.Parse(machine.moto)
	if err != nil {
		t.Fatal(err)
	}
	stack := &pythonStack{moto: httputil.NewSingleHostReverseProxy(target), template: `{"Resources": {
		"BinaryCacheBucketDC4CADE3": {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Properties": {"BucketName": "cache"}},
		"GitHubOIDC66557355": {"Type": "Custom::AWSCDKOpenIdConnectProvider", "DeletionPolicy": "Delete", "Properties": {"Url": "x"}}}}`}
	before := stack.template
	server := httptest.NewServer(stack)
	defer server.Close()

	deploy := []string{"deploy", "--no-approval", "--output", t.TempDir()}
	if r := infra(t, server.URL, deploy...); r.code != 1 || !strings.Contains(r.stderr, "hint: run infra adopt first") {
		t.Errorf("deploy over an unprepared stack: %s", r)
	}
	if r := runWithInput(t, server.URL, "n\n", "adopt"); r.code != 1 || !strings.Contains(r.stderr, "nothing was changed") || stack.template != before {
		t.Errorf("adoption that was declined: %s", r)
	}
	for range 2 { // the second time finds nothing to do
		if r := mustInfra(t, server.URL, "adopt", "--force"); !strings.Contains(r.stderr, "infra deploy --config FILE --oidc-provider-arn "+providerArn) {
			t.Errorf("%s", r)
		}
	}
	if len(stack.updates) != 1 || stack.updates[0].Get("Capabilities.member.1") != "CAPABILITY_NAMED_IAM" ||
		stack.updates[0].Get("Parameters.member.1.UsePreviousValue") != "true" {
		t.Errorf("updates %v", stack.updates)
	}
	tpl, err := template.Parse([]byte(stack.template))
	if err != nil {
		t.Fatal(err)
	}
	provider := tpl.Resources["GitHubOIDC66557355"]
	if provider.DeletionPolicy != "Retain" || provider.Properties["Url"] != "x" || len(tpl.Resources) != 2 {
		t.Errorf("%+v", tpl)
	}
	adopted := stack.template
	stack.template = `{"Resources": {"BinaryCacheBucketDC4CADE3": {"Type": "AWS::S3::Bucket"}}}`
	if r := mustInfra(t, server.URL, "adopt", "--force"); !strings.Contains(r.stderr, "there is nothing to adopt") || len(stack.updates) != 1 {
		t.Errorf("a stack that is not the Python app's: %s", r)
	}
	stack.template = adopted
	if r := infra(t, server.URL, deploy...); r.code != 1 || !strings.Contains(r.stderr, "hint: add --oidc-provider-arn "+providerArn) {
		t.Errorf("deploy without the provider: %s", r)
	}
}
