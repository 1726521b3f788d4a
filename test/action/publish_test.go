package action

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/docker"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/sessions"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

const distribution = "E2QWRUHAPOMQZL"

// A world is GitHub's issuer and an AWS account, as containers find them: a bucket and a
// distribution that sessions of one role can use.
type world struct {
	sts     *sessiontest.Server
	s3      *s3server.Server
	bucket  string
	control *cloudfronttest.Server
	edge    *cdn.Edge
	site    string // URL of the distribution
	writes  atomic.Int64
	bytes   atomic.Int64
	written chan struct{}  // has an element once something was written
	asked   chan time.Time // when S3 was asked first, since it was emptied
	env     map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{s3: s3server.Start(t), written: make(chan struct{}, 1), asked: make(chan time.Time, 1)}
	var err error
	if w.sts, err = sessiontest.New(docker.Gateway(t)+":0", sessiontest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sts.Close)
	w.bucket = w.s3.Bucket(t)
	before, err := sessions.Before(w.s3, w.sts)
	if err != nil {
		t.Fatal(err)
	}
	w.edge = &cdn.Edge{Transport: w.s3.Signed()}
	w.serve(w.bucket)
	w.control = cdn.Control(distribution, w.edge)
	expose := func(h http.Handler) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return "http://" + docker.Expose(t, server.Listener.Addr().String())
	}
	w.site = expose(w.edge)
	w.env = maps.Clone(w.sts.Environment())
	w.env["AWS_ENDPOINT_URL_S3"] = expose(w.count(before))
	w.env["AWS_ENDPOINT_URL_CLOUDFRONT"] = expose(w.sts.Guard(w.control))
	w.env["AWS_REGION"] = w.s3.Region
	w.env["AWS_EC2_METADATA_DISABLED"] = "true"
	return w
}

// serve makes the distribution serve another bucket.
func (w *world) serve(bucket string) { w.edge.Origin = w.s3.Endpoint + "/" + bucket }

// count counts what changes something.
func (w *world) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case w.asked <- time.Now():
		default:
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.writes.Add(1)
			w.bytes.Add(max(r.ContentLength, 0))
			select {
			case w.written <- struct{}{}:
			default:
			}
		}
		next.ServeHTTP(rw, r)
	})
}

// job is a job that may use the world.
func (w *world) job(t *testing.T) *job {
	t.Helper()
	j := newJob(t)
	maps.Copy(j.env, w.env)
	return j
}

// with are the inputs of an ordinary publish, and others.
func (w *world) with(more ...string) map[string]string {
	in := map[string]string{
		"role-to-assume": w.sts.Role(),
		"path":           "buildcache",
		"destination":    "s3://" + w.bucket + "/noble/spack",
	}
	for i := 0; i < len(more); i += 2 {
		in[more[i]] = more[i+1]
	}
	return in
}

func (w *world) mirror(prefix string) *reader.Mirror {
	return reader.V3(reader.Dir(filepath.Join(w.s3.Path(w.bucket), prefix)))
}

// secrets are what nobody must see.
func (w *world) secrets() []string {
	all := []string{w.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]}
	for _, token := range w.sts.Tokens() {
		all = append(all, token.JWT)
	}
	for _, s := range w.sts.Sessions() {
		all = append(all, s.SecretKey, s.Token, s.AccessKey)
	}
	return all
}

// checkSecrets looks for secrets where people, later steps and the workspace could get at them.
func (w *world) checkSecrets(t *testing.T, j *job, o *outcome) {
	t.Helper()
	places := map[string]string{"log": o.log, "summary": o.summary, "outputs": fmt.Sprint(o.outputs), "environment of later steps": o.env}
	err := filepath.WalkDir(filepath.Dir(filepath.Dir(j.workspace)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		places[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	secrets := append(w.secrets(), j.env["ACTIONS_RUNTIME_TOKEN"])
	if len(secrets) < 2 {
		t.Error("there is no secret to be looked for")
	}
	for where, text := range places {
		for _, secret := range secrets {
			if secret != "" && strings.Contains(text, secret) {
				t.Errorf("%.8s... is in the %s", secret, where)
			}
		}
	}
}

// checkManners looks at what no step may do, whatever becomes of it.
func (w *world) checkManners(t *testing.T, j *job, o *outcome) {
	t.Helper()
	if n := j.socket.opened.Load(); n > 0 {
		t.Errorf("docker.sock was opened %d times", n)
	}
	if o.env != "" {
		t.Errorf("later steps would get %q", o.env)
	}
	if o.summary == "" || o.outputs["result"] == "" {
		t.Errorf("no summary or no result:\n%v", o)
	}
	for _, v := range w.sts.Violations() {
		t.Error(v)
	}
	w.checkSecrets(t, j, o)
}

// A whole run as GitHub does it: on a new runner and on an old one, with the root file system
// locked; and once more, when there is nothing to do.
func TestPublish(t *testing.T) {
	for _, c := range []struct {
		name    string
		old     bool
		options []string
		path    func(j *job) string
	}{
		{name: "relative path", path: func(*job) string { return "buildcache" }},
		{name: "github.workspace", path: func(j *job) string { return j.workspace + "/buildcache" }},
		{name: "old runner", old: true, path: func(*job) string { return "./buildcache" }},
		{name: "read-only", options: []string{"--read-only"}, path: func(*job) string { return "buildcache/" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			j := w.job(t)
			j.old, j.options = c.old, c.options
			j.copyIn(t, "../testdata/v3-signed", "buildcache")
			before := snapshot(t, filepath.Dir(filepath.Dir(j.workspace)))
			in := w.with("path", c.path(j), "destination", "s3://"+w.bucket+"/{toolchain}/spack", "layout-vars", "toolchain=noble",
				"report-file", "report.json", "distribution-id", distribution, "public-url", w.site+"/noble/spack")

			o := j.run(t, in)
			if o.code != 0 || o.outputs["result"] != "published" || o.outputs["failure-class"] != "" {
				t.Fatal(o)
			}
			m, want := w.mirror("noble/spack"), reader.V3(reader.Dir("../testdata/v3-signed"))
			if !m.Works() || len(m.Specs) == 0 || !slices.Equal(m.Hashes(), want.Hashes()) {
				t.Errorf("the mirror: %v, want %v", m, want)
			}
			if got := o.outputs["specs-published"]; got != fmt.Sprint(len(m.Specs)) && got == "" {
				t.Errorf("specs-published is %q", got)
			}
			if len(w.control.Invalidations(distribution)) != 1 {
				t.Errorf("invalidations: %v", w.control.Invalidations(distribution))
			}
			w.checkManners(t, j, o)

			checkReport(t, filepath.Join(j.workspace, "report.json"))
			after := snapshot(t, filepath.Dir(filepath.Dir(j.workspace)))
			for name, is := range after {
				switch {
				case strings.HasSuffix(name, "/report.json"), strings.Contains(name, "_runner_file_commands/"):
				case before[name] != is:
					t.Errorf("%s is %s, was %q", name, is, before[name])
				}
			}
			if len(w.sts.Sessions()) == 0 || w.sts.Sessions()[0].Policy == "" {
				t.Errorf("sessions: %+v", w.sts.Sessions())
			}

			writes := w.writes.Load()
			o = j.run(t, in)
			if o.code != 0 || o.outputs["result"] != "unchanged" || w.writes.Load() != writes {
				t.Errorf("again, after %d more writes: %v", w.writes.Load()-writes, o)
			}
			w.checkManners(t, j, o)
		})
	}
}

func checkReport(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != runnerUID || s.Gid != runnerGID {
		t.Errorf("the report belongs to %d:%d", s.Uid, s.Gid)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(data) {
		t.Errorf("the report: %s", data)
	}
}

// runner.temp is seen by containers of new runners. Those of old ones say what can be done.
func TestRunnerTemp(t *testing.T) {
	w := newWorld(t)
	for _, old := range []bool{false, true} {
		j := w.job(t)
		j.old = old
		if err := os.CopyFS(filepath.Join(j.temp, "buildcache"), os.DirFS("../testdata/v3-signed")); err != nil {
			t.Fatal(err)
		}
		j.own(t, j.temp)
		o := j.run(t, w.with("path", filepath.Join(j.temp, "buildcache")))
		if !old && (o.code != 0 || o.outputs["result"] != "published") {
			t.Error(o)
		}
		if old && (o.code == 0 || o.outputs["result"] != "failed" || !strings.Contains(o.log, "2.329.0")) {
			t.Error(o)
		}
		w.checkManners(t, j, o)
	}
}

// A dry run changes nothing, and its session could not.
func TestDryRun(t *testing.T) {
	w := newWorld(t)
	j := w.job(t)
	j.copyIn(t, "../testdata/v3-signed", "buildcache")
	o := j.run(t, w.with("dry-run", "true"))
	if o.code != 0 || o.outputs["result"] != "dry-run" || w.writes.Load() != 0 {
		t.Errorf("%d writes: %v", w.writes.Load(), o)
	}
	if p := w.sts.Sessions()[0].Policy; p == "" || regexp.MustCompile(`Put|Create|Abort`).MatchString(p) {
		t.Errorf("the session may %s", p)
	}
	w.checkManners(t, j, o)
}

// What fails says so in outputs and summary, too.
func TestFailures(t *testing.T) {
	w := newWorld(t)
	for class, c := range map[string]struct {
		source string
		env    map[string]string
		with   map[string]string
		says   []string
	}{
		"config": {source: "v3-signed", with: w.with("index", "merged", "destination", "bucket", "dry-run", "yes"), says: []string{"index", "destination", "dry-run"}},
		"source": {source: "v3-unsigned", with: w.with(), says: []string{"signed"}},
		"auth":   {source: "v3-signed", with: w.with("role-to-assume", "arn:aws:iam::123456789012:role/other", "auth-max-attempts", "1"), says: []string{"other", "sub"}},
	} {
		t.Run(class, func(t *testing.T) {
			j := w.job(t)
			j.copyIn(t, "../testdata/"+c.source, "buildcache")
			o := j.run(t, c.with)
			if o.code == 0 || o.outputs["result"] != "failed" || o.outputs["failure-class"] != class {
				t.Error(o)
			}
			for _, s := range c.says {
				if !strings.Contains(o.log, s) {
					t.Errorf("%q is not in the log:\n%s", s, o.log)
				}
			}
			if w.writes.Load() != 0 {
				t.Error("something was written")
			}
			w.checkManners(t, j, o)
		})
	}
}

// stopWithin is the promise. The runner interrupts at once, and kills after ten seconds.
const stopWithin = 6 * time.Second

// A workflow that is cancelled in the middle of an upload leaves a mirror that works, and the
// next run goes on from there.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	j := w.job(t)
	j.copyIn(t, "../testdata/v3-signed", "buildcache")
	if o := j.run(t, w.with()); o.code != 0 {
		t.Fatal(o)
	}
	was := w.mirror("noble/spack")

	// 100 MB more, in files that go in parts of 5 MiB, two at once, at 10 MB/s.
	u := spackmirror.New(spackmirror.V3, 4)
	u.Tarball = func(i int) int { return 10e6 + i*10e6 }
	source := t.TempDir()
	if err := u.Write(source, u.All()); err != nil {
		t.Fatal(err)
	}
	whole := size(t, source)
	j.copyIn(t, source, "more")
	in := w.with("path", "more", "require-signed", "false", "limit-rate", "10MB/s", "concurrency", "2", "part-size", "5MiB", "report-file", "report.json")
	<-w.written
	s := j.start(t, in)
	select {
	case <-w.written:
	case <-s.done:
		t.Fatalf("no upload:\n%v", s.wait(t))
	}
	time.Sleep(3 * time.Second)
	began := time.Now()
	s.cancel(t)
	o := s.wait(t)
	if took := time.Since(began); took > stopWithin {
		t.Errorf("stopped after %v", took)
	}
	if o.code != 130 || o.outputs["result"] != "cancelled" || !strings.Contains(strings.ToLower(o.summary), "cancel") {
		t.Error(o)
	}
	w.checkManners(t, j, o)
	checkReport(t, filepath.Join(j.workspace, "report.json"))
	if m := w.mirror("noble/spack"); !m.Works() || !slices.Equal(m.Hashes(), was.Hashes()) {
		t.Errorf("after the cancel: %v", m)
	}

	w.bytes.Store(0)
	in["limit-rate"], in["concurrency"] = "", ""
	o = j.run(t, in)
	if o.code != 0 || o.outputs["result"] != "published" {
		t.Fatal(o)
	}
	m := w.mirror("noble/spack")
	for _, i := range u.All() {
		if !m.Specs[u.Hash(i)] {
			t.Errorf("spec %d is not there", i)
		}
	}
	if sent := w.bytes.Load(); !m.Works() || sent > whole-8<<20 {
		t.Errorf("%d bytes of %d were sent again; %v", sent, whole, m)
	}
	if left, err := w.s3.Leftovers(w.bucket); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				n += info.Size()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The matrix of slurm-factory: 6 toolchains of 8 jobs each, every one publishing to the mirror of
// its toolchain, with no job after them. Nothing is lost, and nobody notices the others.
func TestMatrix(t *testing.T) {
	const mirrors, jobs, share, stride = 6, 8, 5, 3
	atOnce := 8
	w := newWorld(t)
	u := spackmirror.New(spackmirror.V3, (jobs-1)*stride+share)
	u.Tarball = spackmirror.Kilobytes(64)
	slots := make(chan struct{}, atOnce)
	outcomes := make([]*outcome, mirrors*jobs)
	ready := make([]*job, mirrors*jobs)
	for i := range ready {
		source := t.TempDir()
		if err := u.Write(source, u.Range(i/mirrors*stride, i/mirrors*stride+share)); err != nil {
			t.Fatal(err)
		}
		ready[i] = w.job(t)
		ready[i].copyIn(t, source, "buildcache")
	}
	var wg sync.WaitGroup
	for i, j := range ready {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			toolchain := fmt.Sprintf("toolchain%d", i%mirrors)
			outcomes[i] = j.run(t, w.with("require-signed", "false", "destination", "s3://"+w.bucket+"/{toolchain}/spack", "layout-vars", "toolchain="+toolchain,
				"distribution-id", distribution, "public-url", w.site+"/"+toolchain+"/spack", "wait-for-invalidation", "true"))
		})
	}
	wg.Wait()
	for i, o := range outcomes {
		if o.code != 0 || o.outputs["result"] != "published" && o.outputs["result"] != "unchanged" || strings.Contains(o.log, "::error") || strings.Contains(o.log, "::warning") {
			t.Errorf("job %d: %v", i, o)
		}
		w.checkManners(t, ready[i], o)
	}
	for n := range mirrors {
		m := w.mirror(fmt.Sprintf("toolchain%d/spack", n))
		if !m.Works() || len(m.Specs) != u.Len() {
			t.Errorf("mirror %d has %d of %d specs: %v", n, len(m.Specs), u.Len(), m)
		}
	}
	for _, r := range w.control.Requests() {
		if r.Code != "" && r.Code != "TooManyInvalidationsInProgress" {
			t.Errorf("CloudFront was asked %+v", r)
		}
	}
	if refused := w.sts.Refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
}

// A job with services has a network of its own, and the action is in it.
func TestJobNetwork(t *testing.T) {
	w := newWorld(t)
	j := w.job(t)
	j.copyIn(t, "../testdata/v3-signed", "buildcache")
	j.network = fmt.Sprintf("github_network_%x", nonce())
	docker.Run(t, "network", "create", "--label", "5588e4", j.network)
	t.Cleanup(func() { docker.Run(t, "network", "rm", j.network) })
	if o := j.run(t, w.with()); o.code != 0 || o.outputs["result"] != "published" {
		t.Error(o)
	}
}

// Whoever has the image has nothing of the machine that built it.
func TestImageTellsNothing(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range architectures {
		for name, data := range contents(t, platform(t, arch)) {
			for _, s := range []string{filepath.Dir(here), filepath.Join(home, "go/pkg/mod"), os.TempDir() + "/image-"} {
				if bytes.Contains(data, []byte(s)) {
					t.Errorf("%s: %s holds %q", arch, name, s)
				}
			}
			for _, v := range os.Environ() {
				name, value, _ := strings.Cut(v, "=")
				if regexp.MustCompile(`TOKEN|SECRET|PASSWORD|KEY`).MatchString(name) && len(value) > 8 && bytes.Contains(data, []byte(value)) {
					t.Errorf("%s holds $%s", arch, name)
				}
			}
		}
	}
}
