package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/work"
)

// A Crowd is a number of publishers that begin at the same time to add packages to one mirror.
type Crowd struct {
	Cell       Cell
	Publishers int
	Walls      []time.Duration // of each publisher, the fastest first
	CPU        time.Duration   // of all publishers together
	Server     time.Duration   // processor time of the server
	Peak       int64           // bytes resident of the largest publisher
	Requests   map[string]int64
	Bytes      int64   // of content that the server got
	Bodies     float64 // that content, in index documents
}

// at returns the wall time below which a share of the publishers is.
func (c *Crowd) at(share float64) time.Duration {
	return c.Walls[min(len(c.Walls)-1, int(share*float64(len(c.Walls))))]
}

func (c *Crowd) slowest() time.Duration { return c.Walls[len(c.Walls)-1] }

func (c *Crowd) requests() int64 {
	n := int64(0)
	for _, of := range c.Requests {
		n += of
	}
	return n
}

// crowdSizes are how many publishers begin at once; the first is alone.
var crowdSizes = []int{1, 12, 48, 200}

func (o *Options) crowds() []int {
	if len(o.Crowd) > 0 {
		return o.Crowd
	}
	if o.Scale == work.Tiny {
		return []int{1, 3}
	}
	return crowdSizes
}

// many measures publishers that begin at once, in crowds of different sizes.
func (r *runner) many(ctx context.Context, c Cell) error {
	return r.crowds(ctx, c, 0, r.o.Rounds, r.o.crowds()...)
}

// lone measures a publisher of one package that nobody else is beside.
func (r *runner) lone(ctx context.Context, c Cell) error {
	return r.crowds(ctx, c, 0, r.o.Rounds, 1)
}

// quiet is how long nobody has published before a publisher that is alone: until then it looks for those that are left from before.
const quiet = 11 * time.Second

// arrivals is within which time the publishers of a matrix begin that waits for machines.
const arrivals = time.Minute

// apart measures publishers that begin at random times within a minute, once.
func (r *runner) apart(ctx context.Context, c Cell) error {
	if r.o.Scale == work.Tiny {
		return r.crowds(ctx, c, time.Second, 1, 3)
	}
	return r.crowds(ctx, c, arrivals, 1, 48)
}

func (r *runner) crowds(ctx context.Context, c Cell, within time.Duration, rounds int, sizes ...int) error {
	if r.ours() == nil {
		return nil
	}
	return r.at(c, func(p place) error {
		for _, n := range sizes {
			for range rounds {
				if err := r.crowd(ctx, c, p, within, n); err != nil {
					return fmt.Errorf("%d publishers: %w", n, err)
				}
			}
		}
		return nil
	})
}

// crowd lets n publishers add packages. Each begins at a random time, always the same one, within a time. Before that another one
// has, so that the index is one that this program has written.
func (r *runner) crowd(ctx context.Context, c Cell, p place, within time.Duration, n int) error {
	bucket, err := p.empty()
	if err != nil {
		return err
	}
	if err := p.load(r.dir(c.Work, "there"), prefix); err != nil {
		return err
	}
	to, client := destination{p, bucket}, r.ours()
	if _, err := measure(ctx, client.command(r.dir(c.Work, "first"), to, r.home), r.o.Limit); err != nil {
		return err
	}
	if c.Act == Alone && r.o.Scale != work.Tiny {
		time.Sleep(quiet)
	}
	if err := p.forget(); err != nil {
		return err
	}
	before, err := used(p.pid())
	if err != nil {
		return err
	}
	runs := make([]Measure, n)
	chance := rand.New(rand.NewPCG(1, uint64(n)))
	g, gctx := errgroup.WithContext(ctx)
	for i := range runs {
		begin := time.Duration(chance.Float64() * float64(within))
		g.Go(func() (err error) {
			time.Sleep(begin)
			runs[i], err = measure(gctx, client.command(r.share(c, i), to, r.home), max(r.o.Limit, 10*time.Minute))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	out := &Crowd{Cell: c, Publishers: n}
	if err := r.counted(p, out, before); err != nil {
		return err
	}
	for _, m := range runs {
		out.Walls, out.CPU, out.Peak = append(out.Walls, m.Wall), out.CPU+m.CPU, max(out.Peak, m.Peak)
	}
	slices.Sort(out.Walls)
	size, err := r.offersAll(c, to, n)
	if err != nil {
		return err
	}
	out.Bodies = float64(out.Bytes) / float64(size)
	r.out.Crowds = append(r.out.Crowds, out)
	r.say("%-34s %3d publishers %7.2f s, median %.2f s  %6.2f s CPU  %4d MiB  %6d requests  %.1f bodies", c, n,
		out.slowest().Seconds(), out.at(0.5).Seconds(), out.CPU.Seconds(), out.Peak>>20, out.requests(), out.Bodies)
	return nil
}

func (r *runner) share(c Cell, i int) string {
	if c.Act == Alone {
		return r.dir(c.Work, "one")
	}
	return r.dir(c.Work, "new", fmt.Sprint(i))
}

// counted takes what the server has counted.
func (r *runner) counted(p place, out *Crowd, before time.Duration) error {
	sink, ok := p.(*sinkPlace)
	if !ok {
		return errors.New("this server does not count")
	}
	st, err := sink.Stats()
	if err != nil {
		return err
	}
	out.Requests, out.Bytes = st.Requests, st.Bytes
	out.Server, err = used(p.pid())
	out.Server -= before
	return err
}

// offersAll makes sure that the index offers the packages of n publishers, and returns its size.
func (r *runner) offersAll(c Cell, to destination, n int) (size int64, err error) {
	lacks := make(map[string]int) // publishers, by the packages that are yet to be found
	for i := range n {
		list, err := os.ReadFile(r.share(c, i) + ".hashes")
		if err != nil {
			return 0, err
		}
		for hash := range strings.Lines(string(list)) {
			lacks[strings.TrimSpace(hash)] = i
		}
	}
	index, err := openIndex(to)
	if err != nil {
		return 0, err
	}
	defer index.Close()
	if size, err = strike(lacks, index); err != nil {
		return 0, err
	}
	for hash, i := range lacks {
		return 0, fmt.Errorf("publisher %d has succeeded, and the index lacks %s", i, hash)
	}
	return size, nil
}

// strike removes the packages that an index has, and returns its size. It holds little of it at a time: see measure.
func strike(lacks map[string]int, index io.Reader) (size int64, err error) {
	const hash = 32
	key, buf, kept := []byte(`":{"spec":`), make([]byte, 1<<20), 0
	for {
		n, err := io.ReadFull(index, buf[kept:])
		size += int64(n)
		text := buf[:kept+n]
		for at := 0; ; at += len(key) {
			next := bytes.Index(text[at:], key)
			if next < 0 {
				break
			}
			if at += next; at >= hash {
				delete(lacks, string(text[at-hash:at]))
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return size, nil
		}
		if err != nil {
			return size, err
		}
		kept = copy(buf, text[len(text)-hash-len(key):]) // one may be cut in two
	}
}

// openIndex reads an index as a client does.
func openIndex(to destination) (io.ReadCloser, error) {
	var manifest struct {
		Data []struct{ Checksum string }
	}
	body, err := fetch(to.url() + "/v3/manifests/index/index.manifest.json")
	if errors.Is(err, errNoObject) {
		return fetch(to.url() + "/build_cache/index.json")
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&manifest); err != nil || len(manifest.Data) == 0 {
		return nil, fmt.Errorf("index manifest: %w", err)
	}
	sum := manifest.Data[0].Checksum
	return fetch(to.url() + "/blobs/sha256/" + sum[:2] + "/" + sum)
}

var errNoObject = errors.New("no such object")

func fetch(url string) (io.ReadCloser, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %s: %s", errNoObject, url, resp.Status)
	}
	return resp.Body, nil
}

// crowdsIn returns the crowds of a cell, one of each size: the one whose slowest publisher is the median of its rounds.
func (r *Results) crowdsIn(c Cell) []*Crowd {
	bySize := make(map[int][]*Crowd)
	for _, crowd := range r.Crowds {
		if crowd.Cell == c {
			bySize[crowd.Publishers] = append(bySize[crowd.Publishers], crowd)
		}
	}
	var all []*Crowd
	for _, rounds := range bySize {
		slices.SortFunc(rounds, func(a, b *Crowd) int { return int(a.slowest() - b.slowest()) })
		all = append(all, rounds[(len(rounds)-1)/2])
	}
	slices.SortFunc(all, func(a, b *Crowd) int { return a.Publishers - b.Publishers })
	return all
}

// crowdOf returns the crowd of a size; nil: it was not measured.
func (r *Results) crowdOf(c Cell, publishers int) *Crowd {
	for _, crowd := range r.crowdsIn(c) {
		if crowd.Publishers == publishers {
			return crowd
		}
	}
	return nil
}

// crowdTable shows the crowds of a cell.
func (r *Results) crowdTable(w io.Writer, c Cell) {
	fmt.Fprintf(w, "| publishers | slowest s | 90 %% s | median s | fastest s | by a lone one | index bodies sent | MB sent | requests | GET, HEAD, LIST, PUT | CPU s, each | server CPU s | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	all := r.crowdsIn(c)
	for _, crowd := range all {
		n := crowd.Requests
		ratio := ""
		if all[0].Publishers == 1 {
			ratio = fmt.Sprintf("%.2f", crowd.slowest().Seconds()/all[0].slowest().Seconds())
		}
		fmt.Fprintf(w, "| %d | %.2f | %.2f | %.2f | %.2f | %s | %.1f | %.0f | %d | %d, %d, %d, %d | %.3f | %.2f | %d |\n",
			crowd.Publishers, crowd.slowest().Seconds(), crowd.at(0.9).Seconds(), crowd.at(0.5).Seconds(), crowd.Walls[0].Seconds(), ratio,
			crowd.Bodies, float64(crowd.Bytes)/1e6, crowd.requests(),
			n["GetObject"], n["HeadObject"], n["ListObjectsV2"], n["PutObject"]+n["UploadPart"],
			crowd.CPU.Seconds()/float64(crowd.Publishers), crowd.Server.Seconds(), crowd.Peak>>20)
	}
}

// crowdTargets are those of publishers that begin at once.
func crowdTargets(add func(Target)) {
	slowest := func(n int) func(*Results, Cell) (float64, bool) {
		return func(r *Results, c Cell) (float64, bool) {
			lone, crowd := r.crowdOf(c, 1), r.crowdOf(c, n)
			if lone == nil || crowd == nil {
				return 0, false
			}
			return crowd.slowest().Seconds() / lone.slowest().Seconds(), true
		}
	}
	// What the processors need for the publishers and the server, if they waited for nothing else.
	busy := func(n int) func(*Results, Cell) (float64, bool) {
		return func(r *Results, c Cell) (float64, bool) {
			lone, crowd := r.crowdOf(c, 1), r.crowdOf(c, n)
			if lone == nil || crowd == nil || r.CPUs == 0 {
				return 0, false
			}
			return max(1, (crowd.CPU+crowd.Server).Seconds()/float64(r.CPUs)/lone.slowest().Seconds()), true
		}
	}
	bodies := func(n int) func(*Results, Cell) (float64, bool) {
		return func(r *Results, c Cell) (float64, bool) {
			crowd := r.crowdOf(c, n)
			if crowd == nil {
				return 0, false
			}
			return math.Round(crowd.Bodies), true
		}
	}
	for _, layout := range []struct {
		work   string
		factor float64
	}{{"many", 1}, {"many-v2", 2}} {
		c := Cell{layout.work, "kept", Many}
		for _, t := range []struct {
			n            int
			wall, bodies float64
		}{{12, 2, 2}, {48, 3, 3}, {200, 8, 5}} {
			add(Target{Cell: c, What: fmt.Sprintf("the slowest of %d by a lone one", t.n), Most: t.wall * layout.factor, value: slowest(t.n), floor: busy(t.n)})
			add(Target{Cell: c, What: fmt.Sprintf("index bodies that %d send", t.n), Most: t.bodies * layout.factor, Unit: "bodies", value: bodies(t.n)})
		}
	}
	apart := Cell{"many", "kept", Apart}
	add(Target{Cell: apart, What: "the median of 48 by a lone one", Most: 2, value: func(r *Results, _ Cell) (float64, bool) {
		lone, crowd := r.crowdOf(Cell{"many", "kept", Many}, 1), r.crowdOf(apart, 48)
		if lone == nil || crowd == nil {
			return 0, false
		}
		return crowd.at(0.5).Seconds() / lone.slowest().Seconds(), true
	}})
	large := Cell{"many-large", "kept", Many}
	of := func(n int, what func(*Crowd) float64) func(*Results, Cell) (float64, bool) {
		return func(r *Results, c Cell) (float64, bool) {
			if crowd := r.crowdOf(c, n); crowd != nil {
				return what(crowd), true
			}
			return 0, false
		}
	}
	wall := func(c *Crowd) float64 { return c.slowest().Seconds() }
	peak := func(c *Crowd) float64 { return float64(c.Peak) / 1e6 }
	alone, huge := Cell{"many-large", "kept", Alone}, Cell{"many-huge", "kept", Alone}
	add(Target{Cell: alone, What: "wall time", Most: 2, Unit: "s", value: of(1, wall)})
	add(Target{Cell: alone, What: "requests", Most: 25, Unit: "requests", value: of(1, func(c *Crowd) float64 { return float64(c.requests()) })})
	add(Target{Cell: alone, What: "peak memory", Most: 300, Unit: "MB", value: of(1, peak)})
	add(Target{Cell: huge, What: "wall time", Most: 12, Unit: "s", value: of(1, wall)})
	add(Target{Cell: huge, What: "peak memory", Most: 1000, Unit: "MB", value: of(1, peak)})
	add(Target{Cell: large, What: "the slowest of 48", Most: 4, Unit: "s", value: of(48, wall)})
	add(Target{Cell: large, What: "index bodies that 48 send", Most: 3, Unit: "bodies", value: bodies(48)})
}
