package reindex_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// The tests in this file run in virtual time: what they say of how long something takes depends on requests alone, and
// holds on a machine that is busy.

const (
	trip   = 40 * time.Millisecond  // of every request
	bodies = 260 * time.Millisecond // that an index takes besides: 13 MB at 50 MB/s
)

// A far store answers late, and takes its time over indices.
type far struct {
	mirror.Store
	sent *atomic.Int64 // indices that were sent
	// before, if set, is called with the number of each request, from 1.
	before func(n int64)
	n      atomic.Int64
}

func (f *far) Unwrap() any { return f.Store }

func (f *far) request() {
	if f.before != nil {
		f.before(f.n.Add(1))
	}
	time.Sleep(trip / 2)
}

func isIndex(content blob.Source) bool {
	text, err := blob.ReadAll(content)
	return err == nil && bytes.HasPrefix(text, []byte(`{"database"`))
}

func (f *far) arrives(u mirror.Upload) {
	f.request()
	if isIndex(u.Content) {
		time.Sleep(bodies)
		f.sent.Add(1)
	}
}

func (f *far) Open(ctx context.Context, name string) (*mirror.Object, error) {
	f.request()
	o, err := f.Store.Open(ctx, name)
	if err != nil {
		time.Sleep(trip / 2)
		return nil, err
	}
	content, err := io.ReadAll(o.Body)
	if bytes.HasPrefix(content, []byte(`{"database"`)) {
		time.Sleep(bodies)
	}
	time.Sleep(trip / 2)
	o.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content), failing{err}))
	return o, nil
}

// A failing reader ends with an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

func (f *far) Stat(ctx context.Context, name string) (mirror.Info, error) {
	f.request()
	defer time.Sleep(trip / 2)
	return f.Store.Stat(ctx, name)
}

func (f *far) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		f.request()
		f.Store.List(ctx, r)(yield)
		time.Sleep(trip / 2)
	}
}

func (f *far) Create(ctx context.Context, u mirror.Upload) error {
	f.arrives(u)
	defer time.Sleep(trip / 2)
	return f.Store.Create(ctx, u)
}

func (f *far) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	f.arrives(u)
	defer time.Sleep(trip / 2)
	return f.Store.Swap(ctx, u, was)
}

type silent struct{}

func (silent) Sent(string, int64, int64) {}
func (silent) Step(string, string)       {}
func (silent) Stored(string, int64)      {}

// packages are those of the fixtures that are published one by one.
var packages = []string{"gcc", "zlib", "openssl", "munge", "slurm", "hwloc", "libevent", "pmix"}

// A crowd is publishers of one mirror.
type crowd struct {
	t      *testing.T
	layout string
	mem    *mirrortest.Mem
	sent   atomic.Int64
	said   chan int // packages that the index offers, as each publisher says; nil: nobody asks
}

// newCrowd is a mirror with the index of one package, that of nobody else.
func newCrowd(t *testing.T, layout string) *crowd {
	t.Cleanup(reindex.AlwaysTakeTurns())
	c := &crowd{t: t, layout: layout, mem: mirrortest.NewMem(t)}
	if _, err := c.publish(c.mem, "gcc-runtime"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *crowd) far(s mirror.Store) *far { return &far{Store: s, sent: &c.sent} }

// publish publishes packages and makes sure that the index offers them if it succeeds.
func (c *crowd) publish(s mirror.Store, names ...string) (time.Duration, error) {
	c.t.Helper()
	began := time.Now()
	src, err := source.Open(c.t.Context(), "../../test/testdata/"+c.layout+"-unsigned", source.Selection{Include: names})
	if err != nil {
		return 0, err
	}
	defer src.Close()
	plan, err := publish.NewPlan(c.t.Context(), src, func(string) mirror.Store { return s }, publish.Options{})
	if err != nil {
		return time.Since(began), err
	}
	out, err := plan.Apply(c.t.Context(), silent{})
	took := time.Since(began)
	if err == nil && c.said != nil {
		c.said <- out.Mirrors[0].Index.After
	}
	if err == nil && plan.Mirrors[0].Index.Changes {
		// Whoever has written the index may have died before telling the caches.
		if name := plan.Mirrors[0].Pointers()[0]; !slices.Contains(out.Stale, name) {
			err = fmt.Errorf("%v are published, and caches are not told of %s", names, name)
		}
	}
	return took, err
}

// offers reports whether the index offers a package of the fixtures.
func (c *crowd) offers(name string) bool {
	l := buildcache.V3
	if c.layout == "v2" {
		l = buildcache.V2
	}
	p, err := buildcache.PointerForUpdate(context.Background(), l, c.mem)
	if err != nil {
		c.t.Fatal(err)
	}
	x, err := l.ReadIndex(context.Background(), c.mem, p)
	if err != nil {
		c.t.Fatal(err)
	}
	for e := range x.Records() {
		if e.Name == name && e.InBuildcache {
			return true
		}
	}
	return false
}

// shares are n different choices of packages.
func shares(n int) [][]string {
	var all [][]string
	for _, a := range packages {
		all = append(all, []string{a})
	}
	for i, a := range packages {
		for _, b := range packages[:i] {
			all = append(all, []string{a, b})
		}
	}
	return all[:n]
}

// begin lets publishers begin at once and returns how long the slowest took.
func (c *crowd) begin(stores []mirror.Store, shares [][]string) (slowest time.Duration) {
	took := make([]time.Duration, len(shares))
	done := make(chan error)
	for i, share := range shares {
		go func() {
			var err error
			if took[i], err = c.publish(stores[i], share...); err == nil {
				for _, name := range share {
					if !c.offers(name) {
						err = fmt.Errorf("success of %v, and the index lacks %s", share, name)
					}
				}
			}
			done <- err
		}()
	}
	for range shares {
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	}
	return slices.Max(took)
}

func (c *crowd) stores(n int) []mirror.Store {
	stores := make([]mirror.Store, n)
	for i := range stores {
		stores[i] = c.far(c.mem)
	}
	return stores
}

// Publishers that begin at once send one or two indices in all, and none waits much longer than a publisher that is alone.
func TestManyPublishersSendFewIndices(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, l)
			alone := c.begin(c.stores(1), [][]string{{"zlib"}})
			c = newCrowd(t, l)
			c.sent.Store(0)
			slowest := c.begin(c.stores(36), shares(36))
			t.Logf("%s: alone %v, the slowest of 36 %v, %d indices", l, alone, slowest, c.sent.Load())
			if c.sent.Load() > 3 || slowest > 3*alone {
				t.Errorf("%s: alone %v, the slowest of 36 %v, %d indices", l, alone, slowest, c.sent.Load())
			}
		})
	}
}

// A publisher that announces while the index is read is in what the leader makes of it.
func TestAPublisherThatAnnouncesWhileTheIndexIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "v3")
		c.sent.Store(0)
		late := c.far(c.mem)
		late.before = func(n int64) {
			if n == 1 {
				time.Sleep(bodies / 4)
			}
		}
		slowest := c.begin([]mirror.Store{c.far(c.mem), late}, shares(2))
		if c.sent.Load() > 1 || slowest > 1500*time.Millisecond {
			t.Errorf("the slowest of 2 %v, %d indices", slowest, c.sent.Load())
		}
	})
}

// An inTurn publisher announces when the leader lists announcements: one more each time.
type inTurn struct {
	*far
	announced, listed *atomic.Int64
	next              []chan struct{}
}

func (s inTurn) Create(ctx context.Context, u mirror.Upload) error {
	if !strings.Contains(u.Name, "/want-") {
		return s.far.Create(ctx, u)
	}
	select {
	case <-s.next[s.announced.Add(1)-1]:
	case <-time.After(time.Second): // the leader has not asked
	}
	return s.far.Create(ctx, u)
}

func (s inTurn) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	if n := s.listed.Load(); strings.Contains(r.Prefix, "/want-") && !strings.Contains(r.Prefix, "/none/") && n < int64(len(s.next)) {
		s.listed.Add(1)
		close(s.next[n])
		time.Sleep(2 * trip)
	}
	return s.far.List(ctx, r)
}

// Publishers that announce one after the other, while the announcements before are read, are in the same index.
func TestPublishersThatAnnounceWhileOthersAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "v3")
		c.sent.Store(0)
		of := inTurn{announced: new(atomic.Int64), listed: new(atomic.Int64)}
		stores := c.stores(6)
		for range stores[1:] {
			of.next = append(of.next, make(chan struct{}))
		}
		for i := range stores {
			stores[i] = inTurn{c.far(c.mem), of.announced, of.listed, of.next}
		}
		c.begin(stores, shares(len(stores)))
		if c.sent.Load() > 1 {
			t.Errorf("%d indices", c.sent.Load())
		}
	})
}

// A lone publisher of one package into 100,000 makes 25 requests: those below, three more for the four ranges in which an index of that size is
// read, and six for the five parts in which it is written.
func TestALonePublisherMakesFewRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "v3")
		// The pointer says that there are many packages of other names, so that what is looked for is listed one by one.
		const offers = `"offers":{`
		pointer := string(c.mem.Snapshot()[layout.V3Index])
		many := strings.Replace(pointer, offers, offers+`"others":"100000-0000000000000000",`, 1)
		if many == pointer {
			t.Fatalf("the pointer says nothing of what it offers: %s", pointer)
		}
		c.mem.Plant(layout.V3Index, []byte(many))
		time.Sleep(2 * lead.Settled) // nobody else has published lately
		c.mem.Forget()
		if _, err := c.publish(c.far(c.mem), "zlib"); err != nil {
			t.Fatal(err)
		}
		got := c.mem.Calls()
		if len(got) != 25-3-6 {
			t.Errorf("%d requests", len(got)+3+6)
			for _, call := range got {
				t.Log(call)
			}
		}
	})
}

// Publishers that arrive one after the other wait for the turn that is under way and for one more, at most.
func TestPublishersThatArriveOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "v3")
		alone := c.begin(c.stores(1), [][]string{{"gcc"}})
		for _, apart := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 700 * time.Millisecond} {
			c := newCrowd(t, "v3")
			took := make(chan time.Duration)
			for i, share := range shares(8) {
				go func() {
					time.Sleep(time.Duration(i) * apart)
					d, err := c.publish(c.far(c.mem), share...)
					if err != nil || !c.offers(share[0]) {
						t.Errorf("%v: %v, or the index lacks it", share, err)
					}
					took <- d
				}()
			}
			var slowest time.Duration
			for range 8 {
				slowest = max(slowest, <-took)
			}
			t.Logf("%v apart: alone %v, the slowest %v, %d indices", apart, alone, slowest, c.sent.Load()-1)
			if slowest > 3*alone {
				t.Errorf("%v apart: alone %v, the slowest %v", apart, alone, slowest)
			}
		}
	})
}

// Whatever happens to one publisher at whichever request, the others are soon done and nothing is lost.
func TestOnePublisherFailsAtEveryRequest(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 5
	}
	for _, l := range []string{"v3", "v2"} {
		alone, calls := time.Duration(0), 0
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, l)
			b := mirrortest.Break(c.mem)
			alone = c.begin([]mirror.Store{c.far(b)}, [][]string{{"slurm"}})
			calls = len(b.Calls())
		})
		t.Logf("%s: alone %v, %d requests", l, alone, calls)
		for name, broken := range map[string]func(c *crowd, k int) mirror.Store{
			"dies": func(c *crowd, k int) mirror.Store { return c.far(mirrortest.Break(c.mem, mirrortest.Kill(k-1))) },
			"is denied": func(c *crowd, k int) mirror.Store {
				return c.far(mirrortest.Break(c.mem, mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1]))))
			},
			"loses an answer": func(c *crowd, k int) mirror.Store {
				return c.far(mirrortest.Break(c.mem, mirrortest.Nth(k, mirrortest.Lie(""))))
			},
			"loses a request": func(c *crowd, k int) mirror.Store {
				return c.far(mirrortest.Break(c.mem, mirrortest.Nth(k, mirrortest.Drop(""))))
			},
			"stalls": func(c *crowd, k int) mirror.Store {
				f := c.far(c.mem)
				f.before = func(n int64) {
					if n == int64(k) {
						time.Sleep(time.Minute)
					}
				}
				return f
			},
		} {
			t.Run(l+" "+name, func(t *testing.T) {
				for k := 1; k <= calls; k += step {
					synctest.Test(t, func(t *testing.T) {
						c := newCrowd(t, l)
						one := make(chan struct{})
						go func() {
							c.publish(broken(c, k), "slurm")
							close(one)
						}()
						time.Sleep(time.Millisecond) // so that it is the first to claim
						slowest := c.begin(c.stores(4), [][]string{{"zlib"}, {"munge"}, {"openssl", "zlib"}, {"hwloc"}})
						if slowest > 2*alone+10*time.Second {
							t.Errorf("at request %d: the others took %v, alone %v", k, slowest, alone)
						}
						<-one
						if _, err := c.publish(c.mem, "slurm"); err != nil {
							t.Errorf("at request %d: again: %v", k, err)
						}
						for _, name := range []string{"gcc-runtime", "slurm", "zlib", "munge", "openssl", "hwloc"} {
							if !c.offers(name) {
								t.Errorf("at request %d: the index lacks %s", k, name)
							}
						}
					})
				}
			})
		}
	}
}

// Publishers that may not tell each other anything race, and lose nothing.
func TestPublishersThatMayNotAgree(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, l)
			for name := range c.mem.Snapshot() {
				if strings.HasPrefix(name, lead.Dir) {
					c.mem.Uproot(name)
				}
			}
			stores := c.stores(8)
			for i := range stores {
				stores[i] = c.far(mirrortest.Break(c.mem, mirrortest.Fail(lead.Dir, &mirror.DeniedError{Action: "s3:PutObject", Name: lead.Dir})))
			}
			c.begin(stores, shares(8))
			for name := range c.mem.Snapshot() {
				if strings.HasPrefix(name, lead.Dir) {
					t.Errorf("%s was written", name)
				}
			}
		})
	}
}

// That clients see what was published is known from receipts, without reading the index, however many have added to it since.
func TestReceiptsShowWhatClientsSee(t *testing.T) {
	c := newCrowd(t, "v3")
	p, err := buildcache.V3.ReadPointer(t.Context(), c.mem)
	if err != nil {
		t.Fatal(err)
	}
	want := reindex.Expectation{Layout: buildcache.V3, Digest: p.Digest(), Packages: []spec.Hash{"jieacimmulkeocd4t7db6d7n5fscxacy"}}
	for _, name := range []string{"zlib", "munge", "hwloc"} {
		if _, err := c.publish(c.mem, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, hidden := range []bool{false, true} {
		b := mirrortest.Break(c.mem)
		if hidden { // as by a CDN that does not serve them
			b = mirrortest.Break(c.mem, mirrortest.Fail(lead.Dir, &mirror.DeniedError{Action: "s3:GetObject", Name: lead.Dir}))
		}
		why, err := want.Unmet(t.Context(), b)
		if why != "" || err != nil {
			t.Errorf("receipts hidden %t: %q, %v", hidden, why, err)
		}
		read := slices.ContainsFunc(b.Calls(), func(c mirrortest.Call) bool { return strings.HasPrefix(c.Name, layout.V3Blobs) })
		if read != hidden {
			t.Errorf("receipts hidden %t: the index was read %t", hidden, read)
		}
	}
}

// A program that replaces the index without looking takes out only what it has not seen, and healing brings that back. Publishers
// beside it finish.
func TestBesideAProgramThatReplacesTheIndexWithoutLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, "v3")
		old := maps.Clone(c.mem.Snapshot())
		ctx, stop := context.WithCancel(t.Context())
		gone := make(chan int)
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				// An index of what was there in the beginning, each time in other bytes, as if Spack had written it.
				text := bytes.Replace(old[layout.V3Index], []byte("slurm-factory-publish"), []byte("written-by-another"), 1)
				text = append(bytes.TrimRight(text, "\n"), []byte(strings.Repeat("\n", n+1))...)
				c.mem.Plant(layout.V3Index, text)
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Second):
				}
			}
			gone <- n
		}()
		done := make(chan error)
		for i, share := range shares(12) {
			go func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				_, err := c.publish(c.far(c.mem), share...)
				done <- err
			}()
		}
		for range 12 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		stop()
		t.Logf("the index was replaced %d times", <-gone)
		var touched []string
		for name := range c.mem.Snapshot() {
			touched = append(touched, name)
		}
		if _, err := reindex.Heal(t.Context(), c.mem, buildcache.Trust{}, reindex.Changes{Names: touched}); err != nil {
			t.Fatal(err)
		}
		for _, name := range packages {
			if !c.offers(name) {
				t.Errorf("the index lacks %s", name)
			}
		}
	})
}
