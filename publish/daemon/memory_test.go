package daemon_test

import (
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
)

// What is not complete is shown with its reason as soon as it was looked at, and is stuck only later.
func TestReasonsOfIncompletePackagesAreShownAtOnce(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.put("spec/a", parcel{bytes: 10, state: errHalf})
		y.put("spec/b", parcel{broken: errHalf})
		m := y.mirror("noble")
		m.Stuck = time.Hour
		d := begin(t, t.TempDir(), m)
		time.Sleep(5 * time.Second)
		look := func() daemon.Status {
			s, err := d.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := look()
		if len(s.Stuck) != 0 || len(s.Incomplete) != 2 {
			t.Fatalf("incomplete %+v, stuck %+v", s.Incomplete, s.Stuck)
		}
		for _, p := range s.Incomplete {
			if p.Reason != errHalf.Error() {
				t.Errorf("%+v", p)
			}
		}
		time.Sleep(time.Hour)
		if s = look(); len(s.Stuck) != 2 || len(s.Incomplete) != 0 {
			t.Errorf("an hour later: incomplete %+v, stuck %+v", s.Incomplete, s.Stuck)
		}
		y.put("spec/a", parcel{bytes: 10})
		y.remove("spec/b")
		time.Sleep(5 * time.Minute)
		if s = look(); len(s.Stuck)+len(s.Incomplete) != 0 {
			t.Errorf("mended: incomplete %+v, stuck %+v", s.Incomplete, s.Stuck)
		}
	})
}

// When and what was published last, and how large the index is, is known after a restart.
func TestTheLastPublishSurvivesARestart(t *testing.T) {
	timed(t, func(t *testing.T) {
		y := newFakeWork(t)
		y.put("spec/a", parcel{bytes: 10})
		dir := t.TempDir()
		mirrorOf := func(d *running) daemon.MirrorStatus {
			s, err := d.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s.Mirrors[0]
		}
		d := begin(t, dir, y.mirror("noble"))
		time.Sleep(time.Minute)
		before := mirrorOf(d)
		d.stop()
		if before.Published == nil || len(before.Indices) == 0 {
			t.Fatalf("nothing was published: %+v", before)
		}
		time.Sleep(time.Hour)
		d = begin(t, dir, y.mirror("noble"))
		time.Sleep(time.Minute)
		after := mirrorOf(d)
		if after.Published == nil || !after.Published.Equal(*before.Published) || after.Last == nil || after.Last.Packages != before.Last.Packages {
			t.Errorf("published %v, before the restart %v; last run %+v, %+v", after.Published, before.Published, after.Last, before.Last)
		}
		if len(after.Indices) != len(before.Indices) || after.Indices[0] != before.Indices[0] {
			t.Errorf("indices %+v, before the restart %+v", after.Indices, before.Indices)
		}
	})
}
