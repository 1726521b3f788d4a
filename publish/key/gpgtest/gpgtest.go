// Package gpgtest provides helpers for tests that run gpg.
package gpgtest

import (
	"os"
	"os/exec"
	"testing"
)

// Home returns a new home directory for gpg. Its agent is stopped when the test ends.
func Home(t testing.TB) string {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // short, since it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	return home
}
