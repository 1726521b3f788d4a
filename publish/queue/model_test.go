package queue_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// The queue does what a map would do, and what it did outlives closing it.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "queue-model-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &model{dir: dir, jobs: map[int64]*queue.Job{}, owed: map[int64]queue.Duty{}}
		m.open(t)
		defer func() { m.q.Close() }()
		t.Repeat(rapid.StateMachineActions(m))
	})
}

type model struct {
	dir  string
	q    *queue.Queue
	jobs map[int64]*queue.Job
	owed map[int64]queue.Duty
}

var background = context.Background()

func (m *model) open(t *rapid.T) {
	q, err := queue.Open(background, m.dir)
	if err != nil {
		t.Fatal(err)
	}
	m.q = q
}

var mirrors = rapid.SampledFrom([]string{"a", "b"})

func (m *model) known(mirror, digest string) *queue.Job {
	for _, j := range m.jobs {
		if j.Mirror == mirror && j.Digest == digest {
			return j
		}
	}
	return nil
}

func (m *model) Accept(t *rapid.T) {
	var want []queue.Job
	mirror := mirrors.Draw(t, "mirror")
	for _, n := range rapid.SliceOfN(rapid.IntRange(0, 9), 1, 4).Draw(t, "jobs") {
		want = append(want, job(mirror, n))
	}
	got, err := m.q.Accept(background, want...)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range got {
		known := m.known(mirror, want[i].Digest)
		switch {
		case known == nil:
			j.State = queue.Accepted
			m.jobs[j.ID] = &j
		case known.ID != j.ID:
			t.Fatalf("%s became job %d, it was %d", j.Digest, j.ID, known.ID)
		case known.State == queue.Cancelled:
			known.State, known.Together, known.Obligation = queue.Accepted, 0, 0
		}
	}
}

func (m *model) Claim(t *rapid.T) {
	mirror, limit := mirrors.Draw(t, "mirror"), rapid.IntRange(0, 4).Draw(t, "limit")
	to, from := queue.Checking, queue.Accepted
	if rapid.Bool().Draw(t, "publish") {
		to, from = queue.Publishing, queue.Ready
	}
	claimed, err := m.q.Claim(background, mirror, to, queue.Limits{Jobs: limit})
	if err != nil {
		t.Fatal(err)
	}
	var due []*queue.Job
	for _, j := range m.jobs {
		if j.Mirror == mirror && j.State == from {
			due = append(due, j)
		}
	}
	if limit > 0 && len(claimed) > limit || len(claimed) == 0 != (len(due) == 0) {
		t.Fatalf("claimed %d of %d, at most %d", len(claimed), len(due), limit)
	}
	for _, j := range claimed {
		known := m.jobs[j.ID]
		if !slices.Contains(due, known) {
			t.Fatalf("claimed job %d, which is %s", j.ID, known.State)
		}
		if known.Together != claimed[0].Together || known.Together > 0 && len(claimed) > known.Together {
			t.Fatalf("job %d may go together with %d others, claimed %d", j.ID, known.Together, len(claimed))
		}
		known.State = to
	}
}

// Change asks for any step at all; the table of the steps that there are is repeated here.
func (m *model) Change(t *rapid.T) {
	if len(m.jobs) == 0 {
		t.Skip("no jobs")
	}
	legal := map[queue.State]string{
		queue.Accepted:   "checking cancelled",
		queue.Checking:   "accepted ready failed cancelled",
		queue.Ready:      "publishing cancelled",
		queue.Publishing: "accepted ready published failed cancelled",
	}
	states := rapid.SampledFrom(queue.States)
	from, to := states.Draw(t, "from"), states.Draw(t, "to")
	ids := rapid.SliceOfNDistinct(rapid.Int64Range(1, int64(len(m.jobs))), 1, 3, rapid.ID).Draw(t, "ids")
	together := rapid.IntRange(0, 3).Draw(t, "together")
	ok := slices.Contains(strings.Fields(legal[from]), string(to))
	var changes []queue.Change
	for _, id := range ids {
		changes = append(changes, queue.Change{ID: id, To: to, Together: together})
		ok = ok && m.jobs[id].State == from
	}
	err := m.q.Change(background, from, changes...)
	if ok != (err == nil) || err != nil && !errors.Is(err, queue.ErrState) {
		t.Fatalf("jobs %v from %s to %s: %v", ids, from, to, err)
	}
	for _, id := range ids {
		if ok {
			m.jobs[id].State, m.jobs[id].Together = to, together
		}
	}
}

// Finish ends a whole run.
func (m *model) Finish(t *rapid.T) {
	mirror := mirrors.Draw(t, "mirror")
	var ids []int64
	for id, j := range m.jobs {
		if j.Mirror == mirror && j.State == queue.Publishing {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		t.Skip("nothing is being published")
	}
	o, err := m.q.Intend(background, mirror, []byte("intended"), ids...)
	if err != nil {
		t.Fatal(err)
	}
	m.owed[o] = queue.Intended
	for _, id := range ids {
		m.jobs[id].Obligation = o
	}
	if rapid.Bool().Draw(t, "die") {
		m.Reopen(t)
		return
	}
	var content []byte
	m.owed[o] = queue.Met
	if rapid.Bool().Draw(t, "owes") {
		content, m.owed[o] = []byte("due"), queue.Due
	}
	var changes []queue.Change
	for _, id := range ids {
		to := rapid.SampledFrom([]queue.State{queue.Published, queue.Failed, queue.Ready}).Draw(t, "to")
		changes = append(changes, queue.Change{ID: id, To: to})
		m.jobs[id].State, m.jobs[id].Together = to, 0
	}
	if err := m.q.Finish(background, o, content, changes...); err != nil {
		t.Fatal(err)
	}
}

func (m *model) Meet(t *rapid.T) {
	owed, err := m.q.DueObligations(background, mirrors.Draw(t, "mirror"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range owed {
		if m.owed[o.ID] != queue.Due {
			t.Fatalf("obligation %d is owed, and %s", o.ID, m.owed[o.ID])
		}
		if err := m.q.Meet(background, o.ID); err != nil {
			t.Fatal(err)
		}
		m.owed[o.ID] = queue.Met
	}
}

func (m *model) Retry(t *rapid.T) {
	n, err := m.q.Retry(background)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range m.jobs {
		if j.State == queue.Failed {
			j.State, j.Together, j.Obligation = queue.Accepted, 0, 0
			n--
		}
	}
	if n != 0 {
		t.Fatalf("%d more were begun anew than had failed", n)
	}
}

// Reopen is what is left of a process that died.
func (m *model) Reopen(t *rapid.T) {
	m.q.Close()
	m.open(t)
	running := map[string]int{}
	for _, j := range m.jobs {
		if j.State == queue.Publishing {
			running[j.Mirror]++
		}
	}
	for _, j := range m.jobs {
		switch j.State {
		case queue.Checking:
			j.State = queue.Accepted
		case queue.Publishing:
			j.State, j.Together = queue.Ready, max(1, running[j.Mirror]/2)
		}
	}
	for id, state := range m.owed {
		if state == queue.Intended {
			m.owed[id] = queue.Due
		}
	}
}

// Check runs after every action.
func (m *model) Check(t *rapid.T) {
	all, err := m.q.Jobs(background, queue.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(m.jobs) {
		t.Fatalf("%d jobs, want %d", len(all), len(m.jobs))
	}
	for _, j := range all {
		want := m.jobs[j.ID]
		if j.State != want.State || j.Together != want.Together || j.Obligation != want.Obligation {
			t.Fatalf("job %+v, want %+v", j, *want)
		}
	}
	for id, want := range m.owed {
		if o, err := m.q.Obligation(background, id); err != nil || o.State != want {
			t.Fatalf("obligation %+v, %v, want %s", o, err, want)
		}
	}
	m.checkCounts(t)
}

func (m *model) checkCounts(t *rapid.T) {
	want := map[string]int{}
	for _, j := range m.jobs {
		want[j.Mirror+" "+string(j.State)]++
	}
	counts, err := m.q.Count(background)
	if err != nil {
		t.Fatal(err)
	}
	for mirror, states := range counts {
		for state, n := range states {
			want[mirror+" "+string(state)] -= n.Jobs
		}
	}
	for what, n := range want {
		if n != 0 {
			t.Fatalf("%s: %d too few counted", what, n)
		}
	}
}
