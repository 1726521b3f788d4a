package main

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// A step is one run of the action, as a workflow has it.
type step struct {
	dir    string            // the workspace
	with   map[string]string // inputs
	env    variables         // what else the environment has
	bucket *s3test.Server
}

// A stepped is what a step leaves.
type stepped struct {
	code        int
	log, stderr string
	summary     string
	outputs     map[string]string
}

// newStep has the mirror of a fixture as buildcache in its workspace, and a bucket.
func newStep(t testing.TB, fixture string) *step {
	t.Helper()
	s := &step{dir: t.TempDir(), bucket: s3test.New(s3test.Options{Bucket: "cache"})}
	t.Cleanup(s.bucket.Close)
	if fixture != "" {
		if err := os.CopyFS(filepath.Join(s.dir, "buildcache"), os.DirFS(spack(t, fixture))); err != nil {
			t.Fatal(err)
		}
	}
	s.with = map[string]string{"credentials": "env", "path": "buildcache", "destination": "s3://cache/noble/spack", "s3-endpoint": s.bucket.URL}
	s.env = variables{}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE") // the SDK reads these itself
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary/wJalrXUtnFEMI/K7MDENG")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return s
}

// run runs the step in this process.
func (s *step) run(t testing.TB, ctx context.Context) stepped {
	t.Helper()
	files := t.TempDir()
	env := variables{
		"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": s.dir, "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_REPOSITORY": "vantagecompute/slurm-factory",
		"GITHUB_OUTPUT": filepath.Join(files, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(files, "summary"),
	}
	for name, v := range s.with {
		env[inputVariable(name)] = v
	}
	maps.Copy(env, s.env)
	var out, errs bytes.Buffer
	var got stepped
	got.code = run(ctx, environment{args: []string{"action"}, lookup: env.lookup, environ: env.environ, stdout: &out, stderr: &errs})
	got.log, got.stderr = out.String(), errs.String()
	got.outputs = readOutputs(t, env["GITHUB_OUTPUT"])
	if text, err := os.ReadFile(env["GITHUB_STEP_SUMMARY"]); err == nil {
		got.summary = string(text)
	}
	return got
}

func (v variables) environ() []string {
	var all []string
	for name, value := range v {
		all = append(all, name+"="+value)
	}
	return all
}

// readOutputs reads what GitHub's runner reads: the last value of a name counts.
func readOutputs(t testing.TB, file string) map[string]string {
	t.Helper()
	outputs := make(map[string]string)
	text, err := os.ReadFile(file)
	if err != nil {
		return outputs
	}
	rest := strings.Split(string(text), "\n")
	for len(rest) > 1 {
		name, delimiter, ok := strings.Cut(rest[0], "<<")
		if !ok {
			t.Fatalf("output file: %q", rest[0])
		}
		rest = rest[1:]
		var value []string
		for rest[0] != delimiter {
			value, rest = append(value, rest[0]), rest[1:]
		}
		rest = rest[1:]
		outputs[name] = strings.Join(value, "\n")
	}
	return outputs
}

// A mirror is published, published again, and looked at, and each time the outputs say
// what happened.
func TestActionPublishes(t *testing.T) {
	s := newStep(t, "v3-signed")
	for _, row := range []struct {
		dryRun string
		want   map[string]string
		title  string
	}{
		{"true", map[string]string{"result": "dry-run", "specs-published": "0", "objects-uploaded": "0"}, "## 🔎 Dry run: would publish"},
		{"false", map[string]string{"result": "published", "specs-skipped": "0"}, "## ✅ Published"},
		{"false", map[string]string{"result": "unchanged", "specs-published": "0", "objects-uploaded": "0"}, "## ✅ Nothing to do"},
	} {
		s.with["dry-run"] = row.dryRun
		got := s.run(t, t.Context())
		if got.code != exitDone || got.stderr != "" {
			t.Fatalf("exit code %d, %s\n%s", got.code, got.stderr, got.log)
		}
		for name, want := range row.want {
			if got.outputs[name] != want {
				t.Errorf("dry-run %s: output %s is %q, want %q", row.dryRun, name, got.outputs[name], want)
			}
		}
		if !strings.HasPrefix(got.summary, row.title) {
			t.Errorf("dry-run %s: summary: %s", row.dryRun, got.summary)
		}
		t.Log(got.log, got.summary, got.outputs)
	}
}
