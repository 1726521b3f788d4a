//go:build race

package daemon_test

// many is more than fit into one run; with the race detector, SQLite takes its time.
const many = 1100
