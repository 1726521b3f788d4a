package publish_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"
)

// closureOf selects packages, or the environments of lock files.
func closureOf(t testing.TB, wanted ...string) elsewhere.Closure {
	t.Helper()
	var c elsewhere.Closure
	for _, w := range wanted {
		if !strings.HasSuffix(w, ".lock") {
			q, err := query.Parse(w)
			if err != nil {
				t.Fatal(err)
			}
			c.Packages = append(c.Packages, q)
			continue
		}
		text, err := os.ReadFile("lockfile/testdata/" + w)
		if err != nil {
			t.Fatal(err)
		}
		lock, err := lockfile.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c.Locks = append(c.Locks, lock)
	}
	return c
}

func planCopy(ctx context.Context, from mirror.Reader, to mirror.Store, c elsewhere.Closure, o publish.Options) (*publish.Plan, error) {
	src, err := elsewhere.Open(ctx, []mirror.Reader{from}, to, c)
	if err != nil {
		return nil, err
	}
	return publish.NewPlan(ctx, src, func(string) mirror.Store { return transfer.NewRelay("").Into(to) }, o)
}

func copyTo(ctx context.Context, from mirror.Reader, to mirror.Store, c elsewhere.Closure) (*publish.Plan, *publish.Outcome, error) {
	p, err := planCopy(ctx, from, to, c, publish.Options{})
	if err != nil {
		return nil, nil, err
	}
	out, err := p.Apply(ctx, publishtest.Ignored{})
	return p, out, err
}

func mustCopy(t testing.TB, from mirror.Reader, to mirror.Store, c elsewhere.Closure) *publish.Plan {
	t.Helper()
	p, _, err := copyTo(t.Context(), from, to, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A copy of everything is the mirror, byte for byte, under the index that Spack made of it.
func TestACopyOfEverythingIsTheMirror(t *testing.T) {
	for _, fixture := range append(publishtest.Mirrors, "v3-migrated") {
		t.Run(fixture, func(t *testing.T) {
			from, to := publishtest.Planted(t, fixture), publishtest.EmptyMirror(t)
			mustCopy(t, from, to, elsewhere.Closure{})
			spack := from.Snapshot()
			if diff := mirrortest.Diff(publishtest.WithoutIndex(t, spack), publishtest.WithoutIndex(t, to.Snapshot())); diff != "" {
				t.Errorf("- lost, + more, ! changed:\n%s", diff)
			}
			publishtest.WantIndex(t, to.Snapshot(), publishtest.LayoutOf(fixture), publishtest.IndexOf(t, spack, publishtest.LayoutOf(fixture)))
		})
	}
}

// packagesIn are the names of packages whose documents are there.
func packagesIn(s map[string][]byte) string {
	var names []string
	for name := range s {
		if id, ok := layout.ParseV3Spec(name); ok {
			names = append(names, id.Package)
		} else if _, ok := layout.ParseV2Spec(name); ok {
			stem, _, _ := strings.Cut(strings.TrimPrefix(name, "build_cache/linux-ubuntu22.04-x86_64_v3-gcc-"), ".spec.json")
			names = append(names, stem)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// What is selected brings along what it needs when it is installed, and nothing else.
func TestACopyIsAClosure(t *testing.T) {
	needed := "gcc-runtime munge openssl zlib"
	for _, row := range []struct {
		builds  bool
		include []string
		want    string
	}{
		{false, []string{"munge"}, needed},
		{false, []string{"munge@0.5: ^openssl@3"}, needed},
		{false, []string{"/7mkbpyy"}, needed},
		{false, []string{"v6.lock"}, needed},
		{false, []string{"v6.lock", "hwloc"}, "gcc-runtime hwloc munge openssl zlib"},
		{true, []string{"v6.lock"}, "compiler-wrapper gcc " + needed},
		{true, []string{"munge"}, "compiler-wrapper gcc " + needed},
		{false, []string{"gcc-runtime"}, "gcc-runtime"},
		{false, []string{"v6-included.lock"}, "gcc-runtime hwloc libevent munge openssl pmix slurm zlib"},
	} {
		from, to := publishtest.Planted(t, "v3-signed"), publishtest.EmptyMirror(t)
		c := closureOf(t, row.include...)
		c.Builds = row.builds
		mustCopy(t, from, to, c)
		s := to.Snapshot()
		if got := packagesIn(s); got != row.want {
			t.Errorf("%q, builds %v: %s, want %s", row.include, row.builds, got, row.want)
		}
		if len(publishtest.IndexOf(t, s, "v3").Offered()) != len(strings.Fields(row.want)) {
			t.Errorf("%q: the index offers %q", row.include, publishtest.IndexOf(t, s, "v3").Offered())
		}
	}
}

// Spack's own index of a copy of munge and what it needs has 10 records, 4 of them offered.
func TestTheIndexOfACopyIsComplete(t *testing.T) {
	to := publishtest.EmptyMirror(t)
	mustCopy(t, publishtest.Planted(t, "v3-signed"), to, closureOf(t, "munge"))
	x := publishtest.IndexOf(t, to.Snapshot(), "v3")
	if len(x) != 10 || len(x.Offered()) != 4 {
		t.Errorf("%d records, %q", len(x), x.Offered())
	}
}

// A copy reads each object of the source once: what it has read of a spec it stores.
func TestACopyReadsNothingTwice(t *testing.T) {
	for _, fixture := range publishtest.Mirrors {
		from := mirrortest.Break(publishtest.Planted(t, fixture))
		mustCopy(t, from, publishtest.EmptyMirror(t), elsewhere.Closure{})
		times := make(map[string]int)
		for _, c := range from.Calls() {
			if c.Op == mirrortest.Open {
				times[c.Name]++
			}
		}
		for name, n := range times {
			if n > 1 {
				t.Errorf("%s: %s is read %d times", fixture, name, n)
			}
		}
		if len(times) < 20 {
			t.Errorf("%s: %d objects are read", fixture, len(times))
		}
	}
}

// keysFirst is a mirror whose packages cannot be read before its keys were asked for.
type keysFirst struct {
	mirror.Reader
	asked chan struct{}
	once  *sync.Once
}

func (k keysFirst) Open(ctx context.Context, name string) (*mirror.Object, error) {
	if name == layout.V3KeyIndex {
		k.once.Do(func() { close(k.asked) })
	}
	if strings.HasPrefix(name, "v3/manifests/spec/") {
		select {
		case <-k.asked:
		case <-time.After(time.Minute):
			return nil, errors.New("nobody has asked for the keys")
		}
	}
	return k.Reader.Open(ctx, name)
}

// The keys of a source are read beside its documents: no round trip more.
func TestKeysAreReadBesideDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := keysFirst{publishtest.Planted(t, "v3-signed"), make(chan struct{}), new(sync.Once)}
		mustCopy(t, from, publishtest.EmptyMirror(t), elsewhere.Closure{})
	})
}

// The second copy reads two pointers and an index of the source, and nothing else of it.
func TestASecondCopyReadsOnlyTheIndex(t *testing.T) {
	for _, fixture := range publishtest.Mirrors {
		to := publishtest.EmptyMirror(t)
		from := mirrortest.Break(publishtest.Planted(t, fixture))
		mustCopy(t, from, to, elsewhere.Closure{})
		from.Forget()
		to.Forget()
		p := mustCopy(t, from, to, elsewhere.Closure{})
		if p.Changes() || len(to.Mutations()) > 0 {
			t.Errorf("%s: the second copy writes %v", fixture, to.Mutations())
		}
		if n := len(from.Calls()); n > 3 {
			t.Errorf("%s: %d calls: %v", fixture, n, from.Calls())
		}
		for _, m := range p.Mirrors {
			for _, pkg := range m.Packages {
				if pkg.Status != publish.Unchanged {
					t.Errorf("%s: %s is %s", fixture, pkg.ID(), pkg.Status)
				}
			}
		}
	}
}

// A package that the destination lost is copied again, although the index still offers it.
func TestACopyMendsWhatIsGone(t *testing.T) {
	from, to := publishtest.Planted(t, "v3-signed"), publishtest.EmptyMirror(t)
	mustCopy(t, from, to, closureOf(t, "munge"))
	want := to.Snapshot()
	for name := range want {
		if id, ok := layout.ParseV3Spec(name); ok && id.Package == "openssl" {
			to.Uproot(name)
		}
	}
	mustCopy(t, from, to, closureOf(t, "munge"))
	if diff := mirrortest.Diff(want, to.Snapshot()); diff != "" {
		t.Error(diff)
	}
}

// A closure that the source cannot complete is refused, and named, unless the destination has the rest.
func TestAClosureWithAHoleIsRefused(t *testing.T) {
	from, to := publishtest.EmptyMirror(t), publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, from, publishtest.Original("v3-signed"), publishtest.Only("munge", "zlib", "gcc-runtime")) // not openssl
	p, _, err := copyTo(t.Context(), from, to, closureOf(t, "munge"))
	var found *buildcache.FindingsError
	if !errors.As(err, &found) || !strings.Contains(err.Error(), "munge@0.5.16/7mkbpyy needs openssl@") || len(to.Stored()) > 0 {
		t.Fatalf("%v, stored %q", err, to.Stored())
	}
	if !p.Blocked() {
		t.Error("the plan is not blocked")
	}
	// --keep-going copies what is whole, and not munge.
	o := publish.Options{KeepGoing: true}
	plan, err := planCopy(t.Context(), from, to, closureOf(t, "munge", "zlib"), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), publishtest.Ignored{}); !errors.As(err, &found) {
		t.Error(err)
	}
	if got := packagesIn(to.Snapshot()); strings.Contains(got, "munge") || !strings.Contains(got, "zlib") {
		t.Errorf("copied: %s", got)
	}
	publishtest.MustPublish(t, to, publishtest.Original("v3-signed"), publishtest.Only("openssl"))
	mustCopy(t, from, to, closureOf(t, "munge"))
	lock := closureOf(t, "v6.lock")
	if _, _, err := copyTo(t.Context(), from, publishtest.EmptyMirror(t), lock); err == nil || !strings.Contains(err.Error(), "is selected, and not offered") {
		t.Error(err)
	}
}

func TestWhatCannotBeCopiedIsSaid(t *testing.T) {
	for _, row := range []struct {
		name, why string
		from      func(t *testing.T) *mirrortest.Mem
		include   []string
	}{
		{"no mirror", "no index of a Spack mirror", func(t *testing.T) *mirrortest.Mem { return publishtest.EmptyMirror(t) }, nil},
		{"nothing selected", "nothing that the mirror offers matches", func(t *testing.T) *mirrortest.Mem { return publishtest.Planted(t, "v3-signed") }, []string{"nothing"}},
		{"a broken index", "index", func(t *testing.T) *mirrortest.Mem {
			m := publishtest.Planted(t, "v3-signed")
			m.Plant(layout.V3Index, []byte("{"))
			return m
		}, nil},
	} {
		_, _, err := copyTo(t.Context(), row.from(t), publishtest.EmptyMirror(t), closureOf(t, row.include...))
		if err == nil || !strings.Contains(err.Error(), row.why) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// What is wrong with a package of the source keeps it, and what depends on it, from being copied.
func TestDamageIsNotCopied(t *testing.T) {
	spoil := func(what string) *mirrortest.Mem {
		m := publishtest.Planted(t, "v3-signed")
		for name, content := range m.Snapshot() {
			id, ok := layout.ParseV3Spec(name)
			if !ok || id.Package != "openssl" {
				continue
			}
			blobs := publishtest.PointsAt(t, m.Snapshot(), name)
			switch what {
			case "document":
				m.Uproot(name)
			case "tarball":
				m.Uproot(blobs[0])
			case "bytes":
				m.Plant(blobs[0], append(slices.Clone(m.Snapshot()[blobs[0]][1:]), 'x'))
			case "spec":
				m.Plant(blobs[1], []byte("{}"))
			case "name": // the signed document of another package
				for other, text := range m.Snapshot() {
					if id, ok := layout.ParseV3Spec(other); ok && id.Package == "zlib" {
						m.Plant(name, text)
					}
				}
			}
			_ = content
		}
		return m
	}
	for _, what := range []string{"document", "tarball", "bytes", "spec", "name"} {
		to := publishtest.EmptyMirror(t)
		_, _, err := copyTo(t.Context(), spoil(what), to, elsewhere.Closure{})
		var found *buildcache.FindingsError
		if !errors.As(err, &found) || !strings.Contains(err.Error(), "openssl") && !strings.Contains(err.Error(), "blobs/") {
			t.Errorf("%s: %v", what, err)
		}
		if got := packagesIn(to.Snapshot()); got != "" {
			t.Errorf("%s: copied %s", what, got)
		}
		plan, err := planCopy(t.Context(), spoil(what), to, elsewhere.Closure{}, publish.Options{KeepGoing: true})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := plan.Apply(t.Context(), publishtest.Ignored{}); err == nil {
			t.Errorf("%s: no error", what)
		}
		got := packagesIn(to.Snapshot())
		if strings.Contains(got, "openssl") || strings.Contains(got, "munge") || !strings.Contains(got, "hwloc") {
			t.Errorf("%s: copied %s", what, got)
		}
	}
}

// A key of the source that is not what its name says is not copied.
func TestSpoiltKeysAreNotCopied(t *testing.T) {
	from, to := publishtest.Planted(t, "v3-signed"), publishtest.EmptyMirror(t)
	for name := range maps.Clone(from.Snapshot()) {
		if _, ok := layout.ParseV3Key(name); ok {
			from.Plant(name, []byte("{}"))
		}
	}
	p := mustCopy(t, from, to, closureOf(t, "zlib"))
	if len(p.Findings) == 0 || !strings.Contains(p.Findings[0].Reason, "this key is not copied") {
		t.Errorf("%+v", p.Findings)
	}
	for name := range to.Snapshot() {
		if _, ok := layout.ParseV3Key(name); ok {
			t.Errorf("%s is there", name)
		}
	}
}

// copyScene is a copy that is worth disturbing: see scene.
func copyScene(t testing.TB, l string) (from, to *mirrortest.Mem, c elsewhere.Closure) {
	t.Helper()
	to, _, _ = publishtest.Scene(t, l)
	return publishtest.Planted(t, l+"-signed"), to, closureOf(t, "zlib", "openssl")
}

// Whatever fails at whatever call of either side: a client finds a mirror that works, at every moment and afterwards, and the
// next run ends where an undisturbed one does.
func TestEveryFaultAtEveryCallOfACopy(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		from, to, c := copyScene(t, l)
		bf, bt := mirrortest.Break(from), mirrortest.Break(to)
		mustCopy(t, bf, bt, c)
		reads, calls, changes := len(bf.Calls()), len(bt.Calls()), len(bt.Mutations())
		want := publishtest.Settled(t, to.Snapshot())
		t.Logf("%s: %d calls of the source, %d of the destination, %d of them changes", l, reads, calls, changes)
		for _, row := range []struct {
			name   string
			calls  int
			source bool
			fault  func(k int) mirrortest.Fault
		}{
			{"lost on its way", changes, false, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Drop("")) }},
			{"answer lost", changes, false, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Lie("")) }},
			{"too late", changes, false, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Conflict("")) }},
			{"denied", calls, false, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])) }},
			{"killed", calls, false, mirrortest.Kill},
			{"source denied", reads, true, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])) }},
			{"source gone", reads, true, func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirror.ErrNotExist)) }},
			{"source killed", reads, true, mirrortest.Kill},
		} {
			t.Run(l+" "+row.name, func(t *testing.T) {
				t.Parallel()
				client := publishtest.NewReader()
				for k := 1; k <= row.calls && !t.Failed(); k++ {
					from, to, c := copyScene(t, l)
					bf, bt := mirrortest.Break(from), mirrortest.Break(to, row.fault(k))
					if row.source {
						bf, bt = mirrortest.Break(from, row.fault(k)), mirrortest.Break(to)
					}
					bt.AfterEach(func(call mirrortest.Call) {
						if !call.Op.Mutates() {
							return
						}
						if err := client.Look(to.Snapshot()); err != nil {
							t.Errorf("fault %d, after %s: %v", k, call, err)
						}
					})
					_, out, err := copyTo(t.Context(), bf, bt, c)
					if err := client.Look(to.Snapshot()); err != nil {
						t.Errorf("fault %d, after the run: %v", k, err)
					}
					if err == nil && len(out.Findings) == 0 {
						if diff := mirrortest.Diff(want, publishtest.Settled(t, to.Snapshot())); diff != "" {
							t.Errorf("fault %d: a run that is said to have succeeded:\n%s", k, diff)
						}
					}
					if _, _, err := copyTo(t.Context(), from, to, c); err != nil {
						t.Errorf("fault %d: second run: %v", k, err)
					}
					if diff := mirrortest.Diff(want, publishtest.Settled(t, to.Snapshot())); diff != "" {
						t.Errorf("fault %d, after the second run:\n%s", k, diff)
					}
					to.Forget()
					if _, _, err := copyTo(t.Context(), from, to, c); err != nil || len(to.Mutations()) > 0 {
						t.Errorf("fault %d: third run: %v, %v", k, err, to.Mutations())
					}
				}
			})
		}
	}
}
