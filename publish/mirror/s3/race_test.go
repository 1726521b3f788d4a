//go:build race

package s3

// raced: the race detector makes everything several times slower.
const raced = true
