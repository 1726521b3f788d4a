//go:build !race

package daemon_test

// many is more than fit into two runs.
const many = 2500
