package s3

import "github.com/aws/aws-sdk-go-v2/aws"

// Endpoint returns the configured URL of the bucket's service, empty for Amazon's default, and the region.
func (b *Bucket) Endpoint() (url, region string) {
	o := b.client.Options()
	return aws.ToString(o.BaseEndpoint), o.Region
}

// Endpoint returns the Endpoint of the bucket.
func (m *Mirror) Endpoint() (url, region string) { return m.bucket.Endpoint() }

// Foreign reports whether the service is not Amazon's.
func (b *Bucket) Foreign() bool { return b.foreign }
