package infra

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

const (
	queueArn = "arn:aws:sqs:us-east-1:123456789012:indexer"
	deadArn  = "arn:aws:sqs:us-east-1:123456789012:indexer-dead"
)

// An indexer writes what an index consists of, in every mirror, and nothing that it is made of.
func TestIndexerPermissions(t *testing.T) {
	d := IndexerPermissions(bucketArn, distributionArn, queueArn)
	for _, row := range []struct {
		name, action, resource string
		want                   bool
	}{
		{"read a document", "s3:GetObject", object("noble/spack/v3/manifests/spec/zlib/zlib-1-a.spec.manifest.json"), true},
		{"list", "s3:ListBucket", bucketArn, true},
		{"find the bucket", "s3:GetBucketLocation", bucketArn, true},
		{"write an index", "s3:PutObject", object("noble/spack/v3/manifests/index/index.manifest.json"), true},
		{"write an index at the root", "s3:PutObject", object("v3/manifests/index/index.manifest.json"), true},
		{"write its content", "s3:PutObject", object("noble/spack/blobs/sha256/ab/abc"), true},
		{"write its content at the root", "s3:PutObject", object("blobs/sha256/ab/abc"), true},
		{"write it in parts", "s3:AbortMultipartUpload", object("noble/spack/blobs/sha256/ab/abc"), true},
		{"find the parts", "s3:ListMultipartUploadParts", object("noble/spack/blobs/sha256/ab/abc"), true},
		{"find uploads", "s3:ListBucketMultipartUploads", bucketArn, true},
		{"write the index of keys", "s3:PutObject", object("noble/spack/v3/manifests/key/keys.manifest.json"), true},
		{"declare the layout", "s3:PutObject", object("noble/spack/v3/layout.json"), true},
		{"write an index of layout v2", "s3:PutObject", object("slurm/25.11/buildcache/build_cache/index.json"), true},
		{"write its hash", "s3:PutObject", object("build_cache/index.json.hash"), true},
		{"write its index of keys", "s3:PutObject", object("build_cache/_pgp/index.json"), true},
		{"write a document", "s3:PutObject", object("noble/spack/v3/manifests/spec/zlib/zlib-1-a.spec.manifest.json"), false},
		{"write a document of layout v2", "s3:PutObject", object("build_cache/x.spec.json.sig"), false},
		{"write a package of layout v2", "s3:PutObject", object("build_cache/linux/x.spack"), false},
		{"write a key", "s3:PutObject", object("v3/manifests/key/AB.key.manifest.json"), false},
		{"write a named view", "s3:PutObject", object("v3/manifests/index/site/index.manifest.json"), false},
		{"write a plain file", "s3:PutObject", object("slurm.tar.gz"), false},
		{"delete", "s3:DeleteObject", object("v3/manifests/index/index.manifest.json"), false},
		{"write into another bucket", "s3:PutObject", bucketArn + "-logs/v3/layout.json", false},
		{"take messages", "sqs:ReceiveMessage", queueArn, true},
		{"keep them", "sqs:ChangeMessageVisibility", queueArn, true},
		{"delete them", "sqs:DeleteMessage", queueArn, true},
		{"see how often they are told", "sqs:GetQueueAttributes", queueArn, true},
		{"send some", "sqs:SendMessage", queueArn, false},
		{"empty the queue", "sqs:PurgeQueue", queueArn, false},
		{"take dead ones", "sqs:ReceiveMessage", deadArn, false},
		{"invalidate", "cloudfront:CreateInvalidation", distributionArn, true},
		{"wait for that", "cloudfront:GetInvalidation", distributionArn, true},
		{"invalidate elsewhere", "cloudfront:CreateInvalidation", otherDistArn, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			decide(t, "indexer", d, policy.Request{Action: row.action, Resource: row.resource}, row.want)
		})
	}
}

// The bucket, and no other of anybody's, may send to the queue, over TLS.
func TestOnlyTheBucketTellsTheQueue(t *testing.T) {
	tpl := parsed(t, "indexed")
	var queue string
	for _, id := range tpl.OfType("AWS::SQS::QueuePolicy") {
		if strings.HasPrefix(id, "IndexerQueue") {
			queue = id
		}
	}
	d := livePolicy(t, tpl, queue, "PolicyDocument")
	resource := "arn:" + tpl.OfType("AWS::SQS::Queue")[slices.IndexFunc(tpl.OfType("AWS::SQS::Queue"), func(id string) bool { return strings.HasPrefix(id, "IndexerQueue") })]
	ours := map[string]string{"aws:SourceArn": "arn:aws:s3:::" + variants()["indexed"].Bucket(), "aws:SourceAccount": testAccount, "aws:SecureTransport": "true"}
	with := func(key, value string) map[string]string {
		keys := maps.Clone(ours)
		keys[key] = value
		return keys
	}
	s3 := policy.Service("s3.amazonaws.com")
	for _, row := range []struct {
		name   string
		who    policy.Principal
		action string
		keys   map[string]string
		want   bool
	}{
		{"our bucket", s3, "sqs:SendMessage", ours, true},
		{"another bucket", s3, "sqs:SendMessage", with("aws:SourceArn", "arn:aws:s3:::other"), false},
		{"a bucket of that name in another account", s3, "sqs:SendMessage", with("aws:SourceAccount", "999999999999"), false},
		{"without TLS", s3, "sqs:SendMessage", with("aws:SecureTransport", "false"), false},
		{"S3 takes none", s3, "sqs:ReceiveMessage", ours, false},
		{"the public", policy.Principal{"AWS": {"*"}}, "sqs:SendMessage", ours, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			decide(t, "queue", d, policy.Request{Action: row.action, Resource: resource, Principal: row.who, Keys: row.keys}, row.want)
		})
	}
}

func TestIndexerQueue(t *testing.T) {
	told := make([]any, 0, len(notifiedSuffixes))
	for _, suffix := range notifiedSuffixes {
		told = append(told, like(props{"Event": "s3:ObjectCreated:*", "Filter": props{"S3Key": props{"Rules": []any{props{"Name": "suffix", "Value": suffix}}}}}))
	}
	for _, v := range []string{"indexed", "everything"} {
		has(t, v, "AWS::S3::Bucket", props{"NotificationConfiguration": like(props{"QueueConfigurations": list(told...)})})
		has(t, v, "AWS::SQS::Queue", props{"SqsManagedSseEnabled": true, "VisibilityTimeout": 120, "ReceiveMessageWaitTimeSeconds": 20,
			"MessageRetentionPeriod": 1209600, "RedrivePolicy": like(props{"maxReceiveCount": 10})})
		has(t, v, "AWS::SQS::Queue", props{"SqsManagedSseEnabled": true, "MessageRetentionPeriod": 1209600, "RedrivePolicy": assertions.Match_Absent(),
			"RedriveAllowPolicy": props{"redrivePermission": "byQueue", "sourceQueueArns": []any{"arn:aws:sqs:us-east-1:123456789012:SlurmFactoryInfraStack-indexer"}}})
		has(t, v, "AWS::SQS::Queue", props{"QueueName": "SlurmFactoryInfraStack-indexer"})
		counts(t, v, "AWS::SQS::Queue", 2)
		has(t, v, "AWS::IAM::Role", props{"RoleName": "slurm-factory-indexer"})
	}
	counts(t, "plain", "AWS::SQS::Queue", 0)
	has(t, "plain", "AWS::S3::Bucket", props{"NotificationConfiguration": assertions.Match_Absent()})
}

// No name that Spack or we give has two of the ends, which S3 would refuse, and each that
// changes an index has one, and the tarballs of v2.
func TestNotifiedSuffixesDoNotOverlap(t *testing.T) {
	for i, a := range notifiedSuffixes {
		for j, b := range notifiedSuffixes {
			if i != j && (strings.HasSuffix(a, b) || strings.HasSuffix(b, a)) {
				t.Errorf("%s and %s overlap", a, b)
			}
		}
	}
	for name, want := range map[string]bool{
		"v3/manifests/spec/zlib/zlib-1-a.spec.manifest.json": true, "v3/manifests/key/AB.key.manifest.json": true, "v3/manifests/key/keys.manifest.json": true,
		"v3/manifests/index/index.manifest.json": true, "v3/manifests/index/site/index.manifest.json": true, "build_cache/x.spec.json": true,
		"build_cache/x.spec.json.sig": true, "build_cache/_pgp/AB.pub": true, "build_cache/_pgp/index.json": true, "build_cache/index.json": true,
		"build_cache/index.json.hash": true, "blobs/sha256/ab/abc": false, "build_cache/linux/x.spack": true, "v3/layout.json": false, "slurm.tar.gz": false,
	} {
		if got := slices.ContainsFunc(notifiedSuffixes, func(s string) bool { return strings.HasSuffix("m/"+name, s) }); got != want {
			t.Errorf("%s: told %t, want %t", name, got, want)
		}
	}
}

// The bucket is told to notify only when it may: S3 tries.
func TestBucketWaitsForTheQueuesPolicy(t *testing.T) {
	tpl := parsed(t, "indexed")
	order, err := tpl.Order()
	if err != nil {
		t.Fatal(err)
	}
	var policyOf string
	for _, id := range tpl.OfType("AWS::SQS::QueuePolicy") {
		if strings.HasPrefix(id, "IndexerQueue") {
			policyOf = id
		}
	}
	if slices.Index(order, policyOf) > slices.Index(order, "BinaryCacheBucketDC4CADE3") {
		t.Errorf("order: %v", order)
	}
}

func TestIndexerTrust(t *testing.T) {
	services := func(v string) []string {
		tpl := parsed(t, v)
		d := livePolicy(t, tpl, startingWith(t, tpl, "IndexerRole"), "AssumeRolePolicyDocument")
		var all []string
		for _, st := range d.Statement {
			for _, names := range st.Principal {
				all = append(all, names...)
			}
		}
		slices.Sort(all)
		return all
	}
	if got := services("indexed"); !slices.Equal(got, []string{"ec2.amazonaws.com"}) {
		t.Errorf("trusts %q", got)
	}
	want := []string{"arn:aws:iam::123456789012:role/build-host", "ec2.amazonaws.com", "ecs-tasks.amazonaws.com"}
	if got := services("everything"); !slices.Equal(got, want) {
		t.Errorf("trusts %q", got)
	}
	for _, who := range []string{"*", "lambda", "arn:aws:iam::123456789012:role/*", "arn:aws:iam::1:root", ""} {
		c := variants()["indexed"]
		c.IndexerTrust = []string{who}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--indexer-trust") {
			t.Errorf("trust %q: %v", who, err)
		}
	}
	c := variants()["indexed"]
	c.IndexerTrust = nil
	if err := c.Validate(); err == nil {
		t.Error("trusts nobody, and no error")
	}
}

func TestIndexerAlarms(t *testing.T) {
	has(t, "everything", "AWS::CloudWatch::Alarm", props{"MetricName": "ApproximateAgeOfOldestMessage", "Namespace": "AWS/SQS", "Threshold": 900,
		"EvaluationPeriods": 2, "TreatMissingData": "notBreaching", "AlarmActions": assertions.Match_AnyValue()})
	has(t, "everything", "AWS::CloudWatch::Alarm", props{"MetricName": "ApproximateNumberOfMessagesVisible", "Threshold": 0,
		"ComparisonOperator": "GreaterThanThreshold", "AlarmActions": assertions.Match_AnyValue()})
	counts(t, "everything", "AWS::CloudWatch::Alarm", 7) // with two of the CDN, two of the copy and that of the certificate
	counts(t, "indexed", "AWS::CloudWatch::Alarm", 0)    // without --alarms there are none
	for _, name := range []string{"IndexerQueueUrl", "IndexerDeadLetterQueueUrl", "IndexerRoleArn"} {
		if _, ok := parsed(t, "indexed").Outputs[name]; !ok {
			t.Errorf("no output %s", name)
		}
	}
}

// TestTemplateCarriesTheIndexersPolicyUnchanged, as for publishers.
func TestTemplateCarriesTheIndexersPolicyUnchanged(t *testing.T) {
	tpl := parsed(t, "indexed")
	logical := startingWith(t, tpl, "IndexerRole")
	r := tpl.Resources[logical]
	r.Properties["PolicyDocument"] = r.Properties["Policies"].([]any)[0].(map[string]any)["PolicyDocument"]
	queues := tpl.OfType("AWS::SQS::Queue")
	queue := queues[slices.IndexFunc(queues, func(id string) bool { return strings.HasPrefix(id, "IndexerQueue") })]
	got := livePolicy(t, template.Template{Resources: tpl.Resources}, logical, "PolicyDocument")
	same(t, "indexer", got, IndexerPermissions("arn:BinaryCacheBucketDC4CADE3", "arn:aws:cloudfront::123456789012:distribution/Distribution830FAC52", "arn:"+queue))
}
