// Package gpgtest has what tests that run gpg have in common.
package gpgtest

import (
	"os"
	"os/exec"
	"testing"
)

// Home makes a home directory of gpg. Its agent ends with the test.
func Home(t testing.TB) string {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	return home
}
