//go:build !unchecked

package checksum

// Checked is true in every program that publishes. Only the benchmark is also built with the tag "unchecked", to
// measure the cost of hashing: S3 then checks only the CRC-64/NVME.
const Checked = true
