package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/sink"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// SoakOptions say how long a daemon is looked at, and how often.
type SoakOptions struct {
	For, Every time.Duration
	Binaries   Binaries
	Log        io.Writer // what happens
}

// A Soak is a daemon at work for long, and what it took.
type Soak struct {
	Machine   *Results // what is known of where it ran
	For       time.Duration
	Samples   []Sample
	Packages  int // that appeared, and were published
	Rounds    int
	Requests  int64
	Bytes     int64
	Refused   int64 // requests that were answered with an error or a reset, on demand
	StopsWith int   // the exit code of the daemon
}

// A Sample is what a daemon took at a moment.
type Sample struct {
	At         time.Duration
	RSS, Heap  float64 // bytes
	Files      float64 // descriptors that were open
	Goroutines float64
}

// What a build leaves behind in a soak: some packages at a time, of which one in many is sent
// in parts. After each round the source and the bucket are emptied, so that there is as much to
// do in the end as at the beginning, and what grows all the same is a leak.
const (
	soakBatch = 4
	soakPause = 2 * time.Second
	soakRound = 100
	soakLarge = 50 // one in so many
)

// soaked is the server: late as S3 is, and as unreliable, since what leaks does so when something
// has failed.
var soaked = sink.Options{Keep: 64 * mib, Latency: delay, Errors: 0.01, Resets: 0.01}

// RunSoak lets a daemon publish what appears for some time.
func RunSoak(ctx context.Context, o SoakOptions) (*Soak, error) {
	dir, err := os.MkdirTemp("", "soak") // short, because a socket is in it
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	server, err := sink.Start(o.Binaries.Bench, soaked, "")
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	s := &soaking{SoakOptions: o, dir: dir, source: filepath.Join(dir, "source"), socket: filepath.Join(dir, "socket"), server: server}
	s.env = destination{&sinkPlace{server, dir}, sink.Bucket}.env(dir)
	result := &Soak{Machine: newResults(Options{}), For: o.For}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	defer s.kill()
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.build(gctx, began.Add(o.For), result) })
	g.Go(func() error { return s.watch(gctx, began, result) })
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.tail())
	}
	if err := s.finish(ctx, result); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.tail())
	}
	result.Machine.finish()
	return result, nil
}

// A soaking is a soak that goes on.
type soaking struct {
	SoakOptions
	dir, source, socket string
	env                 []string
	server              *sink.Process
	cmd                 *exec.Cmd
}

func (s *soaking) start(ctx context.Context) error {
	config := fmt.Sprintf("state_dir: %s/state\nsocket: %s\nmirrors:\n  - source: %s\n    destination: s3://%s/%s\n", s.dir, s.socket, s.source, sink.Bucket, prefix)
	if err := errors.Join(os.Mkdir(s.source, 0o777), os.WriteFile(s.dir+"/config.yaml", []byte(config), 0o600)); err != nil {
		return err
	}
	log, err := os.Create(s.dir + "/log")
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.Binaries.Publish, "daemon", "--config", s.dir+"/config.yaml")
	s.cmd.Env, s.cmd.Stderr = s.env, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := s.ask(ctx, "/readyz")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			s.kill()
			return fmt.Errorf("the daemon does not begin: %w\n%s", err, s.tail())
		}
	}
}

func (s *soaking) kill() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// tail is what the daemon said last.
func (s *soaking) tail() string {
	text, _ := os.ReadFile(s.dir + "/log")
	return string(text[max(0, len(text)-4000):])
}

// ask asks the daemon over its socket.
func (s *soaking) ask(ctx context.Context, path string) (string, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.socket)
	}
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://daemon"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return string(text), err
}

// command runs a command of the program against the daemon.
func (s *soaking) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, s.Binaries.Publish, args...)
	cmd.Env = append(s.env, "PUBLISH_SOCKET="+s.socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("publish %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// build lets packages appear until the end, and some of them be pushed. A round that has begun
// is completed.
func (s *soaking) build(ctx context.Context, end time.Time, result *Soak) error {
	u := spackmirror.New(spackmirror.V3, soakRound+soakBatch*int(time.Until(end)/soakPause+1))
	usual := spackmirror.Kilobytes(30)
	u.Tarball = func(i int) int {
		if i%soakLarge == soakLarge-1 {
			return 20 * mib
		}
		return usual(i)
	}
	for next := 0; time.Now().Before(end); result.Rounds++ {
		first := next
		for ; next < first+soakRound && time.Now().Before(end); next += soakBatch {
			if err := u.Write(s.source, u.Range(next, next+soakBatch)); err != nil {
				return err
			}
			if result.Rounds%2 == 1 { // in every second round events alone have to do
				if err := s.command(ctx, "push", s.source); err != nil {
					return err
				}
			}
			if !sleep(ctx, soakPause) {
				return ctx.Err()
			}
		}
		result.Packages = next
		if err := s.command(ctx, "drain", "--wait", "--timeout", "5m"); err != nil {
			return err
		}
		fmt.Fprintf(s.Log, "round %d: %d packages are published\n", result.Rounds+1, next)
		if err := errors.Join(os.RemoveAll(s.source+"/v3"), os.RemoveAll(s.source+"/blobs"), s.server.Empty()); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// watch takes samples until the end.
func (s *soaking) watch(ctx context.Context, began time.Time, result *Soak) error {
	for time.Since(began) < s.For {
		sample, err := s.sample(ctx)
		if err != nil {
			return err
		}
		sample.At = time.Since(began)
		result.Samples = append(result.Samples, sample)
		if !sleep(ctx, s.Every) {
			return ctx.Err()
		}
	}
	return nil
}

func (s *soaking) sample(ctx context.Context) (Sample, error) {
	var now Sample
	proc := fmt.Sprintf("/proc/%d", s.cmd.Process.Pid)
	files, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return now, err
	}
	memory, err := os.ReadFile(proc + "/statm")
	if err != nil {
		return now, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(memory))[1])
	if err != nil {
		return now, err
	}
	metrics, err := s.ask(ctx, "/metrics")
	if err != nil {
		return now, err
	}
	now.RSS, now.Files = float64(pages*os.Getpagesize()), float64(len(files))
	now.Heap, now.Goroutines = metric(metrics, "go_memstats_heap_inuse_bytes"), metric(metrics, "go_goroutines")
	return now, nil
}

// metric is the sum of a metric over its labels.
func metric(text, name string) float64 {
	sum := 0.0
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "{") {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err == nil {
			sum += v
		}
	}
	return sum
}

// finish makes sure that everything was published, and lets the daemon stop.
func (s *soaking) finish(ctx context.Context, result *Soak) error {
	metrics, err := s.ask(ctx, "/metrics")
	if err != nil {
		return err
	}
	published := 0.0
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "publish_job_transitions_total{") && strings.Contains(line, `state="published"`) {
			published += metric(line, "publish_job_transitions_total")
		}
	}
	if int(published) != result.Packages {
		return fmt.Errorf("%d packages appeared and %.0f were published", result.Packages, published)
	}
	st, err := s.server.Stats()
	if err != nil {
		return err
	}
	result.Requests, result.Bytes, result.Refused = st.Total(), st.Bytes, st.Refused+st.Reset
	s.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(time.Minute, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	s.cmd.Wait()
	if result.StopsWith = s.cmd.ProcessState.ExitCode(); result.StopsWith != 0 {
		return fmt.Errorf("the daemon has stopped with exit code %d", result.StopsWith)
	}
	return nil
}
