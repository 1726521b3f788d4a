//go:build !unchecked

package s3

// checked is true in every program that publishes. The benchmark alone is also built
// with the tag "unchecked", to tell what hashing costs: S3 then checks only CRC64NVME.
const checked = true
