//go:build unchecked

package s3

const checked = false
