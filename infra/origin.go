package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// An origin is a bucket from which the distribution reads under its origin access control.
// CDK's own is in a module that knows every kind of origin, and brings in the bindings of
// load balancers, API Gateway and RDS (docs/infra-tests.md).
type origin struct {
	host   *string
	access awscloudfront.S3OriginAccessControl
	shield bool
	// spare is read when this one fails. nil: there is none.
	spare *origin
}

// failures are the answers of S3 after which CloudFront asks the spare. What is missing in
// the first is not asked of the second.
var failures = &[]*float64{jsii.Number(500), jsii.Number(502), jsii.Number(503), jsii.Number(504)}

// newOrigin is the cache bucket, with the copy in the second region as its spare.
func newOrigin(stack awscdk.Stack, c Config, bucket awss3.IBucket) *origin {
	access := awscloudfront.NewS3OriginAccessControl(stack, jsii.String("OAC"), &awscloudfront.S3OriginAccessControlProps{
		Signing: awscloudfront.Signing_SIGV4_ALWAYS(),
	})
	o := &origin{host: bucket.BucketRegionalDomainName(), access: access, shield: c.OriginShield}
	if c.ReplicaRegion != "" {
		o.spare = &origin{host: jsii.String(c.ReplicaBucket() + ".s3." + c.ReplicaRegion + ".amazonaws.com"), access: access}
	}
	return o
}

// Bind is called by CDK when the distribution first uses the origin.
func (o *origin) Bind(_ constructs.Construct, options *awscloudfront.OriginBindOptions) *awscloudfront.OriginBindConfig {
	config := &awscloudfront.OriginBindConfig{OriginProperty: &awscloudfront.CfnDistribution_OriginProperty{
		Id:                    options.OriginId,
		DomainName:            o.host,
		OriginAccessControlId: o.access.OriginAccessControlId(),
		// CloudFormation wants it for a bucket, and empty beside an origin access control.
		S3OriginConfig: &awscloudfront.CfnDistribution_S3OriginConfigProperty{OriginAccessIdentity: jsii.String("")},
	}}
	if o.shield {
		config.OriginProperty.OriginShield = &awscloudfront.CfnDistribution_OriginShieldProperty{Enabled: jsii.Bool(true), OriginShieldRegion: jsii.String(Region)}
	}
	if o.spare != nil {
		config.FailoverConfig = &awscloudfront.OriginFailoverConfig{FailoverOrigin: o.spare, StatusCodes: failures}
	}
	return config
}

// readableBy lets CloudFront read a bucket under a condition that says which distribution.
// It may list as well, so that what is missing is a 404; the root object keeps / from being
// that listing.
func readableBy(bucket string, only policy.Condition) []policy.Statement {
	service := policy.Service("cloudfront.amazonaws.com")
	return []policy.Statement{
		{Sid: "DistributionReads", Effect: policy.Allow, Principal: service, Action: policy.Strings{"s3:GetObject"}, Resource: policy.Strings{bucket + "/*"}, Condition: only},
		{Sid: "DistributionLists", Effect: policy.Allow, Principal: service, Action: policy.Strings{"s3:ListBucket"}, Resource: policy.Strings{bucket}, Condition: only},
	}
}
