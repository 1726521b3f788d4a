package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

// account opens the AWS account that the credentials belong to.
func account(ctx context.Context, profile string) (aws.Config, error) {
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRegion(infra.Region),
		awsconfig.WithLogger(logging.Nop{}), // what goes wrong is in the errors
	}
	if profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(profile))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fmt.Errorf("load AWS configuration: %w", err)
	}
	return cfg, nil
}

func accountID(ctx context.Context, cfg aws.Config) (string, error) {
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fallback(fmt.Errorf("ask AWS whose credentials these are: %w", err), signInHint)
	}
	return aws.ToString(who.Account), nil
}

// zoneName asks Route53 what the zone is called, so that nobody has to guess it.
func zoneName(ctx context.Context, cfg aws.Config, id string) (string, error) {
	zone, err := route53.NewFromConfig(cfg).GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: aws.String(id)})
	if err != nil {
		return "", hinted{fmt.Errorf("look up hosted zone %s: %w", id, err),
			"is the zone in this account? aws route53 list-hosted-zones shows them; --zone-name NAME skips the look-up"}
	}
	return strings.TrimSuffix(aws.ToString(zone.HostedZone.Name), "."), nil
}

func noSuchStack(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "ValidationError" && strings.Contains(api.ErrorMessage(), "does not exist")
}

// openS3 is S3 in the account. Elsewhere than at AWS, a bucket is a path and no host.
func openS3(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil })
}

// bucketExists says whether the account can see a bucket of this name.
func bucketExists(ctx context.Context, cfg aws.Config, name string) error {
	if _, err := openS3(cfg).HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(name)}); err != nil {
		return hinted{fmt.Errorf("look for bucket %s: %w", name, err), "aws s3 ls shows the account's buckets; --bucket-name makes a new one"}
	}
	return nil
}

// githubProvider is the ARN of the account's provider for GitHub, empty without one and
// for credentials that may not look: preflight says what it could not see.
func githubProvider(ctx context.Context, cfg aws.Config, account string) (string, error) {
	arn := infra.ProviderArn(account)
	_, err := iam.NewFromConfig(cfg).GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(arn)})
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == "NoSuchEntity" || api.ErrorCode() == "AccessDenied") {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", arn, err)
	}
	return arn, nil
}
