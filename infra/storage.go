package infra

import (
	"encoding/json"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// newCacheBucket is the mirror's storage. It outlives the stack, and every object in
// it outlives its deletion for a while.
func newCacheBucket(stack awscdk.Stack, c Config, logs awss3.IBucket) awss3.Bucket {
	props := keptBucket(c.Bucket())
	props.ServerAccessLogsBucket = logs
	props.ServerAccessLogsPrefix = jsii.String("s3/")
	props.LifecycleRules = cacheLifecycle(c)
	props.Metrics = requestMetrics(c)
	props.Cors = &[]*awss3.CorsRule{{
		Id:             jsii.String("PublicReadCors"),
		AllowedMethods: &[]awss3.HttpMethods{awss3.HttpMethods_GET, awss3.HttpMethods_HEAD},
		AllowedOrigins: jsii.Strings("*"),
		AllowedHeaders: jsii.Strings("*"),
		ExposedHeaders: exposedHeaders(),
		MaxAge:         jsii.Number(3600),
	}}
	bucket := awss3.NewBucket(stack, jsii.String("BinaryCacheBucket"), props)
	if c.ImmutablePackages {
		for _, st := range policy.ImmutablePackages(*bucket.BucketArn(), c.manualUserArn(stack)) {
			bucket.AddToResourcePolicy(statement(st))
		}
	}
	return bucket
}

// keptBucket is what every bucket here has: its objects are private, encrypted, read over
// TLS only, and versioned, and it stays when the stack is deleted.
func keptBucket(name string) *awss3.BucketProps {
	return &awss3.BucketProps{
		BucketName:        jsii.String(name),
		Versioned:         jsii.Bool(true),
		Encryption:        awss3.BucketEncryption_S3_MANAGED,
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership:   awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		EnforceSSL:        jsii.Bool(true),
		MinimumTLSVersion: jsii.Number(1.2),
		RemovalPolicy:     awscdk.RemovalPolicy_RETAIN,
	}
}

// exposedHeaders are what a script on another site may read of a response.
func exposedHeaders() *[]*string {
	return jsii.Strings("ETag", "Content-Length", "x-amz-request-id", "x-amz-id-2", "x-amz-version-id")
}

func cacheLifecycle(c Config) *[]*awss3.LifecycleRule {
	rules := []*awss3.LifecycleRule{
		{
			Id:                          jsii.String("DeleteOldVersions"),
			NoncurrentVersionExpiration: days(c.NoncurrentDays),
		},
		{
			Id:                                  jsii.String("AbortIncompleteUploads"),
			AbortIncompleteMultipartUploadAfter: days(c.AbortUploadDays),
		},
		{
			// A marker without any version behind it only slows listings down.
			Id:                        jsii.String("RemoveExpiredDeleteMarkers"),
			ExpiredObjectDeleteMarker: jsii.Bool(true),
		},
	}
	if c.IntelligentTiering {
		rules = append(rules, &awss3.LifecycleRule{
			Id: jsii.String("IntelligentTiering"),
			Transitions: &[]*awss3.Transition{{
				StorageClass:    awss3.StorageClass_INTELLIGENT_TIERING(),
				TransitionAfter: days(0),
			}},
		})
	}
	for _, p := range c.Publishers {
		for _, prefix := range p.Prefixes {
			if p.ExpireDays > 0 {
				rules = append(rules, &awss3.LifecycleRule{
					Id:         jsii.String("Expire-" + p.Name + "-" + prefix),
					Prefix:     jsii.String(prefix),
					Expiration: days(p.ExpireDays),
				})
			}
		}
	}
	return &rules
}

// requestMetrics makes S3 count requests and errors of the whole bucket (paid).
func requestMetrics(c Config) *[]*awss3.BucketMetrics {
	if !c.Alarms {
		return nil
	}
	return &[]*awss3.BucketMetrics{{Id: jsii.String(wholeBucket)}}
}

// wholeBucket is S3's usual name for a metrics filter that filters nothing.
const wholeBucket = "EntireBucket"

func days(n int) awscdk.Duration { return awscdk.Duration_Days(jsii.Number(n)) }

// statement turns one of our statements into CDK's, by way of the JSON that both read.
func statement(st policy.Statement) awsiam.PolicyStatement {
	return awsiam.PolicyStatement_FromJson(asJSON(st))
}

// document turns one of our documents into CDK's.
func document(d policy.Document) awsiam.PolicyDocument {
	return awsiam.PolicyDocument_FromJson(asJSON(d))
}

// asJSON is v as the maps and lists that CDK takes. Policy values always encode.
func asJSON(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}
