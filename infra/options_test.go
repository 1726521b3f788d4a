package infra

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// TestOptionsAreOff: a deployment that does not ask for them is made without them.
func TestOptionsAreOff(t *testing.T) {
	for _, variant := range []string{"plain", "vantage"} {
		for _, kind := range []string{"AWS::Glue::Database", "AWS::Athena::WorkGroup", "AWS::CE::AnomalyMonitor", "AWS::KMS::Key", "AWS::KMS::Alias"} {
			counts(t, variant, kind, 0)
		}
		counts(t, variant, "AWS::S3::Bucket", 2)
		has(t, variant, "AWS::S3::Bucket", props{"BucketName": variants()[variant].Bucket(), "InventoryConfigurations": assertions.Match_Absent(), "ObjectLockEnabled": assertions.Match_Absent()})
		has(t, variant, "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{"CacheTagConfig": assertions.Match_Absent()})})
		counts(t, variant, "AWS::CloudWatch::Alarm", 2)
	}
}

// TestTags: the tags are the stack's, which CloudFormation puts on all that it makes.
func TestTags(t *testing.T) {
	for variant, want := range map[string]string{
		"plain":      "map[project:slurm-factory-spack-buildcache]",
		"everything": "map[cost-center:hpc owner:cache team project:slurm-factory-spack-buildcache]",
	} {
		dir, err := Synth(variants()[variant], t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		var manifest struct {
			Artifacts map[string]struct {
				Properties struct{ Tags map[string]string }
			}
		}
		if err := json.Unmarshal(b, &manifest); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(manifest.Artifacts["SlurmFactoryInfraStack"].Properties.Tags); got != want {
			t.Errorf("%s: tags %s, want %s", variant, got, want)
		}
	}
}

func TestInventory(t *testing.T) {
	has(t, "everything", "AWS::S3::Bucket", props{"InventoryConfigurations": []any{like(props{"Id": "weekly", "Enabled": true, "IncludedObjectVersions": "All",
		"ScheduleFrequency": "Weekly", "Destination": like(props{"Format": "Parquet", "Prefix": "inventory", "BucketAccountId": testAccount})})}})
	logs := logPolicy(t, "everything")
	for _, row := range []struct {
		name, object, source, account string
		want                          bool
	}{
		{"our bucket", "inventory/x.parquet", "arn:aws:s3:::slurm-factory-spack-buildcache-4b670", testAccount, true},
		{"elsewhere", "s3/x", "arn:aws:s3:::slurm-factory-spack-buildcache-4b670", testAccount, false},
		{"another bucket", "inventory/x.parquet", "arn:aws:s3:::other", testAccount, false},
		{"another account", "inventory/x.parquet", "arn:aws:s3:::slurm-factory-spack-buildcache-4b670", "999999999999", false},
	} {
		decide(t, row.name, logs, policy.Request{Action: "s3:PutObject", Resource: "arn:LogBucketCC3B17E8/" + row.object, Principal: policy.Service("s3.amazonaws.com"),
			Keys: map[string]string{"aws:SecureTransport": "true", "s3:x-amz-acl": "bucket-owner-full-control", "aws:SourceArn": row.source, "aws:SourceAccount": row.account}}, row.want)
	}
}

// logPolicy is the policy of a variant's log bucket.
func logPolicy(t *testing.T, variant string) policy.Document {
	return bucketPolicy(t, variant, "LogBucket")
}

func bucketPolicy(t *testing.T, variant, id string) policy.Document {
	t.Helper()
	tpl := parsed(t, variant)
	for _, logical := range tpl.OfType("AWS::S3::BucketPolicy") {
		if strings.HasPrefix(logical, id) {
			return livePolicy(t, tpl, logical, "PolicyDocument")
		}
	}
	t.Fatalf("%s has no policy for %s", variant, id)
	return policy.Document{}
}

// TestLockedLogs: the trail writes into a bucket in which nothing can be deleted.
func TestLockedLogs(t *testing.T) {
	has(t, "everything", "AWS::S3::Bucket", props{
		"BucketName": "slurm-factory-spack-buildcache-4b670-audit", "ObjectLockEnabled": true, "VersioningConfiguration": props{"Status": "Enabled"},
		"ObjectLockConfiguration": props{"ObjectLockEnabled": "Enabled", "Rule": props{"DefaultRetention": props{"Mode": "COMPLIANCE", "Days": 365}}},
		"LifecycleConfiguration":  props{"Rules": list(like(props{"ExpirationInDays": 365}))},
	})
	has(t, "governed", "AWS::S3::Bucket", props{"ObjectLockConfiguration": like(props{"Rule": props{"DefaultRetention": props{"Mode": "GOVERNANCE", "Days": 30}}}),
		"LifecycleConfiguration": props{"Rules": list(like(props{"ExpirationInDays": 90}))}})
	has(t, "everything", "AWS::CloudTrail::Trail", props{"S3BucketName": props{"Ref": startingWithType(t, "everything", "AWS::S3::Bucket", "AuditBucket")}})
	audit := bucketPolicy(t, "everything", "AuditBucket")
	request := policy.Request{Action: "s3:PutObject", Resource: "arn:" + startingWithType(t, "everything", "AWS::S3::Bucket", "AuditBucket") + "/cloudtrail/AWSLogs/123456789012/x",
		Principal: policy.Service("cloudtrail.amazonaws.com"), Keys: map[string]string{"aws:SecureTransport": "true", "s3:x-amz-acl": "bucket-owner-full-control",
			"aws:SourceArn": "arn:aws:cloudtrail:us-east-1:123456789012:trail/SlurmFactoryInfraStack-writes"}}
	decide(t, "our trail", audit, request, true)
	request.Keys["aws:SourceArn"] += "2"
	decide(t, "another trail", audit, request, false)
	if _, ok := parsed(t, "everything").Outputs["AuditBucketName"]; !ok {
		t.Error("no output AuditBucketName")
	}
}

func startingWithType(t *testing.T, variant, kind, id string) string {
	t.Helper()
	for _, logical := range parsed(t, variant).OfType(kind) {
		if strings.HasPrefix(logical, id) {
			return logical
		}
	}
	t.Fatalf("%s has no %s %s", variant, kind, id)
	return ""
}

func TestCertificateAlarm(t *testing.T) {
	has(t, "everything", "AWS::CloudWatch::Alarm", props{"Namespace": "AWS/CertificateManager", "MetricName": "DaysToExpiry", "Statistic": "Minimum",
		"Dimensions": []any{props{"Name": "CertificateArn", "Value": props{"Ref": "Certificate4E7ABB08"}}},
		"Threshold":  30, "ComparisonOperator": "LessThanThreshold", "TreatMissingData": "notBreaching", "AlarmActions": assertions.Match_AnyValue()})
}

func TestCostAnomaly(t *testing.T) {
	has(t, "everything", "AWS::CE::AnomalyMonitor", props{"MonitorType": "CUSTOM",
		"MonitorSpecification": `{"Tags":{"Key":"project","MatchOptions":["EQUALS"],"Values":["slurm-factory-spack-buildcache"]}}`})
	has(t, "everything", "AWS::CE::AnomalySubscription", props{"Frequency": "DAILY", "Subscribers": []any{props{"Type": "EMAIL", "Address": "ops@example.com"}},
		"ThresholdExpression": `{"Dimensions":{"Key":"ANOMALY_TOTAL_IMPACT_ABSOLUTE","MatchOptions":["GREATER_THAN_OR_EQUAL"],"Values":["20"]}}`})
}

func TestCacheTags(t *testing.T) {
	has(t, "everything", "AWS::CloudFront::Distribution", props{"DistributionConfig": like(props{"CacheTagConfig": props{"HeaderName": "x-amz-meta-cache-tag"}})})
}

func TestAthena(t *testing.T) {
	has(t, "everything", "AWS::Athena::WorkGroup", props{"Name": "SlurmFactoryInfraStack", "WorkGroupConfiguration": like(props{
		"EnforceWorkGroupConfiguration": true, "BytesScannedCutoffPerQuery": 20 << 30,
		"ResultConfiguration": like(props{"EncryptionConfiguration": props{"EncryptionOption": "SSE_S3"}})})})
	has(t, "everything", "AWS::Glue::Database", props{"DatabaseInput": like(props{"Name": "slurmfactoryinfrastack"})})
	counts(t, "everything", "AWS::Glue::Table", 2)
	counts(t, "everything", "AWS::Athena::NamedQuery", float64(len(savedQueries)))
	has(t, "everything", "AWS::Glue::Table", props{"TableInput": like(props{"Name": "cdn_requests", "StorageDescriptor": like(props{
		"SerdeInfo": like(props{"Parameters": like(props{"mapping.sc_status": "sc-status", "mapping.cs_user_agent": "cs(User-Agent)", "case.insensitive": "false"})})})})})
	var locations []string
	for _, id := range parsed(t, "everything").OfType("AWS::Glue::Table") {
		b, err := json.Marshal(parsed(t, "everything").Resources[id].Properties)
		if err != nil {
			t.Fatal(err)
		}
		locations = append(locations, string(b))
	}
	for _, place := range []string{"/AWSLogs/123456789012/CloudFront/", "/s3/"} {
		if !slices.ContainsFunc(locations, func(l string) bool { return strings.Contains(l, place) }) {
			t.Errorf("no table lies over %s", place)
		}
	}
}

// TestSavedQueriesUseColumnsThatExist reads the names in each query.
func TestSavedQueriesUseColumnsThatExist(t *testing.T) {
	known := map[string][]string{bucketTable: bucketColumns}
	for _, c := range cdnColumns {
		known[cdnTable] = append(known[cdnTable], c.name)
	}
	names := map[string]bool{}
	for _, q := range savedQueries {
		if names[q.name] {
			t.Errorf("two queries are called %s", q.name)
		}
		names[q.name] = true
		m := regexp.MustCompile(`FROM (\w+)`).FindStringSubmatch(q.sql)
		if m == nil || known[m[1]] == nil {
			t.Errorf("%s reads %v", q.name, m)
			continue
		}
		columns := known[m[1]]
		for _, word := range regexp.MustCompile(`\b(?:cs|sc|c|x|time|user|http|error|object|remote|bytes|request)_[a-z_]+\b`).FindAllString(q.sql, -1) {
			if !slices.Contains(columns, word) && word != m[1] {
				t.Errorf("%s: %s has no column %s", q.name, m[1], word)
			}
		}
	}
}

// TestBucketLine reads a line of S3's log as its manual shows it, and an older one.
func TestBucketLine(t *testing.T) {
	const line = `79a59df900b949e5 amzn-s3-demo-bucket1 [06/Feb/2019:00:00:38 +0000] 192.0.2.3 79a59df900b949e5 3E57427F3EXAMPLE REST.PUT.OBJECT s3-dg.pdf ` +
		`"PUT /amzn-s3-demo-bucket1/s3-dg.pdf HTTP/1.1" 200 - - 4406583 41754 28 "-" "S3Console/0.4" - 10S62Zv81kBW7BB6SX4XJ48o6kpcl6LPwEoizZQQxJd5qDSCTLX0TgS37kYUBKQW3+bPdrg1234= ` +
		`SigV4 ECDHE-RSA-AES128-SHA AuthHeader amzn-s3-demo-bucket1.s3.us-west-1.amazonaws.com TLSV1.2 - Yes`
	form := regexp.MustCompile("^" + bucketLine)
	m := form.FindStringSubmatch(line)
	if len(m) != len(bucketColumns)+1 {
		t.Fatalf("%d groups for %d columns", len(m)-1, len(bucketColumns))
	}
	for name, want := range map[string]string{"requested": "06/Feb/2019:00:00:38 +0000", "operation": "REST.PUT.OBJECT", "object_key": "s3-dg.pdf", "http_status": "200",
		"object_size": "4406583", "user_agent": `"S3Console/0.4"`, "tls_version": "TLSV1.2", "acl_required": "Yes"} {
		if got := m[1+slices.Index(bucketColumns, name)]; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if older := strings.Join(strings.Split(line, " ")[:21], " "); form.FindStringSubmatch(older) == nil {
		t.Errorf("not read: %s", older)
	}
}

func TestBadOptions(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"want KEY=VALUE":             func(c *Config) { c.Tags = []string{"team"} },
		"begin with aws:":            func(c *Config) { c.Tags = []string{"AWS:x=y"} },
		"costs are told apart":       func(c *Config) { c.Tags = []string{"project=mine"} },
		"needs --cloudtrail":         func(c *Config) { c.LockLogDays = 30 },
		"--lock-log-days -1":         func(c *Config) { c.LockLogDays = -1 },
		"at most 36500":              func(c *Config) { c.CloudTrail, c.LockLogDays = true, 40000 },
		"--lock-log-mode":            func(c *Config) { c.CloudTrail, c.LockLogDays, c.LockLogMode = true, 30, "strict" },
		"--lock-log-mode \"often\"":  func(c *Config) { c.LockLogMode = "often" }, // also where nothing is locked yet
		"key team is given twice":    func(c *Config) { c.Tags = []string{"team=a", "team=b"} },
		"at most 57 characters":      func(c *Config) { c.CloudTrail, c.LockLogDays, c.BucketName = true, 30, strings.Repeat("a", 58) },
		"--certificate-days 90":      func(c *Config) { c.CertificateDays = 90 },
		"needs --domain and --alarm": func(c *Config) { c.CertificateDays = 30 },
		"--cost-anomaly -1":          func(c *Config) { c.CostAnomaly = -1 },
		"--signing-key \"release\"":  func(c *Config) { c.SigningKey = "release" },
		"want new, or the ARN":       func(c *Config) { c.SigningKey = "arn:aws:kms:us-east-1:123456789012:alias/release" },
		"us-east-1:ACCOUNT:key/ID":   func(c *Config) { c.SigningKey = strings.Replace(testKey, "us-east-1", "eu-west-1", 1) },
		"a key of account 1":         func(c *Config) { c.SigningKey = strings.Replace(testKey, testAccount, "999999999999", 1) },
		"--cost-anomaly needs":       func(c *Config) { c.CostAnomaly = 5 },
	} {
		t.Run(want, func(t *testing.T) {
			c := Default()
			c.Account = testAccount
			change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
	c := Default()
	c.Account, c.Tags = testAccount, []string{"cost center=größe=1", "a:b/c="}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(len(*c.tags())); got != "3" {
		t.Errorf("%s tags", got)
	}
}
