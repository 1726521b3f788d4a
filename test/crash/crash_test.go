// Package crash holds what is promised of a publisher that dies or is obstructed at any
// request: readers have a working mirror at every moment, and the next run makes it
// what an undisturbed run would have made it.
//
// The real binary publishes to a real S3 server. For every request of a run, and every
// fault, the run is repeated in a bucket of its own with that fault at that request.
package crash

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const prefix = "site/mirror"

// A scenario is a run of the binary that is to be disturbed.
type scenario struct {
	name   string
	before func(t *testing.T, w *world) // makes the mirror that the run finds
	args   func(w *world) []string      // what is run; $S3 stands for the destination
	read   func(reader.Source) *reader.Mirror
	specs  int // that a reader finds in the end
	// replaces: what a reader finds may be other packages afterwards, and is either what was before or what is in the end.
	replaces bool
}

// large is the size of a tarball that goes up in parts: three of the default size.
const large = 17 << 20

func universe(l spackmirror.Layout) *spackmirror.Universe {
	u := spackmirror.New(l, 6)
	u.Tarball = func(i int) int {
		if i == 5 {
			return large
		}
		return 1000 * i
	}
	return u
}

// What is published to a mirror that has one of them already, and in some runs a large one.
var (
	there     = []int{0, 1, 2}
	fresh     = []int{2, 4}
	withLarge = []int{2, 5}
)

func scenarios() []scenario {
	publish := func(l spackmirror.Layout, fresh, there []int) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			w.source = write(t, universe(l), fresh)
			if len(there) > 0 {
				w.must(t, write(t, universe(l), there), w.destination())
			}
		}
	}
	toDestination := func(w *world) []string { return []string{w.source, w.destination()} }
	from := func(w *world) string { return "s3://" + w.bucket + "/from" }
	copied := func(l spackmirror.Layout) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			w.must(t, write(t, universe(l), withLarge), from(w))
			w.must(t, write(t, universe(l), there), w.destination())
		}
	}
	fromThere := func(w *world) []string { return []string{"copy", from(w), w.destination()} }
	viewed := func(t *testing.T, w *world) {
		w.must(t, write(t, universe(spackmirror.V3), there), w.destination())
		w.must(t, "view", "set", w.destination(), "site", "/"+universe(spackmirror.V3).Hash(0))
	}
	site := func(src reader.Source) *reader.Mirror { return reader.View(src, "site") }
	view := func(act string, members ...int) func(w *world) []string {
		return func(w *world) []string {
			args := []string{"view", act, w.destination(), "site"}
			for _, i := range members {
				args = append(args, "/"+universe(spackmirror.V3).Hash(i))
			}
			return args
		}
	}
	return []scenario{
		{"copy v3 within S3", copied(spackmirror.V3), fromThere, reader.V3, 4, false},
		{"copy v2 within S3", copied(spackmirror.V2), fromThere, reader.V2, 4, false},
		{"import v3 into S3", func(t *testing.T, w *world) {
			w.source = filepath.Join(t.TempDir(), "mirror.tar")
			w.must(t, "export", "file://"+write(t, universe(spackmirror.V3), withLarge), w.source)
			w.must(t, write(t, universe(spackmirror.V3), there), w.destination())
		}, func(w *world) []string { return []string{"import", w.source, w.destination()} }, reader.V3, 4, false},
		{"promote within S3", copied(spackmirror.V3), func(w *world) []string {
			return []string{"copy", "--expect-os", "*", "--to-view", "site", from(w), w.destination()}
		}, reader.V3, 4, false},
		{"add to a view", viewed, view("add", 1), site, 2, false},
		{"set a view", viewed, view("set", 2), site, 1, true},
		{"remove from a view", func(t *testing.T, w *world) {
			viewed(t, w)
			w.must(t, view("add", 1)(w)...)
		}, view("remove", 1), site, 1, true},
		{"publish v3 to an empty bucket", publish(spackmirror.V3, withLarge, nil), toDestination, reader.V3, 2, false},
		{"publish v3 to a mirror", publish(spackmirror.V3, fresh, there), toDestination, reader.V3, 4, false},
		{"publish v2 to a mirror", publish(spackmirror.V2, withLarge, there), toDestination, reader.V2, 4, false},
		{"publish a signed mirror", func(_ *testing.T, w *world) { w.source = "../testdata/v3-signed" }, toDestination, reader.V3, 11, false},
		{
			// Somebody pushed a spec and died before he indexed it.
			"rebuild an index of v3", func(t *testing.T, w *world) {
				publish(spackmirror.V3, fresh, there)(t, w)
				w.must(t, "--index=none", write(t, universe(spackmirror.V3), []int{3}), w.destination())
			},
			func(w *world) []string { return []string{"index", w.destination()} }, reader.V3, 4, false,
		},
		{
			"rebuild an index of v2", func(t *testing.T, w *world) {
				publish(spackmirror.V2, fresh, there)(t, w)
				w.must(t, "--index=none", write(t, universe(spackmirror.V2), []int{3}), w.destination())
			},
			func(w *world) []string { return []string{"index", w.destination()} }, reader.V2, 4, false,
		},
	}
}

// A fault is a way to disturb a run.
type fault struct {
	faultproxy.Fault
	name string
	// survived: a publisher must get over it by itself, since it is what S3 and networks
	// do every day.
	survived bool
	// real: S3 gives such an answer to any request. The others it gives to some only;
	// where it never does, a publisher need not know what to do.
	real  bool
	kills bool
	waits bool // the run takes long and does nothing meanwhile
}

var faults = []fault{
	{name: "killed before", kills: true},
	{name: "killed after", kills: true},
	{name: "response lost", Fault: faultproxy.Lost, survived: true},
	{name: "403", Fault: faultproxy.Denied, real: true},
	{name: "404", Fault: faultproxy.NoSuchKey},
	{name: "408", Fault: faultproxy.TimedOut, survived: true},
	{name: "409", Fault: faultproxy.Conflict},
	{name: "412", Fault: faultproxy.FailedMatch},
	{name: "500", Fault: faultproxy.Internal, survived: true},
	{name: "503", Fault: faultproxy.SlowDown, survived: true},
	{name: "truncated", Fault: faultproxy.Truncated, survived: true},
	{name: "reset", Fault: faultproxy.Reset, survived: true},
	{name: "stall", Fault: faultproxy.Stall(10 * time.Minute), survived: true, waits: true},
}

// A world is one bucket with one proxy in front of it.
type world struct {
	server *s3server.Server
	bin    string
	bucket string
	source string // directory to be published
}

func (w *world) destination() string { return "s3://" + w.bucket + "/" + prefix }
func (w *world) mirror() reader.Source {
	return w.server.Mirror(w.bucket, prefix)
}

func (w *world) env(endpoint string) []string {
	return append(w.server.Environ(), "AWS_ENDPOINT_URL="+endpoint)
}

// must runs the binary undisturbed and successfully.
func (w *world) must(t *testing.T, args ...string) {
	t.Helper()
	r, err := program.Run(w.env(w.server.Endpoint), w.bin, args...)
	if err != nil || r.Code != 0 {
		t.Fatalf("undisturbed run: %v, %v", err, r)
	}
}

func write(t *testing.T, u *spackmirror.Universe, members []int) string {
	t.Helper()
	dir := t.TempDir()
	if err := u.Write(dir, members); err != nil {
		t.Fatal(err)
	}
	return dir
}

// busy bounds how many disturbed runs are under way at once: more than there are
// processors, since most of a run is waiting for a retry.
var busy = make(chan struct{}, 8)

func TestCrash(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	// All at once, and not as parallel tests, of which there would be as few as
	// processors: what takes longest is waiting.
	var wg sync.WaitGroup
	for i, s := range scenarios() {
		wg.Go(func() {
			t.Run(s.name, func(t *testing.T) {
				c := &campaign{scenario: s, world: world{server: server, bin: bin, bucket: fmt.Sprintf("model-%d", i)}}
				if err := server.CreateBucket(c.bucket); err != nil {
					t.Fatal(err)
				}
				s.before(t, &c.world)
				c.model(t)
				if !t.Failed() {
					c.disturb(t)
				}
			})
		})
	}
	wg.Wait()
}

// A campaign is one scenario with all faults.
type campaign struct {
	scenario
	world // of the undisturbed run

	begin    string          // a copy of the bucket as it is before a run
	requests int             // of the undisturbed run
	end      state           // of the undisturbed run
	after    map[string]bool // what a reader finds then
	runs     atomic.Int64
}

// model makes the undisturbed run, looking at the mirror after every request.
func (c *campaign) model(t *testing.T) {
	c.begin = filepath.Join(t.TempDir(), "begin")
	clone(t, c.server.Path(c.bucket), c.begin)
	before := c.read(c.mirror())
	proxy := faultproxy.Start(t, c.server.Endpoint)
	var looking sync.Mutex
	proxy.AfterEach(func(r faultproxy.Request) {
		looking.Lock()
		defer looking.Unlock()
		if err := c.atLeast(c.read(c.mirror()), before); err != "" {
			t.Errorf("after request %d, %s %s: %s", r.Number, r.Operation, r.Key, err)
		}
	})
	r, err := program.Run(c.env(proxy.URL), c.bin, c.args(&c.world)...)
	if err != nil || r.Code != 0 {
		t.Fatalf("undisturbed run: %v, %v", err, r)
	}
	c.requests = len(proxy.Log())
	if m := c.read(c.mirror()); !m.Works() || len(m.Odd) > 0 || len(m.Specs) != c.specs {
		t.Fatalf("undisturbed run left %v, want %d specs", m, c.specs)
	}
	c.end, c.after = c.look(t, &c.world), c.read(c.mirror()).Specs
	for _, r := range proxy.Log() {
		t.Logf("%3d %s %s %d", r.Number, r.Operation, r.Key, r.Status)
	}
}

// atLeast says what is wrong with a mirror that readers saw as before and see as now.
func (c *campaign) atLeast(now, before *reader.Mirror) string {
	if !now.Works() {
		return fmt.Sprint("broken: ", now.Broken)
	}
	if c.replaces {
		if c.after != nil && !maps.Equal(now.Specs, before.Specs) && !maps.Equal(now.Specs, c.after) {
			return fmt.Sprintf("neither what was nor what is to be: %v", now.Specs)
		}
		return ""
	}
	for hash := range before.Specs {
		if !now.Specs[hash] {
			return "lost " + hash
		}
	}
	return ""
}

// left says whether fault f is not tried at request k: with -short a quarter is tried, some faults at each request and each fault at some
// requests of every kind.
func left(k, f int) bool { return testing.Short() && (k+f)%4 != 0 }

// disturb makes all disturbed runs.
func (c *campaign) disturb(t *testing.T) {
	var wg sync.WaitGroup
	began := time.Now()
	for k := 1; k <= c.requests; k++ {
		for f := range faults {
			if left(k, f) {
				continue
			}
			wg.Go(func() {
				if !faults[f].waits {
					busy <- struct{}{}
					defer func() { <-busy }()
				}
				c.disturbed(t, k, faults[f])
			})
		}
	}
	wg.Wait()
	t.Logf("%d requests, %d disturbed runs in %v", c.requests, c.runs.Load(), time.Since(began).Round(time.Second))
}

// disturbed makes one run with fault f at request k, and another without.
func (c *campaign) disturbed(t *testing.T, k int, f fault) {
	c.runs.Add(1)
	failed := func(format string, args ...any) {
		t.Errorf("request %d %s: %s", k, f.name, fmt.Sprintf(format, args...))
	}
	w := c.world
	w.bucket = fmt.Sprintf("%s-%d-%s", c.bucket, k, strings.ReplaceAll(f.name, " ", "-"))
	clone(t, c.begin, w.server.Path(w.bucket))
	defer os.RemoveAll(w.server.Path(w.bucket))
	before := c.read(w.mirror())
	proxy := faultproxy.Start(t, w.server.Endpoint)
	defer proxy.Close()

	r, err := c.run(&w, proxy, k, f)
	if err != nil {
		failed("%v", err)
		return
	}
	where := hit(proxy.Log(), k)
	now := c.read(w.mirror())
	if wrong := c.atLeast(now, before); wrong != "" {
		failed("%s: right after: %s\n%v", where, wrong, r)
	}
	if !f.kills {
		c.judge(t, f, r, now, func(format string, args ...any) {
			failed("%s: %s\n%v", where, fmt.Sprintf(format, args...), r)
		})
	}
	again, err := program.Run(w.env(w.server.Endpoint), w.bin, c.args(&w)...)
	if err != nil || again.Code != 0 {
		failed("%s: second run: %v, %v\nfirst run: %v", where, err, again, r)
		return
	}
	if diff := c.look(t, &w).diff(c.end); len(diff) > 0 {
		failed("%s: after the second run: %s\nfirst run: %v\nsecond run: %v", where, strings.Join(diff, "\n"), r, again)
	}
}

// run makes the first run.
func (c *campaign) run(w *world, proxy *faultproxy.Proxy, k int, f fault) (program.Result, error) {
	running := make(chan *program.Process, 1)
	kill := func() {
		p := <-running
		p.Kill()
		running <- p
	}
	switch f.name {
	case "killed before":
		f.Fault = faultproxy.Before(kill)
	case "killed after":
		f.Fault = faultproxy.After(kill)
	}
	proxy.At(k, f.Fault)
	p, err := program.Begin(w.env(proxy.URL), w.bin, c.args(w)...)
	if err != nil {
		return program.Result{}, err
	}
	running <- p
	r, err := p.Wait()
	proxy.Wait()
	return r, err
}

// judge checks how a run ended that was not killed.
func (c *campaign) judge(t *testing.T, f fault, r program.Result, now *reader.Mirror, wrong func(string, ...any)) {
	switch {
	case r.Code == 0:
		if len(now.Specs) != c.specs {
			wrong("said that it is done, and a reader finds %d specs of %d", len(now.Specs), c.specs)
		}
	case f.survived:
		wrong("did not get over it")
	case r.Code == 2 && f.name == "404" && strings.Contains(r.Stderr, "there is no such view"): // as S3 says
	case !slices.Contains([]int{3, 4, 5, 6}, r.Code):
		wrong("exit code %d", r.Code)
	case f.real && !strings.Contains(r.Stderr, "hint:"):
		wrong("no hint")
	}
}

func hit(log []faultproxy.Request, k int) string {
	if k > len(log) {
		return "not reached"
	}
	return log[k-1].Operation + " " + log[k-1].Key
}

// A state is everything that is in a mirror, and what is left over beside it.
type state struct {
	objects   map[string][sha256.Size]byte
	leftovers int
}

func (c *campaign) look(t *testing.T, w *world) state {
	t.Helper()
	src := w.mirror()
	s := state{objects: map[string][sha256.Size]byte{}}
	names, err := src.List()
	if err != nil {
		t.Error(err)
	}
	promoted := make(map[string]bool)
	for _, name := range names {
		// What publishers told each other may stay, and goes at any time. A record of the history says when it was written, and
		// one of a publisher that died may stay.
		if strings.HasPrefix(name, lead.Dir) || strings.HasPrefix(name, history.Dir) {
			continue
		}
		content, err := src.Get(name)
		if err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(name, promotion.Dir) { // named by what it says, of which the bucket is part, and the endpoint of a proxy
			promoted[promotionOf(t, content)] = true
			s.objects[fmt.Sprint(promotion.Dir, len(promoted))] = [sha256.Size]byte{}
			continue
		}
		switch {
		case name == layout.V2IndexHash, isIndex(content) && name != layout.V2Index:
			continue // it follows from the index, or is one that a pointer names, or named
		case name == layout.V2Index:
			content = records(t, content)
		case strings.HasPrefix(name, layout.V3Indices) && strings.HasSuffix(name, "index.manifest.json"):
			content = c.named(t, src, content)
		}
		s.objects[name] = sha256.Sum256(places.ReplaceAll(content, []byte("$1")))
	}
	left, err := w.server.Leftovers(w.bucket)
	if err != nil {
		t.Error(err)
	}
	s.leftovers = len(left)
	return s
}

// isIndex reports whether an object is the document of an index.
func isIndex(content []byte) bool { return bytes.HasPrefix(content, []byte(`{"database"`)) }

// records are those of an index, in one form. What an index has beside them tells it from all that had another history, so that no two
// pointers ever name the same one: an index that is made after a crash may be another one with the same records.
func records(t *testing.T, content []byte) []byte {
	t.Helper()
	var document struct {
		Database any `json:"database"`
	}
	if err := json.Unmarshal(content, &document); err != nil || document.Database == nil {
		t.Errorf("index: %v", err)
	}
	text, err := json.Marshal(document.Database)
	if err != nil {
		t.Error(err)
	}
	return text
}

// named are the records of the indices that a pointer of layout v3 names.
func (c *campaign) named(t *testing.T, src reader.Source, pointer []byte) []byte {
	t.Helper()
	m, err := buildcache.ReadManifest(pointer)
	if err != nil {
		t.Error(err)
		return nil
	}
	var all []byte
	for _, r := range m.Records {
		content, err := src.Get(layout.V3Blob(r.Digest))
		if err != nil {
			t.Error(err)
			continue
		}
		all = append(all, records(t, content)...)
	}
	return all
}

// places are those of which an index manifest remembers that conditions are obeyed there. Each world has
// another.
var places = regexp.MustCompile(`("if-(?:none-)?match) [0-9a-f]{16}"`)

func (s state) diff(want state) []string {
	var diff []string
	for name, sum := range want.objects {
		if got, ok := s.objects[name]; !ok {
			diff = append(diff, name+" is missing")
		} else if got != sum {
			diff = append(diff, name+" has other bytes")
		}
	}
	for name := range s.objects {
		if _, ok := want.objects[name]; !ok {
			diff = append(diff, name+" is there too")
		}
	}
	if s.leftovers > 0 {
		diff = append(diff, fmt.Sprintf("%d multipart uploads are left over", s.leftovers))
	}
	slices.Sort(diff)
	return diff
}

// clone copies a bucket with everything that the server knows of its objects, which is
// in extended attributes.
func clone(t *testing.T, from, to string) {
	t.Helper()
	if said, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Errorf("copy a bucket: %v\n%s", err, said)
	}
}

// promotionOf is what evidence says, without what differs when a run is repeated through another proxy.
func promotionOf(t *testing.T, content []byte) string {
	var r promotion.Record
	if err := json.Unmarshal(content, &r); err != nil {
		t.Error(err)
	}
	r.ID, r.Time, r.Endpoint, r.Identity = "", time.Time{}, "", nil
	text, err := json.Marshal(r)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
