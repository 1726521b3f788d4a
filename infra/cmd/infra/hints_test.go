package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

// withoutCredentials takes from the test whatever credentials the machine has.
func withoutCredentials(t *testing.T) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONFIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
}

// TestEveryCommandHintsAtMissingCredentials: what every newcomer meets first.
func TestEveryCommandHintsAtMissingCredentials(t *testing.T) {
	withoutCredentials(t)
	for _, command := range []string{"deploy", "diff", "destroy", "drift", "adopt", "outputs", "doctor", "bootstrap", "settings --deployed"} {
		code, _, stderr := try(strings.Fields(command)...)
		if code != exitFailed || !strings.Contains(stderr, "hint: there are no credentials: sign in first") {
			t.Errorf("%s: exit code %d, %s", command, code, stderr)
		}
		code, _, stderr = try(append(strings.Fields(command), "--profile", "nowhere")...)
		if code != exitFailed || !strings.Contains(stderr, "hint: aws configure list-profiles") {
			t.Errorf("%s --profile nowhere: exit code %d, %s", command, code, stderr)
		}
	}
}

func TestHintsForErrorsOfAWS(t *testing.T) {
	for code, want := range map[string]string{
		"ExpiredToken":         "have expired",
		"InvalidClientTokenId": "does not know these credentials",
		"AccessDenied":         "may not do that",
		"Throttling":           "",
	} {
		if got := hintFor(&smithy.GenericAPIError{Code: code, Message: "m"}); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", code, got, want)
		}
	}
	if got := hintFor(hinted{&smithy.GenericAPIError{Code: "AccessDenied"}, "its own"}); got != "its own" {
		t.Errorf("the hint of the error gave way to %q", got)
	}
}

// TestWithoutNode: CDK runs in Node, and says nothing that helps when it is not there.
func TestWithoutNode(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	synth := []string{"synth", "--account", "123456789012", "--output", t.TempDir()}
	if code, _, stderr := try(synth...); code != exitFailed || !strings.Contains(stderr, "there is no node") || !strings.Contains(stderr, "hint: install Node.js") {
		t.Errorf("no node: exit code %d, %s", code, stderr)
	}
	if err := os.WriteFile(filepath.Join(dir, "node"), []byte("#!/bin/sh\necho v16.20.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := try(synth...); code != exitFailed || !strings.Contains(stderr, "node is v16.20.0, too old") {
		t.Errorf("old node: exit code %d, %s", code, stderr)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := try("--version")
	if code != 0 || !strings.HasPrefix(stdout, "infra ") || !strings.Contains(stdout, "go1.") || !strings.Contains(stdout, "cdk "+pinned) || strings.Count(stdout, "\n") != 1 {
		t.Errorf("exit code %d, %q", code, stdout)
	}
}

// TestTheAddressOfAlarmsIsAskedForOnce: a person is asked, and the answer is remembered;
// without one, a warning says that the alarms reach nobody.
func TestTheAddressOfAlarmsIsAskedForOnce(t *testing.T) {
	for _, row := range []struct {
		name     string
		flags    []string
		terminal bool
		answer   string
		asked    bool
		email    string
		warns    bool
	}{
		{"a person answers", nil, true, "ops@example.com\n", true, "ops@example.com", false},
		{"a person wants none", nil, true, "none\n", true, "", false},
		{"a person says nothing", nil, true, "\n", true, "", true},
		{"the input ends", nil, true, "", true, "", true},
		{"nobody is there", nil, false, "ops@example.com\n", false, "", true},
		{"it is given", []string{"--alarm-email", "a@example.com"}, true, "", false, "a@example.com", false},
		{"none is given", []string{"--alarm-email", "none"}, true, "", false, "", false},
		{"there are no alarms", []string{"--alarms=false"}, true, "", false, "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			var errs bytes.Buffer
			tool := &tool{environment: environment{stdin: strings.NewReader(row.answer), stderr: &errs, terminal: row.terminal}, settings: newSettings()}
			numbers := []string{"--github-owner-id", "1", "--github-repo-id", "2"} // whose lack has a warning of its own
			if err := tool.flags.Parse(append(numbers, row.flags...)); err != nil {
				t.Fatal(err)
			}
			c, err := tool.stack()
			if err != nil {
				t.Fatal(err)
			}
			s := site{Config: c}
			s.Account = "123456789012"
			if err := tool.askForAddress(&s); err != nil {
				t.Fatal(err)
			}
			if asked := strings.Contains(errs.String(), "receives the alarms"); asked != row.asked {
				t.Errorf("asked: %t, want %t", asked, row.asked)
			}
			if row.answer == "" && row.asked && !strings.HasSuffix(errs.String(), "\n") {
				t.Errorf("what follows would stand behind the question: %q", errs.String())
			}
			if s.AlarmEmail != row.email || s.Account != "123456789012" {
				t.Errorf("%q in account %q, want %q", s.AlarmEmail, s.Account, row.email)
			}
			if warns := strings.Contains(strings.Join(s.Warnings(), "\n"), "reach nobody"); warns != row.warns {
				t.Errorf("warns: %t, want %t", warns, row.warns)
			}
		})
	}
}

// TestHaveNode: the machine's own will do.
func TestHaveNode(t *testing.T) {
	if err := haveNode(context.Background()); err != nil {
		t.Error(err)
	}
}
