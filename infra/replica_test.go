package infra

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// assembled are the template of the second region and the manifest of the whole assembly.
func assembled(t *testing.T, variant string) (template.Template, string) {
	t.Helper()
	dir, err := Synth(variants()[variant], t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "SlurmFactoryInfraStack-replica.template.json"))
	if err != nil {
		t.Fatal(err)
	}
	tpl, err := template.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	return tpl, string(manifest)
}

// TestReplica: the copy is as protected as the cache, is in the second region, and is
// deployed first.
func TestReplica(t *testing.T) {
	tpl, manifest := assembled(t, "replicated")
	var m struct {
		Artifacts map[string]struct {
			Environment  string
			Dependencies []string
		}
	}
	if err := json.Unmarshal([]byte(manifest), &m); err != nil {
		t.Fatal(err)
	}
	if e := m.Artifacts["SlurmFactoryInfraStack-replica"].Environment; e != "aws://123456789012/eu-west-1" {
		t.Errorf("the copy is in %s", e)
	}
	if d := strings.Join(m.Artifacts["SlurmFactoryInfraStack"].Dependencies, " "); !strings.Contains(d, "SlurmFactoryInfraStack-replica") {
		t.Errorf("the main stack depends on %q", d)
	}
	bucket := tpl.Resources[tpl.OfType("AWS::S3::Bucket")[0]]
	b, err := json.Marshal(bucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"BucketName":"slurm-factory-spack-buildcache-34179-replica"`, `"VersioningConfiguration":{"Status":"Enabled"}`, `"SSEAlgorithm":"AES256"`,
		`"RestrictPublicBuckets":true`, `"ObjectOwnership":"BucketOwnerEnforced"`, `"DeletionPolicy":"Retain"`, `"NoncurrentDays":90`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	id := tpl.OfType("AWS::S3::Bucket")[0]
	d := livePolicy(t, tpl, tpl.OfType("AWS::S3::BucketPolicy")[0], "PolicyDocument")
	service := policy.Service("cloudfront.amazonaws.com")
	anybody := policy.Principal{"AWS": {"arn:aws:iam::123456789012:role/admin"}}
	from := func(account string) map[string]string {
		return map[string]string{"aws:SecureTransport": "true", "s3:TlsVersion": "1.3", "aws:SourceAccount": account,
			"aws:SourceArn": "arn:aws:cloudfront::" + account + ":distribution/E1"}
	}
	for _, row := range []struct {
		name, action, object string
		who                  policy.Principal
		account              string
		allowed, denied      bool
	}{
		{"our distribution reads", "s3:GetObject", "/x", service, testAccount, true, false},
		{"our distribution lists", "s3:ListBucket", "", service, testAccount, true, false},
		{"another account's distribution", "s3:GetObject", "/x", service, "999999999999", false, false},
		{"a person writes", "s3:PutObject", "/x", anybody, testAccount, false, true},
		{"a person deletes", "s3:DeleteObject", "/x", anybody, testAccount, false, true},
		{"a person destroys a version", "s3:DeleteObjectVersion", "/x", anybody, testAccount, false, true},
		{"replication is not denied", "s3:ReplicateObject", "/x", anybody, testAccount, false, false},
	} {
		got, err := d.Decide(policy.Request{Action: row.action, Resource: "arn:" + id + row.object, Principal: row.who, Keys: from(row.account)})
		if err != nil || got.Allowed != row.allowed || got.Denied != row.denied {
			t.Errorf("%s: %v %v", row.name, got, err)
		}
	}
}

func TestReplication(t *testing.T) {
	has(t, "replicated", "AWS::S3::Bucket", props{"ReplicationConfiguration": like(props{"Rules": []any{like(props{
		"Id": "everything", "Status": "Enabled", "Filter": props{"Prefix": ""}, "DeleteMarkerReplication": props{"Status": "Enabled"},
		"Destination": props{"Bucket": "arn:aws:s3:::slurm-factory-spack-buildcache-34179-replica", "Metrics": props{"Status": "Enabled"}}})}})})
	has(t, "plain", "AWS::S3::Bucket", props{"BucketName": "slurm-factory-spack-buildcache-34179", "ReplicationConfiguration": assertions.Match_Absent()})
	has(t, "replicated", "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{
		"Origins": list(like(props{"DomainName": "slurm-factory-spack-buildcache-34179-replica.s3.eu-west-1.amazonaws.com", "OriginAccessControlId": assertions.Match_AnyValue()})),
		"OriginGroups": like(props{"Quantity": assertions.Match_AnyValue(), "Items": list(like(props{
			"FailoverCriteria": props{"StatusCodes": props{"Items": []any{500, 502, 503, 504}, "Quantity": 4}}}))})})})
	has(t, "plain", "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{"OriginGroups": assertions.Match_Absent()})})
	dimensions := list(props{"Name": "DestinationBucket", "Value": "slurm-factory-spack-buildcache-34179-replica"}, props{"Name": "RuleId", "Value": "everything"},
		props{"Name": "SourceBucket", "Value": "slurm-factory-spack-buildcache-34179"})
	has(t, "replicated", "AWS::CloudWatch::Alarm", props{"MetricName": "ReplicationLatency", "Threshold": 3600, "Dimensions": dimensions})
	has(t, "replicated", "AWS::CloudWatch::Alarm", props{"MetricName": "OperationsFailedReplication", "Threshold": 0, "Dimensions": dimensions})
	counts(t, "plain", "AWS::CloudWatch::Alarm", 2)
}

// TestReplicationRole: S3 may use it for this bucket only, to read here and write there.
func TestReplicationRole(t *testing.T) {
	tpl := parsed(t, "replicated")
	trust := livePolicy(t, tpl, startingWith(t, tpl, "ReplicationRole"), "AssumeRolePolicyDocument")
	for source, want := range map[string]bool{"arn:aws:s3:::slurm-factory-spack-buildcache-34179": true, "arn:aws:s3:::other": false} {
		decide(t, source, trust, policy.Request{Action: "sts:AssumeRole", Principal: policy.Service("s3.amazonaws.com"),
			Keys: map[string]string{"aws:SourceAccount": testAccount, "aws:SourceArn": source}}, want)
	}
	d := ReplicationPermissions(bucketArn, bucketArn+"-replica")
	for _, row := range []struct {
		action, resource string
		want             bool
	}{
		{"s3:GetObjectVersionForReplication", object("x"), true}, {"s3:GetReplicationConfiguration", bucketArn, true}, {"s3:ListBucket", bucketArn, true},
		{"s3:ReplicateObject", bucketArn + "-replica/x", true}, {"s3:ReplicateDelete", bucketArn + "-replica/x", true},
		{"s3:ReplicateObject", object("x"), false}, {"s3:PutObject", bucketArn + "-replica/x", false}, {"s3:DeleteObject", object("x"), false},
	} {
		decide(t, "replication", d, policy.Request{Action: row.action, Resource: row.resource}, row.want)
	}
}

func TestBadReplicas(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`--replica-region "Ireland"`: func(c *Config) { c.ReplicaRegion = "Ireland" },
		"is the region of the cache": func(c *Config) { c.ReplicaRegion = Region },
		"at most 55 characters":      func(c *Config) { c.ReplicaRegion, c.BucketName = "eu-west-1", strings.Repeat("a", 56) },
	} {
		c := Default()
		c.Account = testAccount
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
