package cloudfront

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
)

// A Distribution is a distribution that serves a bucket.
type Distribution struct {
	ID   string
	Host string // its first alternative domain name, or CloudFront's
	Path string // the path in the bucket that is its root, such as /noble; empty for the whole bucket
}

// Serving returns the account's distributions that serve a bucket.
func Serving(ctx context.Context, cfg aws.Config, bucket string) ([]Distribution, error) {
	api := cloudfront.NewFromConfig(cfg, func(o *cloudfront.Options) { o.RetryMaxAttempts = 1 })
	var all []Distribution
	var from *string
	for {
		page, err := api.ListDistributions(ctx, &cloudfront.ListDistributionsInput{Marker: from})
		if err != nil {
			return nil, fmt.Errorf("list distributions: %w", err)
		}
		list := page.DistributionList
		if list == nil {
			return all, nil
		}
		for _, d := range list.Items {
			if path, ok := originIn(d.Origins, bucket); ok {
				all = append(all, Distribution{aws.ToString(d.Id), hostOf(d), path})
			}
		}
		if !aws.ToBool(list.IsTruncated) || aws.ToString(list.NextMarker) == "" {
			return all, nil
		}
		from = list.NextMarker
	}
}

// originIn returns the origin path of a distribution if its origin is the bucket.
func originIn(o *types.Origins, bucket string) (path string, ok bool) {
	if o == nil {
		return "", false
	}
	for _, origin := range o.Items {
		name := aws.ToString(origin.DomainName)
		if strings.HasPrefix(name, bucket+".s3") && strings.Contains(name, ".amazonaws.com") {
			return strings.TrimSuffix(aws.ToString(origin.OriginPath), "/"), true
		}
	}
	return "", false
}

func hostOf(d types.DistributionSummary) string {
	if d.Aliases != nil && len(d.Aliases.Items) > 0 {
		return d.Aliases.Items[0]
	}
	return aws.ToString(d.DomainName)
}
