package prune

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// littered is an old mirror of both layouts with everything in it that a prune deletes.
func littered(t testing.TB) *mirrortest.Mem {
	t.Helper()
	m := publishtest.Planted(t, "v3-signed", "v2-signed")
	plantOrphan(m, "orphan")
	m.Plant(".publishers/v3/none/lead", []byte("{}"))
	m.Plant(".spack-prune-marker-1", nil)
	if err := m.Abandon(t.Context(), "blobs/sha256/aa/upload"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * day)
	return m
}

func thorough() Options {
	o := careful(Keep{Hashes: hashes("zlib"), Views: true})
	o.AllowEmpty = true // of layout v2
	return o
}

// A prune that fails at any call, whatever has become of the call, leaves a mirror that works, and the next prune comes to the
// same as one that nothing disturbed.
func TestPruneFailsAtEveryCall(t *testing.T) {
	var want map[string][]byte
	calls, changes := 0, 0
	synctest.Test(t, func(t *testing.T) {
		m := littered(t)
		b := mirrortest.Break(m)
		p := mustPlan(t, b, thorough())
		if _, err := p.Apply(t.Context(), b, b, silent{}); err != nil {
			t.Fatal(err)
		}
		want, calls, changes = m.Snapshot(), len(b.Calls()), len(b.Mutations())
	})
	if calls < 50 {
		t.Fatalf("%d calls", calls)
	}
	step := 1
	if testing.Short() {
		step = 9
	}
	for what, fault := range map[string]struct {
		make func(int) mirrortest.Fault
		n    int
	}{
		"is refused":               {func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirror.ErrFull)) }, calls},
		"is the last":              {mirrortest.Kill, calls},
		"is lost":                  {func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Drop("")) }, changes},
		"is done and not answered": {func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Lie("")) }, changes},
		"comes too late":           {func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Conflict("")) }, changes},
	} {
		t.Run(what, func(t *testing.T) {
			for k := 1; k <= fault.n; k += step {
				synctest.Test(t, func(t *testing.T) {
					m := littered(t)
					client := publishtest.NewReader()
					b := mirrortest.Break(m, fault.make(k))
					b.AfterEach(func(c mirrortest.Call) {
						if !c.Op.Mutates() {
							return
						}
						if err := client.Look(m.Snapshot()); err != nil {
							t.Errorf("call %d, after %v: %v", k, c, err)
						}
					})
					p, err := New(t.Context(), b, thorough())
					if err == nil {
						_, err = p.Apply(t.Context(), b, b, silent{})
					}
					time.Sleep(notice.Alive + time.Minute)
					mustPrune(t, m, thorough())
					got := m.Snapshot()
					if diff := cmp.Diff(withoutIndices(want), withoutIndices(got)); diff != "" {
						t.Errorf("call %d, %v (-undisturbed +repeated):\n%s", k, err, diff)
					}
					for _, l := range []string{"v3", "v2"} {
						if diff := cmp.Diff(publishtest.IndexOf(t, want, l), publishtest.IndexOf(t, got, l)); diff != "" {
							t.Errorf("call %d, %v, %s index (-undisturbed +repeated):\n%s", k, err, l, diff)
						}
					}
				})
				if t.Failed() {
					return
				}
			}
		})
	}
}

// withoutIndices are the names of objects, but for indices and records of them: each switch makes another one.
func withoutIndices(s map[string][]byte) []string {
	var names []string
	for name, content := range s {
		if !strings.HasPrefix(name, ".history/") && !bytes.HasPrefix(content, []byte(`{"database"`)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A prune that is interrupted while it waits takes its notice back.
func TestAnInterruptedWaitLeavesNoNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if _, err := mustPlan(t, m, careful(Keep{Hashes: hashes("zlib")})).Apply(ctx, m, m, silent{}); err == nil {
			t.Fatal("it was not interrupted")
		}
		for name := range m.Snapshot() {
			if strings.HasPrefix(name, notice.Dir) {
				t.Errorf("%s is left", name)
			}
		}
		mustPrune(t, m, careful(Keep{Hashes: hashes("zlib")}))
		wantWhole(t, m)
	})
}

// Two prunes do not work at the same time, and the notice of one that died is replaced.
func TestOnePruneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		o := careful(Keep{Hashes: hashes("zlib")})
		first, second := mustPlan(t, m, o), mustPlan(t, m, o)
		done := make(chan error, 1)
		go func() {
			_, err := first.Apply(t.Context(), m, m, silent{})
			done <- err
		}()
		time.Sleep(time.Minute)
		if _, err := second.Apply(t.Context(), m, m, silent{}); err == nil || !strings.Contains(fmt.Sprint(err), "at work") {
			t.Errorf("%v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantWhole(t, m)
	})
}

// A host that sleeps for longer than its notice lives deletes nothing more.
func TestAPrunerThatSleptStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		o := careful(Keep{Hashes: hashes("zlib")})
		documents := len(packagesOf(m.Snapshot()))
		b := mirrortest.Break(m)
		slept := false
		b.AfterEach(func(c mirrortest.Call) {
			if c.Op == mirrortest.Delete && strings.HasPrefix(c.Name, "v3/") && !slept {
				slept = true
				time.Sleep(time.Hour)
			}
		})
		_, err := mustPlan(t, b, o).Apply(t.Context(), b, b, silent{})
		if err == nil || !slept {
			t.Errorf("slept %t, %v", slept, err)
		}
		if gone := documents - len(packagesOf(m.Snapshot())); gone != 1 {
			t.Errorf("it deleted %d documents", gone)
		}
	})
}

// A host whose clock is wrong cannot tell what is old.
func TestAWrongClockStopsAPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		o := careful(Keep{Hashes: hashes("zlib")})
		b := skewed{m, -20 * time.Minute}
		p, err := New(t.Context(), b, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = p.Apply(t.Context(), b, m, silent{}); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("%v", err)
		}
	})
}

// skewed is a mirror whose clock differs from that of the host.
type skewed struct {
	*mirrortest.Mem
	by time.Duration
}

func (s skewed) Stat(ctx context.Context, name string) (mirror.Info, error) {
	info, err := s.Mem.Stat(ctx, name)
	info.Modified = info.Modified.Add(s.by)
	return info, err
}

// A prune whose notice could not be renewed for so long that publishers may take it for dead deletes nothing more, also if the
// renewal succeeds at last.
func TestAPruneThatRenewsTooLateStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		documents := len(packagesOf(m.Snapshot()))
		late := &lateRenewal{Mem: m}
		_, err := mustPlan(t, late, careful(Keep{Hashes: hashes("zlib")})).Apply(t.Context(), late, late, silent{})
		if err == nil || !strings.Contains(err.Error(), "start again") {
			t.Errorf("%v", err)
		}
		if n := len(packagesOf(m.Snapshot())); n != documents {
			t.Errorf("%d of %d documents are left", n, documents)
		}
	})
}

// lateRenewal is a mirror that takes long to store a notice once the grace period is over.
type lateRenewal struct{ *mirrortest.Mem }

func (l *lateRenewal) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	if u.Name == notice.Name && was != mirror.Absent {
		time.Sleep(notice.Alive + time.Minute)
	}
	return l.Mem.Swap(ctx, u, was)
}
