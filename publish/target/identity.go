package target

import (
	"cmp"
	"context"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// An Identity describes a destination in S3 and the credentials of its requests.
type Identity struct {
	Endpoint  string `json:"endpoint,omitempty"` // URL of the service; empty for Amazon's
	Region    string `json:"region,omitempty"`
	Account   string `json:"account,omitempty"`
	ARN       string `json:"arn,omitempty"` // empty if STS was not asked or has not answered
	AccessKey string `json:"access_key,omitempty"`
	Source    string `json:"source,omitempty"` // where the key was found, as the AWS SDK names it
}

// maxIdentity is the time limit for finding the identity. No run waits that long for it.
const maxIdentity = 3 * time.Second

// Identity returns the identity of requests to the destination, or nil for a directory or without credentials. It
// asks STS once if the service is Amazon's. Other services have their own users, and their keys must not be sent to
// AWS.
func (d *Destination) Identity(ctx context.Context) *Identity {
	if d.bucket == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxIdentity)
	defer cancel()
	cfg, err := d.aws(ctx)
	if err != nil {
		return nil
	}
	endpoint, region := d.bucket.Endpoint()
	ask := cmp.Or(region, "us-east-1")
	if at := session.STSEndpoint(cfg); d.bucket.Foreign() && (at == "" || at == endpoint) {
		ask = ""
	}
	who, err := session.Identify(ctx, cfg, ask)
	if err != nil {
		return nil
	}
	return &Identity{Endpoint: redact.URL(endpoint), Region: region, Account: who.Account, ARN: who.ARN, AccessKey: abridged(who.AccessKey), Source: who.Source}
}

// abridged returns the ID of a key as it is shown: whole for other stores, where it is the name of a user, and
// shortened for AWS, where it is random.
func abridged(id string) string {
	if len(id) < 16 {
		return id
	}
	return id[:4] + "..." + id[len(id)-4:]
}

// String describes the identity, such as: arn:aws:iam::123456789012:user/ci, account 123456789012, at Amazon S3,
// eu-central-1.
func (who *Identity) String() string {
	text := "as " + who.ARN
	if who.ARN == "" {
		text = "with the access key " + who.AccessKey
		if who.AccessKey == "" {
			text = "without credentials"
		}
	}
	if who.Account != "" {
		text += ", account " + who.Account
	}
	at := who.Endpoint
	if at == "" {
		at = "Amazon S3"
	}
	text += ", at " + at
	if who.Region != "" {
		text += ", " + who.Region
	}
	return text
}
