//go:build !linux

package signing

import "golang.org/x/sys/unix"

// keepSecrets keeps a private key in memory out of core dumps.
func keepSecrets() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
