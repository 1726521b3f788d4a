package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestTakenNamesAreFoundBeforeAnythingIsMade: each name that CloudFormation would stumble
// over is found, all at once, and each bucket that it could not adopt.
func TestTakenNamesAreFoundBeforeAnythingIsMade(t *testing.T) {
	needMachine(t)
	cfg, _, _ := deployAll(t) // outside of any stack: every name is taken
	target := record(t)
	target.Answer = edgeNames
	ctx := context.Background()
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for _, b := range []string{"slurm-factory-spack-buildcache-abroad", "slurm-factory-spack-buildcache-abroad-logs"} {
		if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b, CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"}}); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing but the names of others is in the way: the zone and the provider are given.
	zones, err := route53.NewFromConfig(cfg).ListHostedZones(ctx, &route53.ListHostedZonesInput{})
	if err != nil {
		t.Fatal(err)
	}
	flags := append([]string{"deploy", "--no-approval", "--output", t.TempDir(), "--oidc-provider-arn", providerArn,
		"--hosted-zone-id", strings.TrimPrefix(*zones.HostedZones[0].Id, "/hostedzone/")}, everything...)
	r := infra(t, target.URL, flags...)
	for _, want := range []string{
		"nothing was made",
		"bucket " + bucketName + " has a policy already",
		"bucket " + bucketName + "-logs has a policy already",
		"bucket " + bucketName + "-replica has a policy already",
		"role slurm-factory-github-actions exists already",
		"role slurm-factory-maintain exists already",
		"role slurm-factory-slurm exists already",
		"role slurm-factory-indexer exists already",
		"instance profile slurm-factory-indexer exists already",
		"domain " + domain + " belongs to distribution E0OTHER",
		"cache policy spack-buildcache-policy-34179 exists already",
		"response headers policy spack-buildcache-cors-34179 exists already",
		"origin access control SlurmFactoryInfraStackOAC",
		"A record " + domain + " in zone ",
		"AAAA record " + domain + " in zone ",
		"alarm SlurmFactoryInfraStack-high-error-rate exists already",
		"dashboard SlurmFactoryInfraStack exists already",
		"log delivery source SlurmFactoryInfraStack-access exists already",
		"log delivery destination SlurmFactoryInfraStack-access exists already",
		"queue SlurmFactoryInfraStack-indexer exists already",
		"trail SlurmFactoryInfraStack-writes exists already",
		"budget SlurmFactoryInfraStack-monthly exists already",
		"cost anomaly monitor SlurmFactoryInfraStack-costs exists already",
		"cost anomaly subscription SlurmFactoryInfraStack-costs exists already",
		"Athena workgroup SlurmFactoryInfraStack exists already",
		"key alias/slurm-factory-signing exists already",
		"Glue database slurmfactoryinfrastack exists already",
		"Glue table slurmfactoryinfrastack.cdn_requests exists already",
		"Glue table slurmfactoryinfrastack.bucket_requests exists already",
	} {
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("preflight does not say %q: %s", want, r)
		}
	}
	if strings.Contains(r.stderr, "user james") {
		t.Errorf("the user, who would be adopted, is in the way: %s", r)
	}
	r = infra(t, target.URL, "deploy", "--no-approval", "--output", t.TempDir(), "--oidc-provider-arn", providerArn, "--suffix", "abroad")
	if r.code != 1 || !strings.Contains(r.stderr, "bucket slurm-factory-spack-buildcache-abroad is in eu-west-1, and the stack is in us-east-1") {
		t.Errorf("a bucket of another region: %s", r)
	}
	for _, s := range target.requests() {
		if form, err := url.ParseQuery(string(s.body)); err == nil && (form.Get("Action") == "CreateChangeSet" || form.Get("Action") == "CreateStack") {
			t.Error("CloudFormation was asked to make something")
		}
	}
}

// edgeNames plays CloudFront's lists and Cost Explorer's, which moto lacks or fills with nothing.
func edgeNames(w http.ResponseWriter, r *http.Request, _ []byte) bool {
	switch r.Header.Get("X-Amz-Target") {
	case "AWSInsightsIndexService.GetAnomalyMonitors":
		fmt.Fprint(w, `{"AnomalyMonitors":[{"MonitorName":"SlurmFactoryInfraStack-costs"}]}`)
		return true
	case "AWSInsightsIndexService.GetAnomalySubscriptions":
		fmt.Fprint(w, `{"AnomalySubscriptions":[{"SubscriptionName":"SlurmFactoryInfraStack-costs"}]}`)
		return true
	}
	w.Header().Set("Content-Type", "text/xml")
	switch r.URL.Path {
	case "/2020-05-31/distribution":
		fmt.Fprintf(w, "<DistributionList><IsTruncated>false</IsTruncated><Items><DistributionSummary><Id>E0OTHER</Id>"+
			"<Aliases><Quantity>1</Quantity><Items><CNAME>%s</CNAME></Items></Aliases></DistributionSummary></Items></DistributionList>", domain)
	case "/2020-05-31/cache-policy":
		fmt.Fprint(w, "<CachePolicyList><Items><CachePolicySummary><CachePolicy><CachePolicyConfig><Name>spack-buildcache-policy-34179</Name>"+
			"</CachePolicyConfig></CachePolicy></CachePolicySummary></Items></CachePolicyList>")
	case "/2020-05-31/response-headers-policy":
		fmt.Fprint(w, "<ResponseHeadersPolicyList><Items><ResponseHeadersPolicySummary><ResponseHeadersPolicy><ResponseHeadersPolicyConfig>"+
			"<Name>spack-buildcache-cors-34179</Name></ResponseHeadersPolicyConfig></ResponseHeadersPolicy></ResponseHeadersPolicySummary></Items></ResponseHeadersPolicyList>")
	default:
		return false
	}
	return true
}

// TestNamesOfOthers: what belongs to another stack or another account is not adopted.
func TestNamesOfOthers(t *testing.T) {
	needMachine(t)
	ctx := context.Background()
	cfg := config(t, machine.moto)
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucketName)}); err != nil {
		t.Fatal(err)
	}
	if _, err := iam.NewFromConfig(cfg).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("james")}); err != nil {
		t.Fatal(err)
	}
	rec := record(t)
	foreign := false
	rec.Answer = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		form, _ := url.ParseQuery(string(body))
		switch {
		case form.Get("Action") == "DescribeStackResources" && form.Get("PhysicalResourceId") != "":
			fmt.Fprintf(w, "<DescribeStackResourcesResponse><DescribeStackResourcesResult><StackResources><member><StackName>Other</StackName>"+
				"<PhysicalResourceId>%s</PhysicalResourceId><ResourceStatus>CREATE_COMPLETE</ResourceStatus></member></StackResources></DescribeStackResourcesResult></DescribeStackResourcesResponse>",
				form.Get("PhysicalResourceId"))
			return true
		case foreign && r.URL.Path == "/" && r.Method == http.MethodGet: // whose buckets are there?
			fmt.Fprint(w, "<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>")
			return true
		}
		return false
	}
	deploy := []string{"deploy", "--no-approval", "--output", t.TempDir(), "--manual-user", "james"}
	if r := infra(t, rec.URL, deploy...); r.code != 1 || !strings.Contains(r.stderr, "bucket "+bucketName+" belongs to stack Other") ||
		!strings.Contains(r.stderr, "user james belongs to stack Other") || !strings.Contains(r.stderr, "--name-prefix staging") {
		t.Errorf("names of another stack: %s", r)
	}
	foreign = true
	if r := infra(t, rec.URL, deploy...); r.code != 1 || !strings.Contains(r.stderr, "bucket "+bucketName+" belongs to another account") {
		t.Errorf("a bucket of another account: %s", r)
	}
}

// looks are the calls with which preflight looks for names. All of them can be denied.
var looks = []string{
	"DescribeStackResources", "GetRole", "GetUser", "GetInstanceProfile", "GetOpenIDConnectProvider", "DescribeAlarms", "GetDashboard",
	"Logs_20140328.GetDeliverySource", "Logs_20140328.GetDeliveryDestination", "AmazonSQS.GetQueueUrl", "CloudTrail_20131101.GetTrail",
	"AWSBudgetServiceGateway.DescribeBudget", "AWSInsightsIndexService.GetAnomalyMonitors", "AWSInsightsIndexService.GetAnomalySubscriptions",
	"AmazonAthena.ListWorkGroups", "AWSGlue.GetDatabase", "AWSGlue.GetTable", "TrentService.DescribeKey",
	"/2020-05-31/distribution", "/2020-05-31/origin-access-control", "/2020-05-31/cache-policy", "/2020-05-31/response-headers-policy",
}

// TestDeploymentByNarrowCredentials: what may not be looked at is warned of, and the
// deployment continues.
func TestDeploymentByNarrowCredentials(t *testing.T) {
	needCDK(t)
	account := narrow(t)
	mustInfra(t, account.URL, "bootstrap")
	deny, denied := account.Answer, map[string]bool{}
	account.Answer = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		form, _ := url.ParseQuery(string(body))
		call := r.Header.Get("X-Amz-Target")
		if call == "" {
			call = form.Get("Action")
		}
		if call == "" {
			call = r.URL.Path
		}
		ours := strings.Contains(r.Header.Get("Authorization"), "Credential=test/") // and not CDK's, in a role
		if !ours || !slices.Contains(looks, call) || call == "DescribeStackResources" && form.Get("PhysicalResourceId") == "" {
			return deny(w, r, body)
		}
		denied[call] = true
		w.WriteHeader(http.StatusForbidden)
		if strings.Contains(call, ".") {
			fmt.Fprint(w, `{"__type":"AccessDeniedException","message":"not authorized"}`)
		} else {
			fmt.Fprint(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>")
		}
		return true
	}
	if _, err := s3.NewFromConfig(config(t, machine.moto), func(o *s3.Options) { o.UsePathStyle = true }).CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String(bucketName)}); err != nil {
		t.Fatal(err)
	}
	r := infra(t, account.URL, "deploy", "--no-approval", "--output", t.TempDir(), "--indexer-queue", "--cloudtrail", "--athena", "--manual-user", "james",
		"--alarm-email", "ops@example.com", "--monthly-budget", "50", "--cost-anomaly", "20", "--signing-key", "new", "--domain", domain,
		"--certificate-arn", "arn:aws:acm:us-east-1:123456789012:certificate/1")
	if r.code != 0 {
		t.Fatal(r)
	}
	for _, call := range looks {
		if !denied[call] {
			t.Errorf("%s was not asked for", call)
		}
	}
	if !strings.Contains(r.stderr, "could not be seen: BinaryCacheBucket") || strings.Count(r.stderr, "could not be seen") < 20 {
		t.Errorf("what could not be seen is not said: %s", r)
	}
}

// TestStagingBesideProduction: a second deployment in the account shares the identity
// provider and no name, and is found by its prefix.
func TestStagingBesideProduction(t *testing.T) {
	needCDK(t)
	account := narrow(t)
	ctx := context.Background()
	cfg := config(t, machine.moto)
	mustInfra(t, account.URL, "bootstrap")
	out := t.TempDir()
	flags := []string{"deploy", "--no-approval", "--output", out, "--indexer-queue"}
	mustInfra(t, account.URL, flags...)
	// moto's CloudFormation does not make the provider.
	if _, err := iam.NewFromConfig(cfg).CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{
		Url: aws.String("https://token.actions.githubusercontent.com"), ThumbprintList: []string{strings.Repeat("0", 40)}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "staging.yaml")
	if err := os.WriteFile(file, []byte("name-prefix: staging\nindexer-queue: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := mustInfra(t, account.URL, "deploy", "--no-approval", "--output", out, "--config", file)
	if !strings.Contains(r.stderr, "shares: "+providerArn) {
		t.Errorf("the provider is not shared: %s", r)
	}
	production, staging := account.uploaded[0], account.uploaded[1]
	if n := len(staging.OfType("AWS::IAM::OIDCProvider")); n != 0 {
		t.Errorf("staging makes %d providers", n)
	}
	for id, r := range staging.Resources {
		if old := production.Resources[id]; old.Type == r.Type {
			for _, p := range []string{"BucketName", "RoleName", "InstanceProfileName", "QueueName", "AlarmName", "DashboardName", "Name"} {
				if v, ok := r.Properties[p].(string); ok && v == old.Properties[p] {
					t.Errorf("%s: %s %s is production's", id, p, v)
				}
			}
			for _, p := range []string{"CachePolicyConfig", "ResponseHeadersPolicyConfig", "OriginAccessControlConfig"} {
				if v, ok := r.Properties[p].(map[string]any); ok && v["Name"] == old.Properties[p].(map[string]any)["Name"] {
					t.Errorf("%s: %v is production's", id, v["Name"])
				}
			}
		}
	}
	if account.guarded["staging-"+stackName] || !account.guarded[stackName] {
		t.Errorf("protected: %v, want production alone", account.guarded)
	}
	if set := account.policies(); len(set) != 1 {
		t.Errorf("%d stack policies were set, want production's alone", len(set))
	}
	// Every command that looks at a stack finds it by the same settings.
	for _, env := range []string{"SPACK_CACHE_NAME_PREFIX=staging", "SPACK_CACHE_STACK_NAME=staging-" + stackName, "SPACK_CACHE_CONFIG=" + file} {
		for _, command := range []string{"outputs", "doctor", "adopt", "settings --deployed"} {
			r := run(t, "..", append(awsEnv(account.URL), env), machine.infra, strings.Fields(command)...)
			if !strings.Contains(r.stdout+r.stderr, "staging") {
				t.Errorf("%s infra %s does not look at staging: %s", env, command, r)
			}
		}
	}
}

// TestCDKAndInfraMakeTheSameTemplate: whichever starts the app.
func TestCDKAndInfraMakeTheSameTemplate(t *testing.T) {
	cdk := needCDK(t)
	ours, theirs := t.TempDir(), t.TempDir()
	mustInfra(t, machine.moto, "synth", "--config", "vantage.yaml", "--account", account, "--output", ours)
	if r := run(t, "..", awsEnv(machine.moto), cdk, "--no-notices", "synth", "--quiet", "--output", theirs, "-c", "config=vantage.yaml"); r.code != 0 {
		t.Fatal(r)
	}
	var templates []string
	for _, dir := range []string{ours, theirs} {
		b, err := os.ReadFile(filepath.Join(dir, stackName+".template.json"))
		if err != nil {
			t.Fatal(err)
		}
		templates = append(templates, string(b))
	}
	if templates[0] != templates[1] {
		t.Errorf("infra synth writes %d bytes, cdk synth %d", len(templates[0]), len(templates[1]))
	}
	if !strings.Contains(templates[0], "aws:cdk:path") {
		t.Error("the template lacks the paths by which the console shows a tree")
	}
}
