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
	"full":   append([]string{"--hosted-zone-id", "Z1"}, everything...),
	"given":  {"--bucket-name", "my-cache", "--domain", "cache.example.co.uk", "--certificate-arn", "arn:aws:acm:us-east-1:" + account + ":certificate/1", "--oidc-provider-arn", providerArn},
	"wide":   {"--account", account, "--trust-any-ref", "--query-strings", "all"},
	"config": {"--config", "vantage.yaml"},
	"copy":   {"--account", account, "--replica-region", "eu-west-1"},
}

// TestValidated synthesizes once as users do, with CDK's own validation, and lets
// cfn-lint read every variant.
func TestValidated(t *testing.T) {
	needMachine(t)
	dir := t.TempDir()
	var files []string
	for name, flags := range templates {
		validation := "false"
		if name == "full" {
			validation = "true"
		}
		out := filepath.Join(dir, name)
		env := append(awsEnv(machine.moto), "CDK_VALIDATION="+validation)
		r := run(t, "..", env, machine.infra, append([]string{"synth", "--output", out}, flags...)...)
		if r.code != 0 {
			t.Fatalf("%s: %s", name, r)
		}
		if warned := strings.Contains(r.stderr, "warning: role slurm-factory-github-actions trusts every run"); warned != (name == "wide") {
			t.Errorf("%s: warned %v: %s", name, warned, r)
		}
		assembled, err := filepath.Glob(filepath.Join(out, "*.template.json"))
		if err != nil || len(assembled) == 0 {
			t.Fatalf("%s: %v %v", name, assembled, err)
		}
		files = append(files, assembled...)
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
