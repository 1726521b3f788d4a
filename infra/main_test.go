package infra

import (
	"os"
	"testing"

	"github.com/aws/jsii-runtime-go"
)

// TestMain owns the one Node process that all tests of the package share: starting it
// costs a second, a further stack in it a tenth of that. CDK's built-in validation
// takes ten times as long as the synthesis; TestValidated runs it once.
func TestMain(m *testing.M) {
	os.Setenv("CDK_VALIDATION", "false")
	os.Setenv("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}
