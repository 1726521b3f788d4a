package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("QUEUE_TEST_VICTIM"); dir != "" {
		victim(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// job is one that differs from others by its number.
func job(mirror string, n int) queue.Job {
	return queue.Job{Mirror: mirror, File: fmt.Sprintf("v3/manifests/spec/zlib/%d", n), Digest: fmt.Sprint(n), Package: fmt.Sprintf("zlib@%d", n), Bytes: int64(n)}
}

func accept(t testing.TB, q *queue.Queue, jobs ...queue.Job) []queue.Job {
	t.Helper()
	known, err := q.Accept(context.Background(), jobs...)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

func claim(t testing.TB, q *queue.Queue, mirror string, to queue.State, l queue.Limits) []queue.Job {
	t.Helper()
	jobs, err := q.Claim(context.Background(), mirror, to, l)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func change(t testing.TB, q *queue.Queue, from queue.State, changes ...queue.Change) {
	t.Helper()
	if err := q.Change(context.Background(), from, changes...); err != nil {
		t.Fatal(err)
	}
}

// ready brings jobs to where runs claim them.
func ready(t testing.TB, q *queue.Queue, jobs ...queue.Job) []queue.Job {
	t.Helper()
	known := accept(t, q, jobs...)
	for _, j := range known {
		claim(t, q, j.Mirror, queue.Checking, queue.Limits{})
		change(t, q, queue.Checking, queue.Change{ID: j.ID, To: queue.Ready})
	}
	return known
}

func state(t testing.TB, q *queue.Queue, id int64) queue.Job {
	t.Helper()
	j, err := q.Job(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func numbers(jobs []queue.Job) string {
	var all []string
	for _, j := range jobs {
		all = append(all, j.Digest)
	}
	return fmt.Sprint(all)
}

func TestAcceptingTwiceIsAcceptingOnce(t *testing.T) {
	q := open(t, t.TempDir())
	first := accept(t, q, job("a", 1), job("b", 1))
	again := accept(t, q, job("a", 1), job("a", 1))
	if !first[0].New || again[0].New {
		t.Errorf("new: %v, then %v", first[0].New, again[0].New)
	}
	if again[0].ID != first[0].ID || again[1].ID != first[0].ID || first[0].ID == first[1].ID {
		t.Errorf("ids %v, then %v", first, again)
	}
	claim(t, q, "a", queue.Checking, queue.Limits{})
	change(t, q, queue.Checking, queue.Change{ID: first[0].ID, To: queue.Failed, Reason: "bad"})
	if j := accept(t, q, job("a", 1))[0]; j.State != queue.Failed || j.Reason != "bad" {
		t.Errorf("what failed is %s when it is accepted again", j.State)
	}
	if n, err := q.Retry(t.Context()); n != 1 || err != nil {
		t.Errorf("retry %d, %v", n, err)
	}
	if j := state(t, q, first[0].ID); j.State != queue.Accepted || j.Reason != "" {
		t.Errorf("after retry: %+v", j)
	}
	claim(t, q, "a", queue.Checking, queue.Limits{})
	change(t, q, queue.Checking, queue.Change{ID: first[0].ID, To: queue.Cancelled, Reason: "gone"})
	if j := accept(t, q, job("a", 1))[0]; j.State != queue.Accepted || j.Reason != "" {
		t.Errorf("what was cancelled is %+v when it is accepted again", j)
	}
}

func TestStepsThatDoNotExistAreRefused(t *testing.T) {
	q := open(t, t.TempDir())
	id := accept(t, q, job("a", 1))[0].ID
	for _, from := range queue.States {
		for _, to := range queue.States {
			err := q.Change(t.Context(), from, queue.Change{ID: id, To: to})
			if from == queue.Accepted && (to == queue.Checking || to == queue.Cancelled) {
				continue
			}
			if !errors.Is(err, queue.ErrState) && from != queue.Checking {
				t.Errorf("from %s to %s: %v", from, to, err)
			}
		}
	}
	if _, err := q.Claim(t.Context(), "a", queue.Failed, queue.Limits{}); !errors.Is(err, queue.ErrState) {
		t.Errorf("claim for failing: %v", err)
	}
	if _, err := q.Job(t.Context(), 99); !errors.Is(err, queue.ErrNoJob) {
		t.Error(err)
	}
}

// Of several changes that belong together all are made, or none.
func TestChangesAreMadeTogether(t *testing.T) {
	q := open(t, t.TempDir())
	jobs := ready(t, q, job("a", 1), job("a", 2))
	claim(t, q, "a", queue.Publishing, queue.Limits{})
	obligation, err := q.Intend(t.Context(), "a", []byte("forget"), jobs[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	err = q.Finish(t.Context(), obligation, []byte("forget"), queue.Change{ID: jobs[0].ID, To: queue.Published}, queue.Change{ID: 77, To: queue.Published})
	if !errors.Is(err, queue.ErrState) {
		t.Error(err)
	}
	if j := state(t, q, jobs[0].ID); j.State != queue.Publishing {
		t.Errorf("half of a change was made: %+v", j)
	}
	if owed, _ := q.DueObligations(t.Context(), "a"); len(owed) != 0 {
		t.Errorf("owed %v", owed)
	}
}

func TestClaims(t *testing.T) {
	q := open(t, t.TempDir())
	ready(t, q, job("a", 10), job("a", 20), job("a", 30), job("a", 40), job("b", 50))
	for _, c := range []struct {
		limits queue.Limits
		want   string
	}{
		{queue.Limits{Jobs: 1}, "[10]"},
		{queue.Limits{Bytes: 5}, "[20]"}, // one is always claimed
		{queue.Limits{Smallest: 35}, "[40]"},
		{queue.Limits{Largest: 25}, "[]"},
		{queue.Limits{}, "[30]"},
		{queue.Limits{}, "[]"},
	} {
		if got := numbers(claim(t, q, "a", queue.Publishing, c.limits)); got != c.want {
			t.Errorf("%+v claims %s, want %s", c.limits, got, c.want)
		}
	}
}

// What failed together is tried in halves and after all that did not, until what is
// to blame is alone.
func TestBlameIsFoundInHalves(t *testing.T) {
	q := open(t, t.TempDir())
	var all []queue.Job
	for n := range 8 {
		all = append(all, job("a", n+1))
	}
	ready(t, q, all...)
	runs, published := 0, 0
	for ; published < 7; runs++ {
		claimed := claim(t, q, "a", queue.Publishing, queue.Limits{})
		var changes []queue.Change
		bad := false
		for _, j := range claimed {
			bad = bad || j.Digest == "3"
		}
		for _, j := range claimed {
			c := queue.Change{ID: j.ID, To: queue.Published}
			if bad {
				c = queue.Change{ID: j.ID, To: queue.Ready, Together: max(1, len(claimed)/2)}
				if len(claimed) == 1 {
					c.NextAt = time.Now().Add(time.Hour)
				}
			} else {
				published++
			}
			changes = append(changes, c)
		}
		change(t, q, queue.Publishing, changes...)
		if runs == 0 {
			ready(t, q, job("a", 99))
			if next := claim(t, q, "a", queue.Publishing, queue.Limits{}); numbers(next) != "[99]" {
				t.Errorf("after a failure the others wait behind %s", numbers(next))
			}
		}
	}
	if runs > 8 {
		t.Errorf("%d runs until all but the bad one are published", runs)
	}
}

func TestWhatIsNotDueIsNotClaimed(t *testing.T) {
	q := open(t, t.TempDir())
	jobs := ready(t, q, job("a", 1), job("a", 2))
	claim(t, q, "a", queue.Publishing, queue.Limits{})
	soon := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	change(t, q, queue.Publishing,
		queue.Change{ID: jobs[0].ID, To: queue.Ready, NextAt: soon, Attempts: 3},
		queue.Change{ID: jobs[1].ID, To: queue.Ready, NextAt: time.Now().AddDate(10, 0, 0)}) // and then the clock was set back
	if got := claim(t, q, "a", queue.Publishing, queue.Limits{}); len(got) != 0 {
		t.Errorf("claimed %s", numbers(got))
	}
	if err := q.ClockSetBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, q, "a", queue.Publishing, queue.Limits{}); numbers(got) != "[2]" {
		t.Errorf("claimed %s", numbers(got))
	}
	w, err := q.Waiting(t.Context(), "a", queue.Ready, queue.Limits{})
	if err != nil || w.Due != 0 || !w.NextAt.Equal(soon) {
		t.Errorf("%+v, %v", w, err)
	}
	if err := q.Hurry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := claim(t, q, "a", queue.Publishing, queue.Limits{}); numbers(got) != "[1]" {
		t.Errorf("claimed %s", numbers(got))
	}
}

func TestObligationsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	id := ready(t, q, job("a", 1))[0].ID
	claim(t, q, "a", queue.Publishing, queue.Limits{})
	if _, err := q.Intend(t.Context(), "a", []byte("forget"), id); err != nil {
		t.Fatal(err)
	}
	q.Close()
	q = open(t, dir)
	if j := state(t, q, id); j.State != queue.Ready || j.Together != 1 {
		t.Errorf("what was being published is %+v", j)
	}
	owed, err := q.DueObligations(t.Context(), "a")
	if err != nil || len(owed) != 1 || string(owed[0].Content) != "forget" {
		t.Fatalf("owed %v, %v", owed, err)
	}
	if err := q.Defer(t.Context(), time.Now().Add(time.Hour), "throttled", owed[0].ID); err != nil {
		t.Fatal(err)
	}
	if owed, _ := q.DueObligations(t.Context(), "a"); len(owed) != 0 {
		t.Errorf("owed before its time: %v", owed)
	}
	if all, _ := q.Obligations(t.Context()); len(all) != 1 || all[0].Reason != "throttled" || all[0].Tries != 1 {
		t.Errorf("%+v", all)
	}
	if err := q.Meet(t.Context(), owed[0].ID); err != nil {
		t.Fatal(err)
	}
	if all, _ := q.Obligations(t.Context()); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	if o, err := q.Obligation(t.Context(), owed[0].ID); err != nil || o.State != queue.Met {
		t.Errorf("%+v, %v", o, err)
	}
	if at, err := q.LastMet(t.Context(), "a"); err != nil || at.IsZero() {
		t.Error(at, err)
	}
}

func TestFinishingWithoutAnythingOwed(t *testing.T) {
	q := open(t, t.TempDir())
	id := ready(t, q, job("a", 1))[0].ID
	claim(t, q, "a", queue.Publishing, queue.Limits{})
	o, err := q.Intend(t.Context(), "a", []byte("forget"), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Finish(t.Context(), o, nil, queue.Change{ID: id, To: queue.Published}); err != nil {
		t.Fatal(err)
	}
	if all, err := q.Obligations(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
	if j := state(t, q, id); j.State != queue.Published || j.Obligation != o {
		t.Errorf("%+v", j)
	}
}

// After a run that failed, what was intended may have come to pass.
func TestFinishingWhatMayHaveHappened(t *testing.T) {
	for content, want := range map[string]string{"": "intended", "done": "done"} {
		q := open(t, t.TempDir())
		id := ready(t, q, job("a", 1))[0].ID
		claim(t, q, "a", queue.Publishing, queue.Limits{})
		o, err := q.Intend(t.Context(), "a", []byte("intended"), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Finish(t.Context(), o, []byte(content), queue.Change{ID: id, To: queue.Ready}); err != nil {
			t.Fatal(err)
		}
		if owed, err := q.DueObligations(t.Context(), "a"); err != nil || len(owed) != 1 || string(owed[0].Content) != want {
			t.Errorf("%q: %v, %v", content, owed, err)
		}
	}
}

func TestCountsAndForgetting(t *testing.T) {
	q := open(t, t.TempDir())
	jobs := ready(t, q, job("a", 1), job("a", 2), job("a", 3))
	claim(t, q, "a", queue.Publishing, queue.Limits{Jobs: 2})
	change(t, q, queue.Publishing, queue.Change{ID: jobs[0].ID, To: queue.Published}, queue.Change{ID: jobs[1].ID, To: queue.Failed, Reason: "bad"})
	counts, err := q.Count(t.Context())
	if err != nil || counts["a"][queue.Published].Jobs != 1 || counts["a"][queue.Failed].Jobs != 1 || counts["a"][queue.Ready].Bytes != 3 {
		t.Errorf("%v, %v", counts, err)
	}
	later := time.Now().Add(time.Second)
	n, err := q.Forget(t.Context(), later, func(j queue.Job) bool { return j.Digest == "2" })
	if n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	left, err := q.Jobs(t.Context(), queue.Filter{Newest: true})
	if err != nil || numbers(left) != "[2 3]" && numbers(left) != "[3 2]" {
		t.Errorf("left %s, %v", numbers(left), err)
	}
}

// While one commit is on its way, others gather for the next one.
func TestCommitsAreShared(t *testing.T) {
	q := open(t, t.TempDir())
	const callers, each = 64, 8
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range each {
				if _, err := q.Accept(context.Background(), job("a", c*each+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	counts, err := q.Count(t.Context())
	if err != nil || counts["a"][queue.Accepted].Jobs != callers*each {
		t.Errorf("%v, %v", counts, err)
	}
	q.Close()
	if n := q.Commits(); n > callers*each/4 {
		t.Errorf("%d commits for %d acknowledgements", n, callers*each)
	}
}

// A change that fails undoes itself, and nothing of those that share its commit.
func TestFailuresAreAlone(t *testing.T) {
	q := open(t, t.TempDir())
	id := accept(t, q, job("a", 1))[0].ID
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			if n%2 == 0 {
				if _, err := q.Accept(context.Background(), job("a", n+10)); err != nil {
					t.Error(err)
				}
			} else if err := q.Change(context.Background(), queue.Ready, queue.Change{ID: id, To: queue.Cancelled}); !errors.Is(err, queue.ErrState) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if counts, _ := q.Count(t.Context()); counts["a"][queue.Accepted].Jobs != 101 {
		t.Errorf("%v", counts)
	}
}

func TestClosed(t *testing.T) {
	q := open(t, t.TempDir())
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Accept(t.Context(), job("a", 1)); !errors.Is(err, queue.ErrClosed) {
		t.Error(err)
	}
	if err := q.Close(); err != nil {
		t.Error("a second time:", err)
	}
}

func TestOneProcessOnly(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	if _, err := queue.Open(t.Context(), dir); !errors.Is(err, queue.ErrInUse) {
		t.Error(err)
	}
	q.Close()
	open(t, dir)
}

func TestNameOfTheDirectory(t *testing.T) {
	open(t, filepath.Join(t.TempDir(), "a?b=c#d %41", "new"))
}

// Without it, what was acknowledged may be lost with the power.
func TestCommitsReachTheDisk(t *testing.T) {
	q := open(t, t.TempDir())
	const full = 2
	if n, err := q.Number(`PRAGMA synchronous`); n != full || err != nil {
		t.Errorf("synchronous is %d, %v", n, err)
	}
	if n, err := q.Number(`SELECT journal_mode = 'wal' FROM pragma_journal_mode`); n != 1 || err != nil {
		t.Errorf("the journal is no WAL: %v", err)
	}
}
