//go:build !race

package s3

const raced = false
