package infra

import (
	"os/exec"
	"strings"
	"testing"
)

// TestBindingsThatStayOut: CDK's bindings dominate the first build, and some modules bring in
// those of many others for a few lines. docs/infra-tests.md has the measurements.
func TestBindingsThatStayOut(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const bindings = "github.com/aws/aws-cdk-go/awscdk/v2"
	n := 0
	for path := range strings.Lines(string(out)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(path), bindings)
		if !ok {
			continue
		}
		n++
		switch strings.TrimPrefix(name, "/") {
		case "awsapigateway", "awsappsync", "awscognito", "awsglue", "awspinpoint", "awsrds", "awssagemaker", "awsstepfunctions":
			t.Errorf("%s is compiled, and nothing of it is used: go list -deps shows which import brings it in", name)
		}
	}
	if n < 50 || n > 130 {
		t.Errorf("%d packages of bindings, want at most 130", n)
	}
}
