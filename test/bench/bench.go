// Package bench measures what publishing costs in time, processor, memory and requests, with
// this program and with others that put a directory on S3.
//
// Clients run in turn on the same machine against the same server, so their ratios mean
// something where their absolute times do not. Each cell of the table is a workload in a
// scenario; rounds are interleaved, and the median of them counts.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/sink"
	"github.com/vantagecompute/slurm-factory-publish/test/bench/work"
)

// Options say what is measured. The zero value of a filter lets everything pass.
type Options struct {
	Dir   string // that keeps workloads and installed peers from one run to the next
	Store string // where real servers keep what they get; a RAM disk, if there is one
	Scale work.Scale

	Rounds int
	// Limit is how long a client may take for one run.
	Limit time.Duration
	// Behind is how many times longer than the best peer a client may take to be run in
	// more than one round.
	Behind float64

	Works, Scenarios []string
	Crowd            []int // how many publishers begin at once; empty: 1, 12, 48, 200
	Clients          *regexp.Regexp
	Install          bool // install peers that are not there
	Binaries         Binaries
	Log              io.Writer // what happens
}

// A Cell is a workload in a scenario.
type Cell struct {
	Work     string
	Scenario string
	Act      string // "" : everything is sent
}

// Acts that are not the sending of everything.
const (
	Again = "nothing changed"
	Merge = "20 packages added"
	Index = "index rebuilt"
	Plan  = "plan of 20 packages"
	Whole = "plan, everything listed"
	Many  = "publishers at once, 5 packages each"
	Alone = "one publisher, 1 package"
	Apart = "publishers within a minute, 5 packages each"
	Back  = "rolled back over 20 generations"
	Forth = "and forth again"
)

func (c Cell) String() string {
	s := c.Work + ", " + scenarios[c.Scenario].title
	if c.Act != "" {
		s += ": " + c.Act
	}
	return s
}

// A scenario is a server and what is between it and us.
type scenario struct {
	title string
	start func(r *runner) (place, error)
}

const (
	mib = 1 << 20
	gib = 1 << 30

	delay = 40 * time.Millisecond
	rate  = 50_000_000 // bytes a second that one connection gives
)

var scenarios = map[string]scenario{
	"fast":      {"0 ms", sinkOf(sink.Options{Keep: mib}, false)},
	"far":       {"40 ms, 50 MB/s per connection", sinkOf(sink.Options{Keep: mib, Latency: delay, ConnRate: rate}, false)},
	"tls":       {"0 ms over TLS", sinkOf(sink.Options{Keep: mib}, true)},
	"ill":       {"40 ms, 50 MB/s per connection, 1 % errors, 1 % resets", sinkOf(sink.Options{Keep: mib, Latency: delay, ConnRate: rate, Errors: 0.01, Resets: 0.01}, false)},
	"local":     {"0 ms, everything kept", sinkOf(sink.Options{Keep: 4 * gib}, false)},
	"kept":      {"40 ms, 50 MB/s per connection, everything kept", sinkOf(sink.Options{Keep: 4 * gib, Latency: delay, ConnRate: rate}, false)},
	"late":      {"40 ms", sinkOf(sink.Options{Keep: 4 * gib, Latency: delay}, false)},
	"versitygw": {"versitygw", func(r *runner) (place, error) { return startVersity(r.o.Store) }},
	"minio":     {"MinIO", func(r *runner) (place, error) { return startMinIO(findMinIO(), r.o.Store) }},
}

func sinkOf(o sink.Options, secure bool) func(*runner) (place, error) {
	return func(r *runner) (place, error) { return startSink(r.o.Binaries.Bench, r.home, o, secure) }
}

// cells are all that is measured, in order.
var cells = []struct {
	Cell
	run func(*runner, context.Context, Cell) error
}{
	{Cell{"cache", "fast", ""}, (*runner).race},
	{Cell{"cache", "far", ""}, (*runner).race},
	{Cell{"cache", "tls", ""}, (*runner).race},
	{Cell{"cache", "versitygw", ""}, (*runner).race},
	{Cell{"cache", "minio", ""}, (*runner).race},
	{Cell{"cache", "ill", ""}, (*runner).alone},
	{Cell{"cache", "far", Again}, (*runner).again},
	{Cell{"big", "fast", ""}, (*runner).race},
	{Cell{"big", "far", ""}, (*runner).race},
	{Cell{"big", "tls", ""}, (*runner).alone},
	{Cell{"big", "versitygw", ""}, (*runner).race},
	{Cell{"big", "minio", ""}, (*runner).race},
	{Cell{"small", "fast", ""}, (*runner).race},
	{Cell{"small", "far", Again}, (*runner).again},
	{Cell{"merge", "local", Merge}, (*runner).merge},
	{Cell{"rebuild", "late", Index}, (*runner).rebuild},
	{Cell{"million", "late", Plan}, (*runner).million},
	{Cell{"many", "kept", Many}, (*runner).many},
	{Cell{"many-v2", "kept", Many}, (*runner).many},
	{Cell{"many-large", "kept", Many}, (*runner).many},
	{Cell{"many-large", "kept", Alone}, (*runner).lone},
	{Cell{"many-huge", "kept", Alone}, (*runner).lone},
	{Cell{"many", "kept", Apart}, (*runner).apart},
	{Cell{"past", "local", Back}, (*runner).back},
	{Cell{"past", "kept", Back}, (*runner).back},
}

// A runner measures.
type runner struct {
	o       Options
	home    string // that clients have; removed in the end
	clients []*Client
	out     *Results
}

// Run measures all cells that pass the filters.
func Run(ctx context.Context, o Options) (*Results, error) {
	if o.Clients == nil {
		o.Clients = regexp.MustCompile("")
	}
	home, err := os.MkdirTemp("", "bench-home-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(home)
	r := &runner{o: o, home: home, out: newResults(o)}
	defer r.out.finish()
	for _, c := range clients(o.Binaries, o.Dir, o.Install, o.Clients, r.leftOut) {
		r.clients = append(r.clients, c)
		r.out.Clients = append(r.out.Clients, *c)
	}
	for _, c := range cells {
		if !passes(o.Works, c.Work) || !passes(o.Scenarios, c.Scenario) {
			continue
		}
		if c.Scenario == "minio" && findMinIO() == "" {
			r.leftOut("MinIO: not on the PATH, and MINIO is not set")
			continue
		}
		if err := r.prepare(ctx, c.Work); err != nil {
			return nil, err
		}
		if err := c.run(r, ctx, c.Cell); err != nil {
			return r.out, fmt.Errorf("%s: %w", c.Cell, err)
		}
	}
	return r.out, nil
}

func passes(filter []string, name string) bool {
	return len(filter) == 0 || slices.Contains(filter, name)
}

func (r *runner) leftOut(what string) {
	if !slices.Contains(r.out.LeftOut, what) {
		r.out.LeftOut = append(r.out.LeftOut, what)
		r.say("left out: %s", what)
	}
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(r.o.Log, format+"\n", args...) }

// prepare makes a workload, and reads it once, so that every client finds it in memory.
func (r *runner) prepare(ctx context.Context, name string) error {
	if _, err := os.Stat(r.dir(name)); err != nil {
		r.say("making %s", r.dir(name))
	}
	_, err := measure(ctx, command{r.o.Binaries.Bench, []string{"make", "-dir", r.o.Dir, "-scale", fmt.Sprint(int(r.o.Scale)), name}, os.Environ()}, 10*time.Minute)
	if err != nil {
		return err
	}
	_, err = measure(ctx, command{r.o.Binaries.Bench, []string{"read", r.dir(name)}, os.Environ()}, 10*time.Minute)
	return err
}

func (r *runner) dir(name string, below ...string) string {
	return filepath.Join(append([]string{work.Dir(r.o.Dir, name, r.o.Scale)}, below...)...)
}

// ours returns the product.
func (r *runner) ours() *Client {
	for _, c := range r.clients {
		if c.Ours {
			return c
		}
	}
	return nil
}
