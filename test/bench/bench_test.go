package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/work"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

func binaries(t *testing.T) Binaries {
	t.Helper()
	var b Binaries
	for to, build := range map[*string]func() (string, error){&b.Publish: program.Publish, &b.Unchecked: program.Unchecked, &b.Bench: program.Bench} {
		bin, err := build()
		if err != nil {
			t.Fatal(err)
		}
		*to = bin
	}
	return b
}

// The whole benchmark with tiny workloads: every kind of cell, with the peers that need not
// be installed.
func TestBenchmark(t *testing.T) {
	o := Options{
		Dir: t.TempDir(), Store: t.TempDir(), Scale: work.Tiny, Rounds: 2, Limit: time.Minute, Behind: 1e6,
		Scenarios: []string{"fast", "tls", "ill", "local", "late", "versitygw", "kept"}, Works: []string{"cache", "merge", "rebuild", "million", "many", "many-v2", "many-huge", "past"},
		Install: false,
		Clients: regexp.MustCompile("^(read|publish|SDK|s5cmd)"), Binaries: binaries(t), Log: io.Discard,
	}
	t.Setenv("MINIO", "")
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range map[Cell]int{{"cache", "fast", ""}: 5, {"cache", "tls", ""}: 6, {"cache", "versitygw", ""}: 2} { // on a busy machine a peer may seem hopeless there
		rows := r.in(c)
		if len(rows) < want || slices.ContainsFunc(rows, func(row *Row) bool { return len(row.Runs) != 2 }) {
			t.Errorf("%s: %d rows, want %d", c, len(rows), want)
		}
	}
	us := r.find(Cell{"cache", "fast", ""}, isOurs)
	if us.cpu() <= 0 || us.peak() < mib || us.requests() < 10 || us.dialled() < 1 || us.Runs[0].Bytes < 1_000_000 || us.Runs[0].Writes < 5 {
		t.Errorf("measured %+v", us.Runs[0])
	}
	served := time.Duration(0) // counted in hundredths of a second, which one run may not need
	for _, row := range r.in(Cell{"cache", "fast", ""}) {
		for _, m := range row.Runs {
			served += m.Server
		}
	}
	if served <= 0 {
		t.Error("the server needs no processor")
	}
	for _, work := range []string{"many", "many-v2"} {
		crowds := r.crowdsIn(Cell{work, "kept", Many})
		if len(crowds) != 2 || crowds[0].Publishers != 1 || len(crowds[1].Walls) != 3 || crowds[1].Bodies <= 0 || crowds[1].requests() < 3*5 {
			t.Errorf("%s: measured %+v", work, crowds)
		}
	}
	if crowds := r.crowdsIn(Cell{"many-huge", "kept", Alone}); len(crowds) != 1 || len(crowds[0].Walls) != 1 {
		t.Errorf("a publisher that is alone: measured %+v", crowds)
	}
	if crowds := r.crowdsIn(Cell{"many", "kept", Apart}); len(crowds) != 1 || len(crowds[0].Walls) != 3 {
		t.Errorf("publishers that arrive within a time: measured %+v", crowds)
	}
	if ill := r.find(Cell{"cache", "ill", ""}, isOurs); ill == nil {
		t.Error("nothing was measured with faults")
	}
	for _, v := range r.Verdicts() {
		measured := slices.Contains(o.Works, v.Cell.Work) && slices.Contains(o.Scenarios, v.Cell.Scenario) && v.What != "wall time by the undisturbed one" && v.Cell.Act != Many && v.Cell.Act != Apart
		if v.Measured != measured {
			t.Errorf("%s: measured %v", v, v.Measured)
		}
		if floored := strings.Contains(v.What, "by the best peer") && v.Unit == "" && (v.Cell.Scenario == "fast" || v.Cell.Scenario == "tls"); measured && floored && v.Floor <= 0 {
			t.Errorf("%s: without a floor", v)
		}
		// What does not depend on the machine holds here, too.
		if v.Measured && (v.Unit == "reads" || v.Unit == "writes" || v.Unit == "MB") && !v.Reached() && !raced {
			t.Error(v)
		}
	}
	look(t, r)
}

// look makes sure that what is written can be read.
func look(t *testing.T, r *Results) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := r.Write(dir, "make bench"); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	plots := regexp.MustCompile(`\]\(([a-z0-9-]+\.svg)\)`).FindAllStringSubmatch(string(page), -1)
	if len(plots) < 3 {
		t.Errorf("%d plots", len(plots))
	}
	for _, m := range plots {
		svg, err := os.ReadFile(filepath.Join(dir, m[1]))
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(svg, new(struct{})); err != nil || !strings.Contains(string(svg), "SDK manager") && !strings.Contains(string(svg), " at once") {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	for _, want := range []string{"| **publish** |", "| machine |", "| left out |", "reached |", "Merge, 0 ms, everything kept: 20 packages added", "| 3 | "} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var again Results
	if err := json.Unmarshal(raw, &again); err != nil || len(again.Rows) != len(r.Rows) {
		t.Errorf("%d rows, %v", len(again.Rows), err)
	}
}

func runs(walls ...time.Duration) []Measure {
	var all []Measure
	for _, w := range walls {
		all = append(all, Measure{Wall: w, CPU: w, Peak: int64(w)})
	}
	return all
}

func TestVerdicts(t *testing.T) {
	fast, big := Cell{"cache", "fast", ""}, Cell{"big", "fast", ""}
	row := func(c Cell, client *Client, runs []Measure) *Row {
		return &Row{Cell: c, Client: client.Name, Runs: runs, client: client}
	}
	served := runs(9*time.Second, 3*time.Second, 3*time.Second)
	for i := range served {
		served[i].Server = 4 * time.Second
	}
	r := &Results{Scale: 1, CPUs: 2, Rows: []*Row{
		row(fast, &Client{Name: "read", Baseline: true}, runs(2*time.Second)),
		row(fast, &Client{Name: "read in pairs", Baseline: true, Floor: true}, runs(1*time.Second)),
		row(fast, &Client{Name: "send", Baseline: true, Sender: true}, runs(3*time.Second)),
		row(fast, &Client{Name: "publish", Ours: true}, served),
		row(fast, &Client{Name: "a"}, runs(8*time.Second)),
		row(fast, &Client{Name: "b"}, runs(5*time.Second, 7*time.Second, 6*time.Second)),
		row(fast, &Client{Name: "c"}, nil),
		row(Cell{"small", "fast", ""}, &Client{Name: "publish", Ours: true}, runs(5*time.Second)),
		row(Cell{"small", "fast", ""}, &Client{Name: "a"}, runs(25*time.Second)),
		row(big, &Client{Name: "read in pairs", Baseline: true, Floor: true}, runs(4*time.Second)),
		row(big, &Client{Name: "send", Baseline: true, Sender: true}, runs(6*time.Second)),
		row(big, &Client{Name: "publish", Ours: true}, runs(5*time.Second)),
		row(big, &Client{Name: "a"}, runs(10*time.Second)),
	}}
	said := ""
	for _, v := range r.Verdicts() {
		if v.Measured {
			said += v.String() + "\n"
		}
	}
	want := `cache, 0 ms: wall time by the best peer at most 0.50: 0.50, reached
big, 0 ms: wall time by the best peer at most 0.80: 0.50, reached
cache, 0 ms: processor time by reading and hashing at most 1.60: 1.50, reached
cache, 0 ms: peak memory at most 128 MB: 9000 MB, NOT REACHED
big, 0 ms: peak memory at most 64 MB: 5000 MB, NOT REACHED
small, 0 ms: objects a second by 5,000 or four times the best peer's, whichever is less at least 1.00: 1.25, reached
`
	if said != want {
		t.Errorf("got\n%swant\n%s", said, want)
	}
	for _, v := range r.Verdicts() {
		want := 0.0
		switch {
		case !strings.HasPrefix(v.What, "wall time by the best peer"):
			continue
		case v.Cell == fast:
			want = 3.5 / 6 // two processors need one and a half seconds for sending and two for serving
		case v.Cell == big:
			want = 4. / 10 // one needs four for hashing, although two need three for sending
		}
		if v.Floor != want {
			t.Errorf("%s: the floor is %v, want %v", v.Cell, v.Floor, want)
		}
	}
}

// A place that is a URL and nothing else.
type placeless struct{ place }

func (placeless) url() string            { return "http://127.0.0.1" }
func (placeless) ca() string             { return "" }
func (placeless) empty() (string, error) { return "bucket", nil }

// Who stores what it gets is filled once before anybody is measured.
func TestRealServersAreWarm(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	ours := &Client{Ours: true, bin: "/bin/sh", args: func(string, destination) []string { return []string{"-c", "echo >> " + ran} }}
	r := &runner{clients: []*Client{ours}}
	for scenario, want := range map[string]int{"fast": 0, "versitygw": 1, "minio": 1} {
		os.Remove(ran)
		if err := r.warm(t.Context(), Cell{"cache", scenario, ""}, placeless{}); err != nil {
			t.Fatal(err)
		}
		lines, err := os.ReadFile(ran)
		if err != nil && !errors.Is(err, os.ErrNotExist) || len(lines) != want {
			t.Errorf("%s: it was filled %d times, want %d; %v", scenario, len(lines), want, err)
		}
	}
}

// Who is far behind is not asked again, and who cannot be run is not asked at all.
func TestWhoIsStillIn(t *testing.T) {
	c := Cell{"cache", "fast", ""}
	ours, quick, slow, broken := &Client{Name: "publish", Ours: true}, &Client{Name: "quick"}, &Client{Name: "slow"}, &Client{Name: "broken"}
	r := &runner{o: Options{Behind: 1.5}, out: &Results{}}
	r.out.add(c, ours, Measure{Wall: 10 * time.Second})
	r.out.add(c, quick, Measure{Wall: 2 * time.Second})
	r.out.add(c, slow, Measure{Wall: 4 * time.Second})
	r.out.note(c, broken, "it is broken")
	if in := r.stillIn(c, []*Client{ours, quick, slow, broken}); !slices.Equal(in, []*Client{ours, quick}) {
		t.Errorf("still in: %v", in)
	}
}

func TestARunThatTakesTooLongIsStopped(t *testing.T) {
	began := time.Now()
	_, err := measure(t.Context(), command{"/bin/sh", []string{"-c", "sleep 60 & wait"}, nil}, 200*time.Millisecond)
	if !errors.Is(err, errSlow) || time.Since(began) > 20*time.Second {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
	_, err = measure(t.Context(), command{"/bin/sh", []string{"-c", "echo what is wrong >&2; exit 3"}, nil}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "what is wrong") {
		t.Errorf("got %v", err)
	}
}

// Spack makes an index where there is a checkout of it.
func TestSpackIsACheckout(t *testing.T) {
	t.Setenv("SPACK", "")
	if _, err := spackIndex(); err == nil {
		t.Error("there is none")
	}
	dir := t.TempDir()
	t.Setenv("SPACK", dir)
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n[ \"$1\" = --version ] && echo 1.2.3 && exit\necho \"$@ $S3_ENDPOINT_URL\" >&2; exit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "bin", "spack"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	spack, err := spackIndex()
	if err != nil || spack.Version != "1.2.3" {
		t.Fatalf("%+v, %v", spack, err)
	}
	_, err = measure(t.Context(), spack.command("", destination{placeless{}, "bucket"}, dir), time.Minute)
	if err == nil || !strings.Contains(err.Error(), "buildcache update-index s3://bucket/p http://127.0.0.1") {
		t.Errorf("got %v", err)
	}
}
