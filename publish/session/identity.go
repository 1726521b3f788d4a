package session

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// An Identity is what requests are made as.
type Identity struct {
	AccessKey string // the public half of the key in use
	Source    string // where the SDK found it
	Account   string // empty: not known
	ARN       string // as STS says; empty: it was not asked, or has not answered
}

// Identify returns what a configuration acts as. If region is not empty, STS is asked once, there unless the configuration
// says otherwise; without its answer the rest is returned. The error is that of the credentials.
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

// STSEndpoint returns the URL at which STS was configured; empty: Amazon's usual one.
func STSEndpoint(cfg aws.Config) string {
	return aws.ToString(sts.NewFromConfig(cfg).Options().BaseEndpoint)
}
