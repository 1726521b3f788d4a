package infra

import (
	"os"
	"syscall"
	"testing"

	"github.com/aws/jsii-runtime-go"
)

// TestMain owns the one Node process that all tests of the package share: starting it
// costs a second, a further stack in it a tenth of that. CDK's built-in validation
// takes ten times as long as the synthesis; package e2e runs it once.
//
// The Node process gets the environment that was there when Go's packages were
// initialized, so the test binary starts itself again to change it.
func TestMain(m *testing.M) {
	if os.Getenv("CDK_VALIDATION") == "" {
		env := append(os.Environ(), "CDK_VALIDATION=false", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20")
		if err := syscall.Exec(self(), os.Args, env); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}
