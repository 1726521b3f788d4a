package preflight

import (
	"cmp"
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// bucket looks at a bucket, which is adopted when it is ours, free and in our region.
func (s Site) bucket(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "BucketName")
	what := "bucket " + name
	_, err := s.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	if code(err) == "NotFound" || code(err) == "NoSuchBucket" {
		return nil, nil
	}
	// S3 answers strangers and those who may not look alike. The list of our buckets tells.
	ours, err := s.ownBucket(ctx, name)
	if err != nil {
		return nil, err
	}
	if !ours {
		return []Conflict{{what, "belongs to another account", "choose another name: --suffix or --bucket-name"}}, nil
	}
	var found []Conflict
	var unseen []error
	for _, look := range []func(context.Context, string, string) ([]Conflict, error){s.bucketRegion, s.bucketStack, s.bucketPolicy} {
		conflicts, err := look(ctx, name, what)
		found, unseen = append(found, conflicts...), append(unseen, err)
	}
	return found, errors.Join(unseen...)
}

func (s Site) ownBucket(ctx context.Context, name string) (bool, error) {
	pages := s3.NewListBucketsPaginator(s.s3, &s3.ListBucketsInput{Prefix: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return false, err
		}
		for _, b := range page.Buckets {
			if aws.ToString(b.Name) == name {
				return true, nil
			}
		}
	}
	return false, nil
}

func (s Site) bucketRegion(ctx context.Context, name, what string) ([]Conflict, error) {
	location, err := s.s3.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &name})
	if err != nil {
		return nil, err
	}
	region := cmp.Or(string(location.LocationConstraint), "us-east-1") // which S3 does not name
	if location.LocationConstraint == types.BucketLocationConstraintEu {
		region = "eu-west-1" // of buckets made long ago
	}
	if region == s.Region {
		return nil, nil
	}
	return []Conflict{{what, "is in " + region + ", and the stack is in " + s.Region, "choose another name: --suffix or --bucket-name, and copy its objects"}}, nil
}

func (s Site) bucketStack(ctx context.Context, name, what string) ([]Conflict, error) {
	return s.ofAnother(ctx, name, what, "give another: --bucket-name; "+s.anotherStack())
}

func (s Site) bucketPolicy(ctx context.Context, name, what string) ([]Conflict, error) {
	_, err := s.s3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &name})
	there, err := exists(err, "NoSuchBucketPolicy")
	if err != nil || !there {
		return nil, err
	}
	return []Conflict{{what, "has a policy already, which the stack's own cannot replace",
		"save it (aws s3api get-bucket-policy --bucket " + name + "), then aws s3api delete-bucket-policy --bucket " + name}}, nil
}
