package action

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/docker"
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

// From a container that is made to its first request to S3: what the engine takes to start it,
// and all that the action does before, assuming a role among it. A start can be unlucky, so the
// best counts. Where other tests leave the engine so little that a container which only says its version
// takes long, from made to gone, twice that is allowed.
func TestColdStart(t *testing.T) {
	w := newWorld(t)
	j := w.job(t)
	j.copyIn(t, "../testdata/v3-signed", "buildcache")
	var took, bare []time.Duration
	allowed := func() time.Duration { return max(coldStart, 2*slices.Min(bare)) }
	for i := 0; i < 5 || i < 20 && slices.Min(took) > allowed(); i++ {
		since := time.Now()
		v := j.start(t, map[string]string{"args": "version"})
		if o := v.wait(t); o.code != 0 {
			t.Fatal(o)
		}
		bare = append(bare, happened(t, v, since, "die").Sub(happened(t, v, since, "create")))
		select {
		case <-w.asked:
		default:
		}
		since = time.Now()
		s := j.start(t, w.with("dry-run", "true"))
		asked := <-w.asked
		if o := s.wait(t); o.code != 0 {
			t.Fatal(o)
		}
		took = append(took, asked.Sub(happened(t, s, since, "create")))
	}
	t.Logf("from a container that is made to its first request to S3: %v; one that only says its version: %v", took, bare)
	if best := slices.Min(took); best > allowed() {
		t.Errorf("best of %v: %v, want %v", took, best, allowed())
	}
}

// happened is when something happened to the container of a step, as the engine has it. It made
// the container before it began to start it; what it reports as the start comes after the first request.
func happened(t *testing.T, s *step, since time.Time, event string) time.Time {
	t.Helper()
	out := docker.Run(t, "events", "--since", fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		"--until", fmt.Sprintf("%d", time.Now().Add(time.Second).Unix()), "--filter", "container="+s.name, "--filter", "event="+event, "--format", "{{.TimeNano}}")
	var nano int64
	if _, err := fmt.Sscan(out, &nano); err != nil {
		t.Fatalf("events: %v\n%s", err, out)
	}
	return time.Unix(0, nano)
}
