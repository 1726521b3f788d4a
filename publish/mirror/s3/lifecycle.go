package s3

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
)

var readingLifecycle = act{"read the lifecycle rules of", "s3:GetLifecycleConfiguration"}

// Expiry returns after how many days the bucket discards incomplete uploads below prefix, or 0 if it keeps them.
func (b *Bucket) Expiry(ctx context.Context, prefix string) (days int, err error) {
	out, err := call(ctx, b, b.client.GetBucketLifecycleConfiguration, &sdk.GetBucketLifecycleConfigurationInput{Bucket: &b.opts.Bucket})
	if answer.Code(err) == "NoSuchLifecycleConfiguration" {
		return 0, nil
	}
	if err != nil {
		return 0, b.failed(readingLifecycle, "", err)
	}
	for _, r := range out.Rules {
		abort := r.AbortIncompleteMultipartUpload
		if r.Status != types.ExpirationStatusEnabled || abort == nil || !strings.HasPrefix(prefix, rulePrefix(r)) {
			continue
		}
		if n := int(aws.ToInt32(abort.DaysAfterInitiation)); days == 0 || n < days {
			days = n
		}
	}
	return days, nil
}

func rulePrefix(r types.LifecycleRule) string {
	if f := r.Filter; f != nil {
		if f.And != nil {
			return aws.ToString(f.And.Prefix)
		}
		return aws.ToString(f.Prefix)
	}
	return ""
}
