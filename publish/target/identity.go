package target

import (
	"cmp"
	"context"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// An Identity says where a destination in S3 is, and what requests to it are made as.
type Identity struct {
	Endpoint  string `json:"endpoint,omitempty"` // URL of the service; empty: Amazon's
	Region    string `json:"region,omitempty"`
	Account   string `json:"account,omitempty"`
	ARN       string `json:"arn,omitempty"` // empty: STS was not asked, or has not answered
	AccessKey string `json:"access_key,omitempty"`
	Source    string `json:"source,omitempty"` // where the key comes from, in the words of AWS's SDK
}

// maxIdentity is how long it may take to find out who we are. No run waits for it as long.
const maxIdentity = 3 * time.Second

// Identity returns what requests to the destination are made as; nil for a directory, and without credentials. STS is asked
// once, unless the service is not Amazon's: such a service has its own users, and its keys are no business of AWS.
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

// abridged is the ID of a key as it is shown: users of other stores whole, since that is what they are called, and the
// random ones of AWS as far as it takes to tell them apart.
func abridged(id string) string {
	if len(id) < 16 {
		return id
	}
	return id[:4] + "..." + id[len(id)-4:]
}

// String says what requests are made as: as arn:aws:iam::123456789012:user/ci, account 123456789012, at Amazon S3, eu-central-1.
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
