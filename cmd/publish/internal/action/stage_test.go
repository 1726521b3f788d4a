package action

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

// A stage is a job on GitHub with a step that is the action, and the AWS that it meets:
// tokens, sessions, a bucket and a distribution that let pass only what a session may do
// and what it has signed.
type stage struct {
	dir    string            // the workspace
	with   map[string]string // inputs
	env    clitest.Variables // what else the environment has
	cloud  *sessiontest.Server
	bucket *s3test.Server
	cdn    *cloudfronttest.Server
	site   *httptest.Server // what clients see of the bucket
}

const stagedDistribution = "E2QWRUHAPOMQZL"

// newStage has the mirror of a fixture as buildcache in its workspace, and an empty bucket.
func newStage(t testing.TB, fixture string) *stage {
	t.Helper()
	return newStageOf(t, fixture, sessiontest.Options{}, s3test.Options{})
}

func newStageOf(t testing.TB, fixture string, job sessiontest.Options, storage s3test.Options) *stage {
	t.Helper()
	cloud, err := sessiontest.New("127.0.0.1:0", job)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	storage.Bucket, storage.Secrets = "cache", cloud.Secret
	s := &stage{dir: t.TempDir(), env: clitest.Variables{}, cloud: cloud, bucket: s3test.Handler(storage), cdn: cloudfronttest.New(stagedDistribution)}
	store := httptest.NewServer(cloud.Guard(s.bucket))
	t.Cleanup(store.Close)
	t.Cleanup(s.bucket.Close) // first: what hangs must end
	api := httptest.NewServer(cloud.Guard(s.cdn))
	t.Cleanup(api.Close)
	s.site = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.site.Close)
	if fixture != "" {
		s.source(t, "buildcache", fixture)
	}
	s.with = map[string]string{
		"role-to-assume": cloud.Role(), "path": "buildcache", "destination": "s3://cache/noble/spack", "endpoint-url": store.URL, "region": "us-east-1",
	}
	for name, v := range cloud.Environment() {
		s.env[name] = v
	}
	// The SDK reads these itself. What is in the environment must not be used.
	t.Setenv("AWS_ENDPOINT_URL_STS", cloud.URL)
	t.Setenv("AWS_ENDPOINT_URL_CLOUDFRONT", api.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENTNOTUS")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Cleanup(func() {
		for _, v := range append(cloud.Violations(), s.bucket.Violations()...) {
			t.Errorf("AWS was sent what it should not be: %s", v)
		}
	})
	return s
}

// source puts the mirror of a fixture into the workspace.
func (s *stage) source(t testing.TB, name, fixture string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(s.dir, filepath.FromSlash(name)), os.DirFS(clitest.Spack(t, fixture))); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) serve(w http.ResponseWriter, r *http.Request) {
	content, ok := s.bucket.Object(strings.TrimPrefix(r.URL.Path, "/"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(content)
}

// A stepped is what a step leaves.
type stepped struct {
	code        int
	log, stderr string
	summary     string
	outputs     map[string]string
	report      string
	files       []string // in the workspace that were not there before
}

// run runs the step in this process. Whatever happens, no secret is shown, and the
// workspace gets nothing but the report.
func (s *stage) run(t testing.TB, ctx context.Context) stepped {
	t.Helper()
	files := t.TempDir()
	env := clitest.Variables{
		"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": s.dir, "GITHUB_REPOSITORY": "vantagecompute/slurm-factory", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1",
		"GITHUB_OUTPUT": filepath.Join(files, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(files, "summary"),
	}
	maps.Copy(env, s.env)
	for name, v := range s.with {
		env[inputVariable(name)] = v
	}
	before := clitest.Tree(t, s.dir)
	var out, errs bytes.Buffer
	var got stepped
	got.code = cli.Run(ctx, cli.Env{Lookup: env.Lookup, Environ: env.Environ, Stdout: &out, Stderr: &errs}, func(ctx context.Context, env cli.Env) error { return Run(ctx, env, nil, nil) })
	got.log, got.stderr = out.String(), errs.String()
	got.outputs = readOutputs(t, env["GITHUB_OUTPUT"])
	if text, err := os.ReadFile(env["GITHUB_STEP_SUMMARY"]); err == nil {
		got.summary = string(text)
	}
	for name := range clitest.Tree(t, s.dir) {
		if !before[name] {
			got.files = append(got.files, name)
		}
	}
	if len(got.files) > 0 {
		if text, err := os.ReadFile(filepath.Join(s.dir, s.with["report-file"])); err == nil {
			got.report = string(text)
		}
	}
	if len(got.files) > 1 || len(got.files) == 1 && got.files[0] != s.with["report-file"] {
		t.Errorf("written into the workspace: %q", got.files)
	}
	s.noSecrets(t, got)
	return got
}

// noSecrets looks for the secrets of all tokens and sessions that there were.
func (s *stage) noSecrets(t testing.TB, got stepped) {
	t.Helper()
	var shown strings.Builder
	for line := range strings.Lines(got.log) {
		if !strings.HasPrefix(line, "::add-mask::") {
			shown.WriteString(line)
		}
	}
	for _, text := range []string{got.stderr, got.summary, got.report} {
		shown.WriteString(text)
	}
	for name, v := range got.outputs {
		shown.WriteString(name + "=" + v + "\n")
	}
	secrets := []string{"secret-of-the-environment", s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]}
	for _, token := range s.cloud.Tokens() {
		secrets = append(secrets, token.JWT)
	}
	for _, session := range s.cloud.Sessions() {
		secrets = append(secrets, session.AccessKey, session.SecretKey, session.Token)
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(shown.String(), secret) {
			t.Errorf("a secret is shown: %s", secret)
		}
	}
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

func (got stepped) ends(t testing.TB, code int, outputs map[string]string) {
	t.Helper()
	if got.code != code || got.stderr != "" {
		t.Errorf("exit code %d, want %d: %s\n%s", got.code, code, got.stderr, got.log)
	}
	for name, want := range outputs {
		if got.outputs[name] != want {
			t.Errorf("output %s is %q, want %q", name, got.outputs[name], want)
		}
	}
	if annotated := strings.Count(got.log, "\n::error "); annotated > 1 || (annotated == 1) != (code != cli.ExitDone) {
		t.Errorf("%d annotations of errors:\n%s", annotated, got.log)
	}
}
