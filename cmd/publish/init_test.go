package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/setup"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// What publish init writes, publish reads back: each setting with its value, whatever the value looks like.
func TestWhatInitWritesIsReadBack(t *testing.T) {
	key := clitest.Root("test/testdata/keys/one.pub")
	for _, name := range []string{
		"buildcache", "a b", "a: b", "a #b", "#a", "'a'", `"a"`, `a\nb`, "true", "No", "null", "./~", "1.0", "0x1f", "1e3", ".5", "- a", "{a}", "[a]", "*a", "&a", "!a", "|", ">", "%a", "@a", "a:", "a,b", "ä", "-", "...", "2026-01-01", " a ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.CopyFS(name, os.DirFS(clitest.Spack(t, "v3-signed"))); err != nil {
				t.Fatal(err)
			}
			args := []string{"--require-signed", "--trusted-keys", key, "--", name, "./to " + name}
			if code, _, errs := execute(t, nil, append([]string{"init"}, args...)...); code != cli.ExitDone {
				t.Fatalf("init: exit code %d: %s", code, errs)
			}
			code, out, errs := execute(t, nil, "--dry-run", "--json")
			if code != cli.ExitDone {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			var report task.Report
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for _, s := range report.Settings {
				if strings.HasPrefix(s.From, cli.ConfigFile) {
					got[s.Name] = s.Value
				}
			}
			if diff := cmp.Diff(map[string]string{"source": name, "destination": "./to " + name, "require-signed": "true", "trusted-keys": key}, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

// All files of trusted keys are in what publish init writes. The action takes one.
func TestInitKeepsAllTrustedKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	armored, err := os.ReadFile(clitest.Root("test/testdata/keys/one.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.pub", "b,c.pub"} {
		clitest.Write(t, name, string(armored))
	}
	args := []string{"init", "--trusted-keys", "a.pub", "--trusted-keys", `"b,c.pub"`}
	if code, _, errs := execute(t, nil, append(args, "--workflow", clitest.Spack(t, "v3-signed"), "s3://my-bucket")...); code != cli.ExitUsage || !strings.Contains(errs, "--workflow: the action takes one file of trusted keys") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs := execute(t, nil, append(args, clitest.Spack(t, "v3-signed"), "./to")...); code != cli.ExitDone {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	code, out, errs := execute(t, nil, "--dry-run", "--json")
	var report task.Report
	if err := json.Unmarshal([]byte(out), &report); code != cli.ExitDone || err != nil {
		t.Fatalf("exit code %d: %v, %s", code, err, errs)
	}
	if !slices.ContainsFunc(report.Settings, func(s cli.Setting) bool { return s.Name == "trusted-keys" && s.Value == `a.pub,"b,c.pub"` }) {
		t.Errorf("settings %+v", report.Settings)
	}
}

// A key without a value in publish.yaml is an error that names its place.
func TestASettingWithoutAValue(t *testing.T) {
	t.Chdir(t.TempDir())
	clitest.Write(t, cli.ConfigFile, "source: a\ndestination: ./to\nsign-key:\ninclude: [~]\ntrusted-keys: !!str\n")
	code, _, errs := execute(t, nil, "--dry-run")
	for _, want := range []string{"publish.yaml:3:1: sign-key: it has no value", "publish.yaml:4:1: include: it has no value", "publish.yaml:5:1: trusted-keys: it has no value"} {
		if code != cli.ExitUsage || !strings.Contains(errs, want) {
			t.Errorf("exit code %d: %s", code, errs)
		}
	}
}

// The comments of publish.yaml are settings once their # is taken away.
func TestTheCommentsOfInitAreSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	clitest.Write(t, "keys.asc", "")
	if code, _, errs := execute(t, nil, "init", "x", "s3://my-bucket"); code != cli.ExitDone {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	text, err := os.ReadFile(cli.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, name := range []string{"region", "endpoint-url", "distribution-id", "public-url", "trusted-keys"} {
		if strings.Contains(string(text), "\n# "+name+": ") {
			names++
		}
		text = []byte(strings.Replace(string(text), "\n# "+name+": ", "\n"+name+": ", 1))
	}
	clitest.Write(t, cli.ConfigFile, string(text))
	code, _, errs := execute(t, nil, "--dry-run")
	if names != 5 || code != cli.ExitUsage || !strings.Contains(errs, ": trusted-keys: open keys/release.asc") || strings.Count(errs, "publish: ") != 1 || strings.Contains(errs, "unknown key") {
		t.Errorf("%d names, exit code %d: %s", names, code, errs)
	}
}

// What is wrong is said at once, and then nothing is written; nor is a file that is there.
func TestInitRefusesAndWritesNothing(t *testing.T) {
	for _, row := range []struct {
		args []string
		want []string
	}{
		{[]string{}, []string{"no SOURCE and no DESTINATION, and standard input is not a terminal"}},
		{[]string{"s3://my-bucket"}, []string{"no SOURCE, and"}},
		{[]string{"a", "b", "c"}, []string{"3 arguments, want: publish init [flags] [[SOURCE] DESTINATION]"}},
		{[]string{"--endpoint-url", "minio", "--public-url", "cache", "--trusted-keys", "nosuch", "bc", "gs://x"}, []string{"--endpoint-url", "--public-url", "--trusted-keys: open nosuch", "want s3://bucket"}},
		{[]string{"--public-url", "https://me:secret@cache.example.org", "bc", "s3://my-bucket"}, []string{"--public-url: a user and a password do not belong in a file"}},
		{[]string{"--endpoint-url", "https://me:secret@s3.example.org", "bc", "s3://my-bucket"}, []string{"--endpoint-url"}},
		{[]string{"bc", "s3://me:secret@my-bucket"}, []string{"want s3://bucket"}},
		{[]string{"--region", "a\nb", "bc", "s3://my-bucket"}, []string{"--region"}},
		{[]string{"--workflow", "bc", "/srv/mirror"}, []string{"--workflow: the action publishes to S3"}},
		{[]string{"--worflow", "bc", "s3://my-bucket"}, []string{"did you mean --workflow?"}},
	} {
		t.Chdir(t.TempDir())
		code, out, errs := execute(t, nil, append([]string{"init"}, row.args...)...)
		if code != cli.ExitUsage || out != "" || strings.Contains(errs, "secret") {
			t.Errorf("%q: exit code %d: %s%s", row.args, code, out, errs)
		}
		for _, w := range row.want {
			if !strings.Contains(errs, w) {
				t.Errorf("%q: no %q: %s", row.args, w, errs)
			}
		}
		if there := clitest.Tree(t, "."); len(there) > 0 {
			t.Errorf("%q: written: %v", row.args, there)
		}
	}
	for _, name := range []string{cli.ConfigFile, setup.WorkflowFile} {
		t.Chdir(t.TempDir())
		if err := os.MkdirAll(".github/workflows", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("nowhere", name); err != nil { // also where it leads to nothing
			t.Fatal(err)
		}
		code, out, errs := execute(t, nil, "init", "--workflow", "bc", "s3://my-bucket")
		if code != cli.ExitUsage || out != "" || !strings.Contains(errs, name+" is there already") || strings.Contains(errs, "hint") {
			t.Errorf("exit code %d: %s%s", code, out, errs)
		}
		if there := clitest.Tree(t, "."); len(there) != 1 {
			t.Errorf("written: %v", there)
		}
	}
}

// The workflow uses the checkout that the README shows.
func TestTheWorkflowOfInitIsThatOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile(clitest.Root("README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(setup.Settings{Source: "bc", Destination: "s3://my-bucket"}.WorkflowYAML()) {
		if strings.Contains(line, "uses:") && !strings.Contains(string(readme), line) {
			t.Errorf("not in the README: %s", line)
		}
	}
}
