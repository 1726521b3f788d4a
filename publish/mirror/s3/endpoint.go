package s3

import "github.com/aws/aws-sdk-go-v2/aws"

// Endpoint returns the URL at which the bucket's service was configured, empty for Amazon's usual one, and the region.
func (b *Bucket) Endpoint() (url, region string) {
	o := b.client.Options()
	return aws.ToString(o.BaseEndpoint), o.Region
}

// Endpoint is that of its bucket.
func (m *Mirror) Endpoint() (url, region string) { return m.bucket.Endpoint() }

// Foreign reports whether the service is not Amazon's.
func (b *Bucket) Foreign() bool { return b.foreign }
