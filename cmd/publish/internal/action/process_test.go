package action

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// newTestAction is an action whose log, outputs and summary are read.
func newTestAction(t testing.TB) (a *action, log *bytes.Buffer, outputs func() map[string]string, summary func() string) {
	t.Helper()
	dir := t.TempDir()
	env := clitest.Variables{"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": dir, "GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary")}
	log = new(bytes.Buffer)
	a = newAction(cli.Env{Lookup: env.Lookup, Environ: env.Environ, Raw: cli.Streams{Stdout: log}})
	a.in = &inputs{summary: true, destination: "s3://cache/noble/spack", maxSpecs: 200}
	return a, log, func() map[string]string { return readOutputs(t, env["GITHUB_OUTPUT"]) }, func() string {
		text, _ := os.ReadFile(env["GITHUB_STEP_SUMMARY"])
		return string(text)
	}
}

// A job that does not end when it is told to is left alone, in time for the last words.
func TestActionLeavesAJobThatDoesNotEnd(t *testing.T) {
	a, _, outputs, summary := newTestAction(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		let := make(chan struct{})
		time.AfterFunc(time.Minute, func() { cancel(cli.SignalError{Signal: syscall.SIGINT}) })
		began := time.Now()
		err := a.inTime(ctx, func(context.Context) error {
			a.log.Begin(task.PartUpload)
			sends, ends := a.log.Progress(&publish.Plan{Mirrors: []*publish.MirrorPlan{{Documents: [][]publish.Write{{{Object: buildcache.Object{Name: "a", Size: 9}}, {Object: buildcache.Object{Name: "b", Size: 9}}}}}}})
			sends.Sent("a", 9, 9)
			<-let // stuck
			ends(&publish.Outcome{})
			return nil
		})
		if took := time.Since(began) - time.Minute; took != stopWithin {
			t.Errorf("it took %v", took)
		}
		if err := a.conclude(err); cli.ExitCode(err) != 130 || !errors.Is(err, cli.ErrReported) {
			t.Errorf("exit code %d: %v", cli.ExitCode(err), err)
		}
		close(let)
	})
	if got := outputs(); got["result"] != "cancelled" || got["objects-uploaded"] != "1" {
		t.Errorf("outputs %q", got)
	}
	if !strings.HasPrefix(summary(), "## ⏹️ Cancelled while uploading: 1 of 2 objects sent, index not touched, clients are unaffected\n") {
		t.Error(summary())
	}
}

// A defect of ours is told as one, with outputs and all.
func TestActionCrashes(t *testing.T) {
	a, log, outputs, summary := newTestAction(t)
	err := a.conclude(a.inTime(t.Context(), func(context.Context) error { panic("::error::oh %0A no") }))
	if cli.ExitCode(err) != cli.ExitInternal {
		t.Errorf("exit code %d", cli.ExitCode(err))
	}
	if got := outputs(); got["result"] != "failed" || got["failure-class"] != "internal" {
		t.Errorf("outputs %q", got)
	}
	for _, want := range []string{"::error title=publish failed%3A internal::a defect of this program: ::error::oh %250A no", "process_test.go:"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q: %s", want, log)
		}
	}
	if !strings.Contains(summary(), "a defect of this program") {
		t.Error(summary())
	}
}

// If even telling fails, the step does not pass for done.
func TestActionCannotTell(t *testing.T) {
	a, log, _, _ := newTestAction(t)
	a.report = nil
	if err := a.conclude(nil); cli.ExitCode(err) != cli.ExitInternal || !strings.Contains(log.String(), "the result cannot be shown") {
		t.Errorf("%v: %s", err, log)
	}
	b, log, outputs, _ := newTestAction(t)
	b.env.Environ = func() []string { panic("no environment") }
	if err := b.run(t.Context()); cli.ExitCode(err) != cli.ExitInternal || outputs()["failure-class"] != "internal" {
		t.Errorf("%v: %s", err, log)
	}
}

// Nothing keeps a process whose step was cancelled, not even a log that takes nothing more.
func TestActionEndsInAnyCase(t *testing.T) {
	a, _, _, _ := newTestAction(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		exited := make(chan int, 1)
		a.exit = func(code int) { exited <- code }
		stop := a.exitInTime(ctx)
		defer stop()
		time.Sleep(time.Hour)
		began := time.Now()
		cancel(cli.SignalError{Signal: syscall.SIGTERM})
		if code := <-exited; code != 143 || time.Since(began) > 6*time.Second {
			t.Errorf("exit code %d after %v", code, time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		a.exit = func(int) { t.Error("ended although it had ended by itself") }
		stop := a.exitInTime(ctx)
		cancel(cli.SignalError{Signal: syscall.SIGTERM})
		time.Sleep(time.Second)
		stop()
		time.Sleep(time.Minute)
	})
}

// What kills us without a word leaves a step that has failed.
func TestActionSaysThatItHasFailedUntilItHasNot(t *testing.T) {
	s := newStage(t, "v3-signed")
	out := filepath.Join(t.TempDir(), "output")
	var seen map[string]string
	s.env["GITHUB_OUTPUT"] = out
	s.bucket.Hook(func(*http.Request) s3test.Fault {
		if seen == nil {
			seen = readOutputs(t, out)
		}
		return s3test.None
	})
	if got := s.run(t, t.Context()); got.code != cli.ExitDone {
		t.Fatal(got.log)
	}
	if seen["result"] != "failed" || seen["failure-class"] != "internal" || readOutputs(t, out)["result"] != "published" {
		t.Errorf("before: %q", seen)
	}
}

// Outside of a runner, or with one that takes nothing, what is published is published.
func TestActionOutsideOfARunner(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "no", "such")
	for _, env := range []clitest.Variables{
		{"GITHUB_ACTIONS": "", "GITHUB_OUTPUT": "", "GITHUB_STEP_SUMMARY": ""},
		{"GITHUB_OUTPUT": gone, "GITHUB_STEP_SUMMARY": gone},
	} {
		s := newStage(t, "v3-signed")
		t.Setenv("AWS_ENDPOINT_URL_S3", s.with["endpoint-url"])
		for name, v := range env {
			s.env[name] = v
		}
		if env["GITHUB_OUTPUT"] == "" {
			session := s.static(t)
			s.with["credentials"] = "env"
			t.Setenv("AWS_ACCESS_KEY_ID", session.AccessKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", session.SecretKey)
			t.Setenv("AWS_SESSION_TOKEN", session.Token)
			s.env["AWS_SESSION_TOKEN"] = session.Token
		}
		got := s.run(t, t.Context())
		if got.code != cli.ExitDone || !strings.HasSuffix(got.log, "\nPublished 11 packages to noble/spack\n") {
			t.Errorf("%v: exit code %d: %s", env, got.code, got.log)
		}
		if strings.Contains(got.log, "add-mask") != (env["GITHUB_OUTPUT"] != "") {
			t.Errorf("%v: masks: %s", env, got.log)
		}
		if env["GITHUB_OUTPUT"] == "" && !strings.Contains(got.log, "warning: credentials that end") {
			t.Errorf("nobody says that they cannot be renewed: %s", got.log)
		}
	}
}

// static is a session that somebody else has begun.
func (s *stage) static(t testing.TB) sessiontest.Session {
	t.Helper()
	with := s.with
	s.with = map[string]string{}
	for name, v := range with {
		s.with[name] = v
	}
	s.with["dry-run"], s.with["session-policy"] = "true", "none"
	s.env["GITHUB_ACTIONS"] = "true"
	s.run(t, t.Context()).ends(t, cli.ExitDone, nil)
	s.with, s.env["GITHUB_ACTIONS"] = with, ""
	all := s.cloud.Sessions()
	return all[len(all)-1]
}

// puts is how many objects were stored in one request each. One more request is refused: it proves that
// conditions are obeyed.
func puts(server *s3test.Server) int {
	n := 0
	for _, e := range server.Log() {
		if e.Operation == "PutObject" && e.Status == 200 {
			n++
		}
	}
	return n
}

// The role that is assumed is narrowed to what is published, and in a dry run to reading.
func TestActionSessions(t *testing.T) {
	s := newStage(t, "v3-signed")
	s.with["distribution-id"] = stagedDistribution
	for _, row := range []struct {
		with           map[string]string
		has, hasNot    string
		writes, invals int
	}{
		{map[string]string{"dry-run": "true"}, "s3:GetObject", "s3:PutObject", 0, 0},
		{map[string]string{"dry-run": "true", "session-policy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":"*"}]}`}, `"Resource":"*"`, "s3:PutObject", 0, 0},
		{nil, "arn:aws:s3:::cache/noble/spack/*", "s3:DeleteObject", 41, 1},
		{map[string]string{"session-policy": "none"}, "", "Allow", 41, 1},
	} {
		for name, v := range row.with {
			s.with[name] = v
		}
		s.run(t, t.Context()).ends(t, cli.ExitDone, nil)
		for name := range row.with {
			delete(s.with, name)
		}
		sessions := s.cloud.Sessions()
		last := sessions[len(sessions)-1]
		if !strings.Contains(last.Policy, row.has) || strings.Contains(last.Policy, row.hasNot) {
			t.Errorf("%v: policy %s", row.with, last.Policy)
		}
		if last.Name != "slurm-factory-publish-15112233445-1" || last.Asked != time.Hour {
			t.Errorf("session %s of %v", last.Name, last.Asked)
		}
		if n := puts(s.bucket); n != row.writes {
			t.Errorf("%v: %d objects written, want %d", row.with, n, row.writes)
		}
		if n := len(s.cdn.Invalidations(stagedDistribution)); n != row.invals {
			t.Errorf("%v: %d invalidations, want %d", row.with, n, row.invals)
		}
	}
}

func TestActionGuardsTheAccount(t *testing.T) {
	s := newStage(t, "v3-signed")
	s.with["allowed-account-ids"] = "210987654321"
	s.run(t, t.Context()).ends(t, cli.ExitUsage, map[string]string{"failure-class": "config"})
	if n := len(s.cloud.Tokens()); n != 0 {
		t.Errorf("%d tokens were asked for", n)
	}
	s.with["allowed-account-ids"], s.with["mask-aws-account-id"] = "123456789012", "true"
	got := s.run(t, t.Context())
	got.ends(t, cli.ExitDone, nil)
	rest := passing.ReplaceAllString(got.log, "") + got.summary
	if !strings.Contains(got.log, "::add-mask::123456789012\n") || strings.Contains(rest[strings.Index(rest, "::group::Identity"):], "123456789012") {
		t.Errorf("the account is shown:\n%s", rest)
	}
}

// Names of files are the worst that a source can bring: none is a command, an output or
// Markdown.
func TestActionIsNotInjectedInto(t *testing.T) {
	s := newStage(t, "")
	evil := "::error::x%0A ##[group]y |<b>`*[a](http:b)"
	s.source(t, "buildcache/"+evil, "v3-signed")
	s.source(t, "buildcache/good", "v3-signed")
	document, err := filepath.Glob(filepath.Join(s.dir, "buildcache/good/v3/manifests/spec/zlib/*.json"))
	if err != nil || len(document) != 1 {
		t.Fatal(document, err)
	}
	for _, name := range []string{"::warning::z\n::error::z.spec.manifest.json", "x##[error]|<i>`.spec.manifest.json"} {
		clitest.Write(t, filepath.Join(filepath.Dir(document[0]), name), "{}")
	}
	s.with["report-file"], s.with["keep-going"] = "report.json", "true"
	got := s.run(t, t.Context())
	got.ends(t, cli.ExitSource, map[string]string{"result": "failed"})
	told(t, got)
	command := regexp.MustCompile(`(?m)^\s*::([a-z-]+)|##\[`)
	var names []string
	for _, m := range command.FindAllStringSubmatch(passing.ReplaceAllString(got.log, ""), -1) {
		if !slices.Contains([]string{"group", "endgroup"}, m[1]) {
			names = append(names, m[1])
		}
	}
	if !slices.Equal(names, []string{"error"}) {
		t.Errorf("commands %q in\n%s", names, got.log)
	}
	outside := regexp.MustCompile("(?s)```.*?\n```\n").ReplaceAllString(got.summary, "")
	if strings.Contains(outside, "<b>") || strings.Contains(outside, "<i>") || strings.Contains(outside, "[a]") {
		t.Error(outside)
	}
	if !strings.Contains(got.summary, "&#91;a&#93;") {
		t.Errorf("the mirror is not named:\n%s", outside)
	}
}

// A proxy that looks into TLS has certificates of its own, which everything that is asked
// must be trusted by.
func TestActionTrustsTheProxy(t *testing.T) {
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	s := newStage(t, "v3-signed")
	store := httptest.NewTLSServer(s.cloud.Guard(s.bucket))
	t.Cleanup(store.Close)
	store.Config.ErrorLog = nil
	site := httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(site.Close)
	s.with["endpoint-url"], s.with["public-url"], s.with["ca-bundle"] = store.URL, site.URL+"/noble/spack", "ca.pem"
	clitest.Write(t, filepath.Join(s.dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: store.Certificate().Raw})))
	s.run(t, t.Context()).ends(t, cli.ExitDone, map[string]string{"result": "published", "mirror-url": site.URL + "/noble/spack"})

	http.DefaultTransport = before
	s.with["ca-bundle"] = ""
	s.with["timeout"] = "1s"
	if got := s.run(t, t.Context()); got.code == cli.ExitDone {
		t.Errorf("without it nobody is trusted: %s", got.log)
	}
}

// How long caches may keep an object can be said for both kinds, and keys be left out.
func TestActionLabels(t *testing.T) {
	s := newStage(t, "v3-signed")
	s.with["cache-control-immutable"], s.with["cache-control-mutable"], s.with["publish-keys"] = "public, max-age=1", "public, max-age=2", "false"
	s.run(t, t.Context()).ends(t, cli.ExitDone, map[string]string{"specs-published": "11"})
	kinds := map[string]int{}
	for _, e := range s.bucket.Log() {
		if e.Operation != "PutObject" {
			continue
		}
		want := "public, max-age=2"
		if strings.Contains(e.Key, "/blobs/") {
			want = "public, max-age=1"
		}
		if got := s.bucket.Labels(e.Key).Get("Cache-Control"); got != want {
			t.Errorf("%s: %q, want %q", e.Key, got, want)
		}
		if strings.Contains(e.Key, "/key/") {
			t.Errorf("a key: %s", e.Key)
		}
		kinds[want]++
	}
	if len(kinds) != 2 {
		t.Errorf("%v", kinds)
	}
}

// Reading back is a check of its own, which can be left out.
func TestActionVerifies(t *testing.T) {
	shut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(shut.Close)
	for _, row := range []struct {
		verify string
		url    string
		code   int
	}{{"true", "", cli.ExitVerification}, {"false", "", cli.ExitDone}, {"false", shut.URL + "/noble/spack", cli.ExitDone}} {
		s := newStage(t, "v3-signed")
		s.with["verify-published"], s.with["public-url"] = row.verify, row.url
		s.with["session-policy"] = "none" // with a narrow one, S3 does not tell that something is not there
		written := false
		s.bucket.Hook(func(r *http.Request) s3test.Fault {
			if !strings.HasSuffix(r.URL.Path, "/index.manifest.json") {
				return s3test.None
			}
			if r.Method == http.MethodPut {
				written = true
			} else if written { // somebody has removed it
				return s3test.Refuse(404, "NoSuchKey")
			}
			return s3test.None
		})
		got := s.run(t, t.Context())
		if got.code != row.code {
			t.Errorf("%+v: exit code %d: %s", row, got.code, got.log)
		}
		if row.code == cli.ExitVerification && !strings.Contains(got.log, "there is no index") {
			t.Error(got.log)
		}
	}
}

// Without credentials of any kind, the message does not stop at the places of the SDK.
func TestActionWithoutCredentials(t *testing.T) {
	s := newStage(t, "v3-signed")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("HOME", t.TempDir())
	s.with["credentials"] = "env"
	got := s.run(t, t.Context())
	got.ends(t, cli.ExitCredentials, map[string]string{"failure-class": "auth"})
	for _, want := range []string{"no credentials in the environment", "hint: credentials: env uses the credentials of earlier steps"} {
		if !strings.Contains(got.log, want) {
			t.Errorf("no %q in %s", want, got.log)
		}
	}
}

// The list of what is published is left out where it is longer than jobs can hand on.
func TestPublishedSpecsHaveABound(t *testing.T) {
	a, _, _, _ := newTestAction(t)
	for _, row := range []struct{ packages, least, most int }{{1000, 1000, 1000}, {5000, 0, 0}} {
		m := task.MirrorReport{Counts: map[string]int{"new": row.packages}}
		for i := range row.packages {
			m.Packages = append(m.Packages, task.PackageReport{Name: fmt.Sprint("p", i), Version: "1", Hash: strings.Repeat("a", 32), Status: "new", OS: "ubuntu22.04", Target: "x86_64_v3"})
		}
		a.report = task.NewReport(a.env, "", "", false, nil)
		a.report.Mirrors = []task.MirrorReport{m}
		a.report.Finish(nil)
		text := a.outcome(nil, nil).publishedSpecs()
		var list []map[string]any
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) < row.least || len(list) > row.most || len(text) > 200<<10 {
			t.Errorf("%d packages: %d bytes, %d of them, %v", row.packages, len(text), len(list), err)
		}
	}
}

// Paths are invalidated beside what has changed, but not when nothing has.
func TestActionInvalidatesMore(t *testing.T) {
	s := newStage(t, "v3-signed")
	s.with["distribution-id"], s.with["invalidation-paths"], s.with["invalidate-listings"] = stagedDistribution, "auto\n/noble/index.html", "true"
	for range 2 {
		s.run(t, t.Context()).ends(t, cli.ExitDone, nil)
	}
	got := s.cdn.Invalidations(stagedDistribution)
	if len(got) != 1 || !slices.Contains(got[0], "/noble/index.html") || !slices.Contains(got[0], "/?list-type=2*") || len(got[0]) != 4 {
		t.Errorf("invalidations %q", got)
	}
}

// Many warnings of one kind are one, and no more than five are shown.
func TestWarningsArePutTogether(t *testing.T) {
	a, log, _, _ := newTestAction(t)
	for i := range 17 {
		a.log.Warn("found", fmt.Sprintf("thing %d", i))
	}
	for i := range 6 {
		a.log.Warn(fmt.Sprint("kind ", i), "x")
	}
	log.Reset()
	a.log.Annotate()
	want := "::warning title=found::17 times:%0Athing 0%0Athing 1%0Athing 2%0Athing 3%0Athing 4%0Aand 12 more, see the log of the step\n" +
		"::warning title=kind 0::x\n::warning title=kind 1::x\n::warning title=kind 2::x\n::warning title=more warnings::3 more kinds of warnings: see the log of the step\n"
	if log.String() != want {
		t.Errorf("%s, want\n%s", log, want)
	}
}

// A summary of any number of packages and problems is one that GitHub takes.
func TestSummariesHaveABound(t *testing.T) {
	a, _, _, summary := newTestAction(t)
	a.in.maxSpecs = 100000
	m := task.MirrorReport{Counts: map[string]int{"new": 50000}, Layout: "v3"}
	findings := &buildcache.FindingsError{}
	for i := range 50000 {
		m.Packages = append(m.Packages, task.PackageReport{Name: fmt.Sprintf("package-%d", i), Version: "1.0", Hash: strings.Repeat("a", 32), Status: "new", OS: "ubuntu22.04", Target: "x86_64_v3"})
		findings.Findings = append(findings.Findings, buildcache.Finding{Severity: buildcache.Error, File: "file", Reason: fmt.Sprint(i, strings.Repeat("bad ", 10))})
	}
	a.report.Mirrors = []task.MirrorReport{m}
	_ = a.conclude(findings)
	text := summary()
	if len(text) > 900<<10 || !strings.Contains(text, "more lines: see the log") || !strings.HasSuffix(text, "</details>\n\n") || !regexp.MustCompile(`\nand \d+ more\n`).MatchString(text) {
		t.Errorf("%d bytes, ends with %q", len(text), text[len(text)-200:])
	}
}

// Whose policy denies a request is said as far as AWS tells.
func TestDeniedHints(t *testing.T) {
	a, _, _, _ := newTestAction(t)
	a.in.credentials, a.in.role.ARN = oidcCredentials, "arn:aws-cn:iam::123456789012:role/teams/publisher"
	a.in.target.CDN.Distribution = "E1"
	for _, row := range []struct{ action, detail, hint, resource string }{
		{"s3:PutObject", "because no identity-based policy allows the s3:PutObject action", "allow s3:PutObject on arn:aws-cn:s3:::cache/noble/spack/* for the role publisher", "arn:aws-cn:s3:::cache/noble/spack/*"},
		{"s3:ListBucket", "because no session policy allows the s3:ListBucket action", "set session-policy: none", "arn:aws-cn:s3:::cache"},
		{"s3:ListBucketMultipartUploads", "", "allow s3:ListBucketMultipartUploads on arn:aws-cn:s3:::cache", "arn:aws-cn:s3:::cache"},
		{"s3:PutObject", "with an explicit deny in a resource-based policy", "the policy of the bucket denies s3:PutObject", ""},
		{"s3:PutObject", "with an explicit deny in an identity-based policy", "another policy that allows it does not help", ""},
		{"s3:PutObject", "is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms", "allow kms:GenerateDataKey and kms:Decrypt", ""},
		{"cloudfront:CreateInvalidation", "", "allow cloudfront:CreateInvalidation on arn:aws-cn:cloudfront::123456789012:distribution/E1", "arn:aws-cn:cloudfront::123456789012:distribution/E1"},
		{"GET", "", "clients need no credentials", ""},
	} {
		o := a.outcome(fmt.Errorf("write: %w", &mirror.DeniedError{Action: row.action, Name: "x", Detail: row.detail}), nil)
		if h := o.hints(); len(h) != 1 || !strings.Contains(h[0], row.hint) {
			t.Errorf("%s, %s: %q, want %q", row.action, row.detail, h, row.hint)
		}
		if row.resource != "" && !strings.Contains(o.markdown(), `"Resource": "`+row.resource+`"`) {
			t.Errorf("%s: %s", row.action, o.markdown())
		}
	}
}

// A source may have no packages, if the workflow says so; not a missing directory.
func TestActionWithoutPackages(t *testing.T) {
	for _, row := range []struct {
		ifNone string
		there  bool
		code   int
		warned bool
	}{
		{"error", true, cli.ExitSource, false}, {"warn", true, cli.ExitDone, true}, {"ignore", true, cli.ExitDone, false}, {"ignore", false, cli.ExitSource, false},
	} {
		s := newStage(t, "")
		if row.there {
			mkdir(t, s.dir, "buildcache", "v3")
		}
		s.with["if-no-specs-found"] = row.ifNone
		got := s.run(t, t.Context())
		if got.code != row.code || strings.Contains(got.log, "::warning ") != row.warned {
			t.Errorf("%+v: exit code %d: %s", row, got.code, got.log)
		}
	}
}
