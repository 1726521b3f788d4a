package session

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// An Identity describes the credentials of requests.
type Identity struct {
	AccessKey string // the public half of the key in use
	Source    string // where the SDK found it
	Account   string // empty if unknown
	ARN       string // according to STS; empty if it was not asked or has not answered
}

// Identify returns the identity of a configuration. If region is not empty, it asks STS once, in that region unless
// the configuration names an endpoint. Without an answer of STS it returns the rest. The error is that of the
// credentials.
func Identify(ctx context.Context, cfg aws.Config, region string) (Identity, error) {
	is, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return Identity{}, err
	}
	who := Identity{AccessKey: is.AccessKeyID, Source: is.Source, Account: is.AccountID}
	if region == "" {
		return who, nil
	}
	client := sts.NewFromConfig(cfg, func(o *sts.Options) {
		o.Retryer = aws.NopRetryer{}
		if o.Region == "" {
			o.Region = region
		}
	})
	if said, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); err == nil {
		who.Account, who.ARN = aws.ToString(said.Account), aws.ToString(said.Arn)
	}
	return who, nil
}

// STSEndpoint returns the configured URL of STS, or an empty string for Amazon's default.
func STSEndpoint(cfg aws.Config) string {
	return aws.ToString(sts.NewFromConfig(cfg).Options().BaseEndpoint)
}
