package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// templates are the variants that between them use every branch of the stack.
var templates = map[string][]string{
	"plain":  {"--account", account},
	"bare":   {"--account", account, "--alarms=false", "--maintain-environment", "none"},
	"full":   append([]string{"--hosted-zone-id", anyZone}, everything...),
	"given":  {"--bucket-name", "my-cache", "--domain", "cache.example.co.uk", "--certificate-arn", "arn:aws:acm:us-east-1:" + account + ":certificate/1", "--oidc-provider-arn", providerArn},
	"wide":   {"--account", account, "--trust-any-ref", "--query-strings", "all"},
	"config": {"--config", "vantage.yaml"},
	"copy":   {"--account", account, "--replica-region", "eu-west-1"},
}

// anyZone stands for the id of a zone in the template that is made once. Tests that deploy it put theirs in its place,
// which gives what infra synth writes for that id, byte for byte.
const anyZone = "Z0STANDSFORANYZONE"

var variants = map[string]synthesis{}

// variant is what infra synth makes of one of the templates, made once for all tests, as users do: the full one with
// CDK's own validation.
func variant(t *testing.T, name string) synthesis {
	t.Helper()
	if s, ok := variants[name]; ok {
		return s
	}
	s := synthesize(t, filepath.Join(machine.made, name), name == "full", templates[name]...)
	if s.code != 0 || len(s.files) == 0 {
		t.Fatalf("%s: %s", name, s)
	}
	variants[name] = s
	return s
}

// TestValidated lets cfn-lint read every variant.
func TestValidated(t *testing.T) {
	needMachine(t)
	dir := t.TempDir()
	var files []string
	for name := range templates {
		s := variant(t, name)
		if warned := strings.Contains(s.stderr, "warning: role slurm-factory-github-actions trusts every run"); warned != (name == "wide") {
			t.Errorf("%s: warned %v: %s", name, warned, s)
		}
		files = append(files, s.files...)
	}
	lint := filepath.Join(machine.tools, "cfn-lint")
	if _, err := os.Stat(lint); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if r := run(t, dir, os.Environ(), lint, files...); r.code != 0 || strings.TrimSpace(r.stdout) != "" {
		t.Error(r)
	}
}

// TestSynthNeedsNothing: no credentials, no network, no home of a user's settings.
func TestSynthNeedsNothing(t *testing.T) {
	needMachine(t)
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "CDK_VALIDATION=false",
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED=true"}
	dir := t.TempDir()
	r := run(t, "..", env, machine.infra, "synth", "--account", account, "--output", dir)
	if r.code != 0 || !strings.Contains(r.stderr, "wrote "+dir+"/SlurmFactoryInfraStack.template.json") {
		t.Error(r)
	}
	if strings.Contains(r.stderr, "end-of-life") {
		t.Errorf("CDK's banner about Node is shown: %s", r)
	}
}
