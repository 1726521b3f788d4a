package queue_test

import (
	"errors"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// Jobs are numbered from 1 on without gaps, whatever was accepted twice, was undone or came before a restart.
func TestNumbersOfJobsAreUnbroken(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	accept(t, q, job("a", 1), job("a", 2), job("a", 1))
	accept(t, q, job("a", 2))
	claim(t, q, "a", queue.Checking, queue.Limits{})
	if err := q.Change(t.Context(), queue.Checking, queue.Change{ID: 99, To: queue.Ready}); !errors.Is(err, queue.ErrState) {
		t.Fatal(err)
	}
	if _, err := q.Intend(t.Context(), "a", []byte("x"), 1); err != nil {
		t.Fatal(err)
	}
	if known := accept(t, q, job("b", 3), job("a", 4)); known[0].ID != 3 || known[1].ID != 4 {
		t.Errorf("%+v", known)
	}
	q.Close()
	if known := accept(t, open(t, dir), job("b", 5), job("a", 1)); known[0].ID != 5 || known[1].ID != 1 {
		t.Errorf("after a restart %+v", known)
	}
}

// What is noted of a mirror is there after a restart, is replaced, and goes with the mirror.
func TestNotes(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	if got, err := q.Noted(t.Context(), "a"); got != nil || err != nil {
		t.Errorf("nothing was noted: %q, %v", got, err)
	}
	accept(t, q, job("a", 1))
	for _, text := range []string{"first", "second"} {
		if err := q.Note(t.Context(), "a", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	q.Close()
	q = open(t, dir)
	if got, err := q.Noted(t.Context(), "a"); string(got) != "second" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := q.Drop(t.Context(), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Noted(t.Context(), "a"); got != nil || err != nil {
		t.Errorf("after it was dropped: %q, %v", got, err)
	}
}
