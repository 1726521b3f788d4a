package infra

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

var update = flag.Bool("update", false, "rewrite testdata and the generated parts of the docs")

// built keeps each variant's template: building one costs 0.1 s, reading it nothing.
var built = struct {
	sync.Mutex
	m map[string]assertions.Template
}{m: map[string]assertions.Template{}}

func build(t *testing.T, name string) assertions.Template {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if tpl, ok := built.m[name]; ok {
		return tpl
	}
	c, ok := variants()[name]
	if !ok {
		t.Fatalf("no variant %s", name)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	_, stack := NewApp(c, t.TempDir())
	built.m[name] = assertions.Template_FromStack(stack, nil)
	return built.m[name]
}

// parsed is the variant's template as our own reader sees it.
func parsed(t *testing.T, name string) template.Template {
	t.Helper()
	b, err := json.Marshal(build(t, name).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	tpl, err := template.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

type props = map[string]any

func like(pairs props) assertions.Matcher { return assertions.Match_ObjectLike(&pairs) }

func list(items ...any) assertions.Matcher { return assertions.Match_ArrayWith(&items) }

func has(t *testing.T, variant, kind string, want props) {
	t.Helper()
	defer notFound(t)
	build(t, variant).HasResourceProperties(jsii.String(kind), want)
}

func counts(t *testing.T, variant, kind string, want float64) {
	t.Helper()
	defer notFound(t)
	build(t, variant).ResourceCountIs(jsii.String(kind), jsii.Number(want))
}

// notFound turns the panic with which CDK's assertions fail into a test error.
func notFound(t *testing.T) {
	t.Helper()
	if p := recover(); p != nil {
		t.Errorf("%v", p)
	}
}

func TestEveryVariantHasWhatTheReferencePromises(t *testing.T) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) {
			has(t, name, "AWS::S3::Bucket", props{
				"BucketName":                     c.Bucket(),
				"VersioningConfiguration":        props{"Status": "Enabled"},
				"BucketEncryption":               like(props{"ServerSideEncryptionConfiguration": list(props{"ServerSideEncryptionByDefault": props{"SSEAlgorithm": "AES256"}})}),
				"OwnershipControls":              props{"Rules": []any{props{"ObjectOwnership": "BucketOwnerEnforced"}}},
				"PublicAccessBlockConfiguration": props{"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true},
				"LifecycleConfiguration": props{"Rules": list(
					like(props{"Id": "DeleteOldVersions", "NoncurrentVersionExpiration": props{"NoncurrentDays": 90}, "Status": "Enabled"}),
					like(props{"AbortIncompleteMultipartUpload": props{"DaysAfterInitiation": 3}}),
					like(props{"ExpiredObjectDeleteMarker": true}),
				)},
				"LoggingConfiguration": like(props{"LogFilePrefix": "s3/"}),
				"CorsConfiguration":    like(props{"CorsRules": list(like(props{"AllowedOrigins": []any{"*"}, "AllowedMethods": []any{"GET", "HEAD"}}))}),
			})
			has(t, name, "AWS::S3::Bucket", props{
				"BucketName":              c.LogBucket(),
				"VersioningConfiguration": props{"Status": "Enabled"},
				"LifecycleConfiguration": props{"Rules": list(
					like(props{"ExpirationInDays": 90, "NoncurrentVersionExpiration": props{"NoncurrentDays": 30}}),
					like(props{"ExpiredObjectDeleteMarker": true}))},
			})
			has(t, name, "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{
				"Enabled":     true,
				"HttpVersion": "http2and3",
				"IPV6Enabled": true,
				"DefaultCacheBehavior": like(props{
					"ViewerProtocolPolicy": "redirect-to-https",
					"Compress":             true,
					"AllowedMethods":       []any{"GET", "HEAD", "OPTIONS"},
					"CachedMethods":        []any{"GET", "HEAD"},
				}),
				"CacheBehaviors": list(
					like(props{"PathPattern": "*/blobs/*", "ViewerProtocolPolicy": "redirect-to-https"}),
					like(props{"PathPattern": "/blobs/*", "ViewerProtocolPolicy": "redirect-to-https"}),
				),
				"CustomErrorResponses": list(
					props{"ErrorCode": 403, "ErrorCachingMinTTL": 5},
					props{"ErrorCode": 404, "ErrorCachingMinTTL": 5, "ResponseCode": 404, "ResponsePagePath": "/404.html"},
				),
				"Restrictions": assertions.Match_Absent(),
			})})
			has(t, name, "AWS::CloudFront::OriginAccessControl", props{"OriginAccessControlConfig": like(props{
				"SigningBehavior": "always", "SigningProtocol": "sigv4", "OriginAccessControlOriginType": "s3"})})
			has(t, name, "AWS::CloudFront::CachePolicy", props{"CachePolicyConfig": like(props{
				"MinTTL": 0, "DefaultTTL": 86400, "MaxTTL": 31536000,
				"ParametersInCacheKeyAndForwardedToOrigin": like(props{"EnableAcceptEncodingGzip": true, "EnableAcceptEncodingBrotli": true})})})
			has(t, name, "AWS::CloudFront::CachePolicy", props{"CachePolicyConfig": like(props{"MinTTL": 0, "DefaultTTL": 31536000, "MaxTTL": 31536000})})
			has(t, name, "AWS::CloudFront::ResponseHeadersPolicy", props{"ResponseHeadersPolicyConfig": like(props{
				"CorsConfig": like(props{"AccessControlAllowOrigins": props{"Items": []any{"*"}}})})})
			has(t, name, "AWS::Logs::DeliverySource", props{"LogType": "ACCESS_LOGS"})
			counts(t, name, "AWS::Logs::Delivery", 1)
			roles := len(c.Publishers)
			if c.IndexerQueue {
				roles++
			}
			if c.Deployer != nil {
				roles += 2
			}
			if c.ReplicaRegion != "" {
				roles++
			}
			counts(t, name, "AWS::IAM::Role", float64(roles))
			counts(t, name, "AWS::IAM::AccessKey", 0)
			counts(t, name, "AWS::Lambda::Function", 0)
		})
	}
}

// TestOriginIsPrivate: both policies of the bucket admit this one distribution, to
// read and to list, over TLS.
func TestOriginIsPrivate(t *testing.T) {
	tpl := parsed(t, "vantage")
	bucket := livePolicy(t, tpl, "BinaryCacheBucketPolicy311353DB", "PolicyDocument")
	cloudfront := policy.Service("cloudfront.amazonaws.com")
	ours := map[string]string{"aws:SourceArn": "arn:aws:cloudfront::123456789012:distribution/Distribution830FAC52"}
	theirs := map[string]string{"aws:SourceArn": "arn:aws:cloudfront::999999999999:distribution/E9"}
	plainHTTP := maps.Clone(ours)
	plainHTTP["aws:SecureTransport"] = "false"
	for _, row := range []struct {
		name             string
		who              policy.Principal
		action, resource string
		keys             map[string]string
		want             bool
	}{
		{"our distribution reads", cloudfront, "s3:GetObject", "/v3/layout.json", ours, true},
		{"our distribution lists, for 404", cloudfront, "s3:ListBucket", "", ours, true},
		{"our distribution does not write", cloudfront, "s3:PutObject", "/x", ours, false},
		{"another account's distribution", cloudfront, "s3:GetObject", "/v3/layout.json", theirs, false},
		{"without TLS", cloudfront, "s3:GetObject", "/v3/layout.json", plainHTTP, false},
		{"the public", policy.Principal{"AWS": {"*"}}, "s3:GetObject", "/v3/layout.json", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			decide(t, "bucket", bucket, policy.Request{Action: row.action, Resource: "arn:BinaryCacheBucketDC4CADE3" + row.resource,
				Principal: row.who, Keys: row.keys}, row.want)
		})
	}
}

// livePolicy is a policy of the template with every reference standing for itself.
func livePolicy(t *testing.T, tpl template.Template, id, property string) policy.Document {
	t.Helper()
	w := template.World{Account: testAccount, Region: Region, StackName: "S", Ref: map[string]string{}, Attr: map[string]map[string]string{}}
	for id := range tpl.Resources {
		w.Ref[id] = id
		w.Attr[id] = map[string]string{"Arn": "arn:" + id, "DomainName": id + ".example", "Id": id, "RegionalDomainName": id + ".s3"}
	}
	v, err := tpl.Resolve(tpl.Resources[id].Properties[property], w)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestTemplateCarriesThePoliciesUnchanged guards the way through CDK, which may merge
// and reorder statements: each role in the template is the documents of policy.go.
func TestTemplateCarriesThePoliciesUnchanged(t *testing.T) {
	tpl := parsed(t, "shared")
	for i, p := range variants()["shared"].Publishers {
		id := "GitHubActionsRole"
		if i > 0 {
			id = roleID(p)
		}
		logical := startingWith(t, tpl, id)
		trust := livePolicy(t, tpl, logical, "AssumeRolePolicyDocument")
		same(t, id+" trust", trust, p.Trust("GitHubProviderDD1D07DF"))

		inline := tpl.Resources[logical].Properties["Policies"].([]any)[0].(map[string]any)
		if inline["PolicyName"] != string(p.Access) {
			t.Errorf("%s: policy is named %v", id, inline["PolicyName"])
		}
		holder := template.Template{Resources: tpl.Resources}
		r := holder.Resources[logical]
		r.Properties["PolicyDocument"] = inline["PolicyDocument"]
		got := livePolicy(t, holder, logical, "PolicyDocument")
		same(t, id, got, p.Permissions("arn:BinaryCacheBucketDC4CADE3", "arn:aws:cloudfront::123456789012:distribution/Distribution830FAC52"))
	}
}

func startingWith(t *testing.T, tpl template.Template, id string) string {
	t.Helper()
	for _, logical := range tpl.OfType("AWS::IAM::Role") {
		if strings.HasPrefix(logical, id) && len(logical) == len(id)+8 {
			return logical
		}
	}
	t.Fatalf("no role %s", id)
	return ""
}

func same(t *testing.T, what string, got, want policy.Document) {
	t.Helper()
	g, w := sorted(t, got), sorted(t, want)
	if g != w {
		t.Errorf("%s: template has\n%s\npolicy.go has\n%s", what, g, w)
	}
}

// sorted writes a document with its lists in order: IAM gives order no meaning.
func sorted(t *testing.T, d policy.Document) string {
	t.Helper()
	for i := range d.Statement {
		d.Statement[i].Action = slices.Sorted(slices.Values(d.Statement[i].Action))
		d.Statement[i].Resource = slices.Sorted(slices.Values(d.Statement[i].Resource))
	}
	b, err := json.MarshalIndent(d.Statement, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDomain(t *testing.T) {
	for _, v := range []string{"domain", "vantage", "everything"} {
		for _, kind := range []string{"A", "AAAA"} {
			has(t, v, "AWS::Route53::RecordSet", props{"Type": kind, "Name": testDomain + ".", "HostedZoneId": testZone, "TTL": assertions.Match_Absent()})
		}
		has(t, v, "AWS::CertificateManager::Certificate", props{"DomainName": testDomain, "ValidationMethod": "DNS",
			"DomainValidationOptions": []any{props{"DomainName": testDomain, "HostedZoneId": testZone}}})
		has(t, v, "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{
			"Aliases":           []any{testDomain},
			"ViewerCertificate": like(props{"MinimumProtocolVersion": "TLSv1.2_2021", "SslSupportMethod": "sni-only"})})})
	}
	has(t, "given", "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{"Aliases": []any{"cache.example.co.uk"},
		"ViewerCertificate": like(props{"AcmCertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/1"})})})
	counts(t, "given", "AWS::Route53::RecordSet", 0)
	counts(t, "given", "AWS::CertificateManager::Certificate", 0)
	counts(t, "plain", "AWS::CertificateManager::Certificate", 0)
}

func TestQueryStrings(t *testing.T) {
	key := func(q props) props {
		return props{"CachePolicyConfig": like(props{"DefaultTTL": 86400, "ParametersInCacheKeyAndForwardedToOrigin": like(props{"QueryStringsConfig": q})})}
	}
	root := func(v any) props { return props{"DistributionConfig": like(props{"DefaultRootObject": v})} }
	has(t, "plain", "AWS::CloudFront::CachePolicy", key(props{"QueryStringBehavior": "none"}))
	has(t, "plain", "AWS::CloudFront::Distribution", root("index.html"))
	has(t, "reference", "AWS::CloudFront::CachePolicy", key(props{"QueryStringBehavior": "all"}))
	has(t, "reference", "AWS::CloudFront::Distribution", root("index.html"))
	has(t, "listing", "AWS::CloudFront::CachePolicy", key(props{"QueryStringBehavior": "whitelist", "QueryStrings": list("list-type", "prefix")}))
	has(t, "listing", "AWS::CloudFront::Distribution", root(assertions.Match_Absent()))
}

func TestProvider(t *testing.T) {
	has(t, "plain", "AWS::IAM::OIDCProvider", props{"Url": "https://" + githubIssuer, "ClientIdList": []any{"sts.amazonaws.com"}, "ThumbprintList": assertions.Match_Absent()})
	counts(t, "given", "AWS::IAM::OIDCProvider", 0)
	has(t, "given", "AWS::IAM::Role", props{"AssumeRolePolicyDocument": like(props{"Statement": list(like(props{"Principal": props{"Federated": testProvider}}))})})
	has(t, "plain", "AWS::IAM::Role", props{"RoleName": "slurm-factory-github-actions", "MaxSessionDuration": 10800})
	has(t, "plain", "AWS::IAM::Role", props{"RoleName": "slurm-factory-maintain"})
}

func TestReferenceTrust(t *testing.T) {
	has(t, "reference", "AWS::IAM::Role", props{"AssumeRolePolicyDocument": like(props{"Statement": list(like(props{
		"Condition": like(props{"StringLike": props{claim("sub"): "repo:vantagecompute/slurm-factory:*"}})}))})})
}

func TestOptions(t *testing.T) {
	for kind, n := range map[string]float64{"AWS::IAM::User": 1, "AWS::CloudTrail::Trail": 1, "AWS::Budgets::Budget": 1} {
		counts(t, "everything", kind, n)
		counts(t, "plain", kind, 0)
	}
	has(t, "everything", "AWS::IAM::User", props{"UserName": "james", "LoginProfile": assertions.Match_Absent()})
	has(t, "everything", "AWS::CloudTrail::Trail", props{"EventSelectors": list(like(props{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": false}))})
	has(t, "everything", "AWS::S3::Bucket", props{"LifecycleConfiguration": props{"Rules": list(
		like(props{"Transitions": []any{props{"StorageClass": "INTELLIGENT_TIERING", "TransitionInDays": 0}}}))}})
	has(t, "everything", "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{
		"PriceClass": "PriceClass_All", "WebACLId": "arn:aws:wafv2:us-east-1:123456789012:global/webacl/cache/1",
		"Origins": list(like(props{"OriginShield": props{"Enabled": true, "OriginShieldRegion": "us-east-1"}}))})})
	has(t, "plain", "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{"PriceClass": "PriceClass_100"})})
	has(t, "everything", "AWS::S3::BucketPolicy", props{"PolicyDocument": like(props{"Statement": list(
		like(props{"Sid": "PackagesAreImmutable", "Effect": "Deny"}), like(props{"Sid": "WritesAreConditional", "Effect": "Deny"}))})})
	has(t, "shared", "AWS::S3::Bucket", props{"LifecycleConfiguration": props{"Rules": list(like(props{"Prefix": "pr/", "ExpirationInDays": 14}))}})
}

func TestOutputs(t *testing.T) {
	want := []string{"BucketArn", "BucketName", "DistributionDomainName", "DistributionId", "GitHubActionsRoleArn",
		"LogBucketName", "MaintainRoleArn", "MirrorCommand", "PublicUrl"}
	if got := slices.Sorted(maps.Keys(parsed(t, "vantage").Outputs)); !slices.Equal(got, want) {
		t.Errorf("outputs %v, want %v", got, want)
	}
	shared := parsed(t, "shared").Outputs
	for _, name := range []string{"SlurmRoleArn", "PullRequestsRoleArn", "DryRunRoleArn"} {
		if _, ok := shared[name]; !ok {
			t.Errorf("no output %s", name)
		}
	}
	if v := parsed(t, "vantage").Outputs["MirrorCommand"].Value; v != "spack mirror add slurm-factory https://"+testDomain {
		t.Errorf("mirror command %v", v)
	}
}

// TestRetainedResourcesKeepTheirIds: a retained resource whose logical id changes is
// left behind by the stack, and the next deployment stumbles over its name.
func TestRetainedResourcesKeepTheirIds(t *testing.T) {
	for name, c := range variants() {
		want := []string{"BinaryCacheBucketDC4CADE3", "LogBucketCC3B17E8"}
		if c.ManualUser != "" {
			want = append(want, "ManualUser6D69B5C9")
		}
		if c.SigningKey == newKey {
			want = append(want, "SigningKeyEEFC2790")
		}
		if c.LockLogDays > 0 {
			want = append(want, "AuditBucketB01E0AE8")
		}
		slices.Sort(want)
		var retained []string
		for id, r := range parsed(t, name).Resources {
			if r.DeletionPolicy == "Retain" {
				retained = append(retained, id)
				found := r.Properties["BucketName"] != nil || r.Properties["UserName"] != nil || r.Type == "AWS::KMS::Key" // by its ARN: --signing-key
				if r.UpdateReplacePolicy != "Retain" || !found {
					t.Errorf("%s: %s is not retained on replacement or has no name to be found by", name, id)
				}
			}
		}
		slices.Sort(retained)
		if !slices.Equal(retained, want) {
			t.Errorf("%s: retained %v, want %v", name, retained, want)
		}
	}
}

// TestPythonStackIsAdoptedInPlace holds the logical ids and types of the stack that
// this one replaces; testdata/python-stack.txt says what is kept.
func TestPythonStackIsAdoptedInPlace(t *testing.T) {
	b, err := os.ReadFile("testdata/python-stack.txt")
	if err != nil {
		t.Fatal(err)
	}
	// In this variant the suffix follows from the account, as the Python app's did.
	resources := parsed(t, "domain").Resources
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		r, ok := resources[f[1]]
		if keep := f[0] == "keep"; keep != ok || ok && r.Type != f[2] {
			t.Errorf("%s %s: found %v as %q", f[0], f[1], ok, r.Type)
		}
		if len(f) > 3 && ok {
			property, want, _ := strings.Cut(f[3], "=")
			if got := at(r.Properties, property); got != want {
				t.Errorf("%s would be replaced: %s is %v, was %s", f[1], property, got, want)
			}
		}
	}
}

// at is the property at a dotted path.
func at(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

// TestGolden shows a reviewer what a change of the code does to the deployed templates.
// preflight's tests walk them too.
func TestGolden(t *testing.T) {
	for _, variant := range []string{"vantage", "everything"} {
		compareGolden(t, variant, *build(t, variant).ToJSON())
	}
}

func compareGolden(t *testing.T, name string, tpl map[string]any) {
	t.Helper()
	for _, r := range tpl["Resources"].(map[string]any) {
		delete(r.(map[string]any), "Metadata") // construct paths and the reasons of nag.go
	}
	delete(tpl, "Rules")
	delete(tpl, "Parameters")
	got, err := json.MarshalIndent(tpl, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name+".template.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the template changed. Look at what `go test -run TestGolden -update .` and `git diff` show, then commit it.", name)
	}
}

func TestSynthesisIsDeterministic(t *testing.T) {
	read := func() string {
		dir, err := Synth(variants()["everything"], t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "SlurmFactoryInfraStack.template.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if first, second := read(), read(); first != second {
		t.Error("two syntheses of one configuration differ")
	}
}

func TestSynthRefusesBeforeNodeStarts(t *testing.T) {
	if _, err := Synth(Default(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "--account is needed") {
		t.Errorf("%v", err)
	}
}
