//go:build !unchecked

package checksum

// Checked is true in every program that publishes. The benchmark alone is also built
// with the tag "unchecked", to tell what hashing costs: S3 then checks only CRC64NVME.
const Checked = true
