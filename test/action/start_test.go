package action

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/docker"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

// The emulation passes on what the runner passes on.
func TestRunnerEmulation(t *testing.T) {
	j := newJob(t)
	for value, want := range map[string]string{
		j.workspace:                   "/github/workspace",
		j.workspace + "/buildcache":   "/github/workspace/buildcache",
		j.workspace + "-other":        j.workspace + "-other",
		"file://" + j.workspace:       "file://" + j.workspace,
		j.temp + "/cache":             "/github/runner_temp/cache",
		j.temp + "/_github_home/.aws": "/github/home/.aws",
	} {
		if got := j.translate(value); got != want {
			t.Errorf("%s becomes %s, want %s", value, got, want)
		}
	}
	j.old = true
	if got := j.translate(j.temp + "/cache"); got != j.temp+"/cache" {
		t.Errorf("an old runner makes %s of it", got)
	}
}

// GitHub's form of `docker run` starts the program with nothing around it: as root, in the
// workspace, on a root file system that it need not write to.
func TestContainerStarts(t *testing.T) {
	j := newJob(t)
	for _, options := range [][]string{nil, {"--read-only"}, {"--network", "none"}, {"--cap-drop", "ALL"}} {
		j.options = options
		o := j.run(t, map[string]string{"args": "version"})
		if o.code != 0 || strings.TrimSpace(o.raw) == "" {
			t.Errorf("%v: %v", options, o)
		}
	}
	if n := j.socket.opened.Load(); n > 0 {
		t.Errorf("docker.sock was opened %d times", n)
	}
}

// coldStart is the promise: a step that has nothing to do should not be felt.
const coldStart = 500 * time.Millisecond

// From the start of the container to its first request to S3. What the engine takes to make
// a container is not ours, and on a busy machine a start can be unlucky, so the best counts.
func TestColdStart(t *testing.T) {
	j := newJob(t)
	j.copyIn(t, "../testdata/v3-signed", "buildcache")
	server := s3server.Start(t)
	bucket := server.Bucket(t)
	first := make(chan time.Time, 1000)
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first <- time.Now()
		w.WriteHeader(http.StatusForbidden)
	}))
	defer gate.Close()
	j.env["AWS_ENDPOINT_URL_S3"] = "http://" + docker.Expose(t, gate.Listener.Addr().String())
	for _, v := range server.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_") {
			j.env[name] = value
		}
	}
	var took, whole []time.Duration
	for range 5 {
		for len(first) > 0 {
			<-first
		}
		since := time.Now()
		s := j.start(t, map[string]string{"args": "--dry-run buildcache s3://" + bucket})
		began := startedAt(t, s, since)
		s.wait(t)
		if len(first) == 0 {
			t.Fatalf("no request to S3:\n%s", &s.stderr)
		}
		request := <-first
		took, whole = append(took, request.Sub(began)), append(whole, request.Sub(s.began))
	}
	t.Logf("from the start of the container to its first request: %v; from that of the client: %v", took, whole)
	if best := slices.Min(took); best > coldStart {
		t.Errorf("best of %v: %v, want %v", took, best, coldStart)
	}
}

// startedAt is when the engine started the container of a step.
func startedAt(t *testing.T, s *step, since time.Time) time.Time {
	t.Helper()
	<-s.done
	out := docker.Run(t, "events", "--since", fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		"--until", fmt.Sprintf("%d", time.Now().Add(time.Second).Unix()), "--filter", "container="+s.name, "--filter", "event=start", "--format", "{{.TimeNano}}")
	var nano int64
	if _, err := fmt.Sscan(out, &nano); err != nil {
		t.Fatalf("events: %v\n%s", err, out)
	}
	return time.Unix(0, nano)
}
