package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// A command is split as by a shell, and what a shell would do besides is refused.
func TestWordsOfACommand(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                   nil,
		"verify s3://bucket/x":               {"verify", "s3://bucket/x"},
		"prune\n  --yes\n  s3://bucket/x\n":  {"prune", "--yes", "s3://bucket/x"},
		`withdraw s3://bucket 'a b' --r "c"`: {"withdraw", "s3://bucket", "a b", "--r", "c"},
		`withdraw "it's $5" x`:               {"withdraw", "it's $5", "x"},
		`x --reason=''`:                      {"x", "--reason="},
		`x ''`:                               {"x", ""},
	} {
		var got []string
		if err := words(&got)(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"verify $X", "verify x; rm y", "verify x | y", "verify `id`", `verify "x`, "publish verify x", "daemon", "action", "exec make", "indexer"} {
		if err := words(new([]string))(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// A command has the credentials of the step, and what it writes is text: in the log, the summary and the report.
func TestACommandOfAStep(t *testing.T) {
	for _, test := range []struct {
		name   string
		inputs map[string]string
		err    error
		result string
		code   int
		log    []string
	}{
		{"done", map[string]string{"command": "verify s3://bucket/x", "report-file": "out.txt"}, nil, "done", 0, []string{"publish verify is done", "2 packages"}},
		{"failed", map[string]string{"command": "verify s3://bucket/x"}, cli.Fail(cli.ExitVerification, errors.New("no package")), "failed", cli.ExitVerification, []string{"publish verify failed with exit code 8", "no package"}},
		{"an input that is not for it", map[string]string{"command": "verify s3://bucket/x", "destination": "s3://bucket/x"}, nil, "failed", cli.ExitUsage, []string{"input destination: a command takes no such input"}},
		{"a misspelt one", map[string]string{"command": "verfy s3://bucket/x"}, nil, "failed", cli.ExitUsage, []string{"verfy is no command, did you mean verify?"}},
		{"without credentials", map[string]string{"command": "verify s3://bucket/x"}, mirror.ErrCredentials, "failed", cli.ExitCredentials, []string{"hint: credentials: env uses the credentials of earlier steps or of the machine"}},
		{"no command of a step", map[string]string{"command": "daemon"}, nil, "failed", cli.ExitUsage, []string{"daemon is no command for a step"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			env := clitest.Variables{"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": dir, "GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
				"INPUT_AWS-REGION": "us-east-1", "INPUT_CREDENTIALS": "env"}
			for name, text := range test.inputs {
				env[inputVariable(name)] = text
			}
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			var log strings.Builder
			a := newAction(cli.Env{Lookup: env.Lookup, Environ: env.Environ, Raw: cli.Streams{Stdout: &log}})
			ran := false
			a.commands = func(ctx context.Context, env cli.Env) error {
				ran = true
				if got, err := env.Target().AWS.Credentials.Retrieve(ctx); err != nil || got.AccessKeyID != "AKIDEXAMPLE" {
					t.Errorf("it has the credentials %v, %v", got, err)
				}
				if !slices.Equal(env.Args, []string{"verify", "s3://bucket/x"}) {
					t.Errorf("it is %q", env.Args)
				}
				fmt.Fprintln(env.Stdout, "2 packages\n::warning::<b>not a command</b>")
				return test.err
			}
			a.check = func(_ context.Context, env cli.Env) error {
				if env.Args[0] != "verify" {
					return cli.Fail(cli.ExitUsage, errors.New("verfy is no command, did you mean verify?"))
				}
				return nil
			}
			err := a.run(t.Context())
			if cli.ExitCode(err) != test.code {
				t.Errorf("exit code %d: %v", cli.ExitCode(err), err)
			}
			outputs := readOutputs(t, env["GITHUB_OUTPUT"])
			if outputs["result"] != test.result || outputs["failure-class"] != cli.ClassOf(test.code) {
				t.Errorf("outputs are %v", outputs)
			}
			for _, want := range test.log {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log lacks %q:\n%s", want, log.String())
				}
			}
			if strings.Contains(log.String(), "\n::warning::<b>") {
				t.Errorf("the log has a command that the mirror gave:\n%s", log.String())
			}
			if summary, _ := os.ReadFile(env["GITHUB_STEP_SUMMARY"]); ran && !strings.Contains(string(summary), "2 packages") {
				t.Errorf("summary:\n%s", summary)
			}
			if file := test.inputs["report-file"]; file != "" {
				if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(got), "2 packages") {
					t.Errorf("report: %q, %v", got, err)
				}
			}
		})
	}
}
