package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// filled returns a directory with a queue of some thousand jobs.
func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	q := open(t, dir)
	var all []queue.Job
	for n := range 2000 {
		all = append(all, job("a", n))
	}
	accept(t, q, all...)
	q.Close()
	return dir
}

func TestADamagedDatabaseIsRefusedAndKept(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"cut off":         func(b []byte) []byte { return b[:len(b)/2+100] },
		"zeros inside":    func(b []byte) []byte { clear(b[8192:16384]); return b },
		"not a database":  func([]byte) []byte { return []byte(strings.Repeat("hello ", 5000)) },
		"another program": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t)
			file := filepath.Join(dir, "queue.db")
			if damage == nil {
				q := open(t, dir)
				if err := q.Exec(`PRAGMA application_id = 7`); err != nil {
					t.Fatal(err)
				}
				q.Close()
			} else {
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, damage(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before, _ := os.ReadFile(file)
			_, err := queue.Open(t.Context(), dir)
			if !errors.Is(err, queue.ErrDamaged) || !strings.Contains(err.Error(), dir) {
				t.Errorf("want that it is damaged, got: %v", err)
			}
			if after, _ := os.ReadFile(file); string(after) != string(before) {
				t.Error("the damaged database was changed")
			}
		})
	}
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	if err := q.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	q.Close()
	if _, err := queue.Open(t.Context(), dir); !errors.Is(err, queue.ErrNewer) || !strings.Contains(err.Error(), "99") {
		t.Error(err)
	}
}

func TestADirectoryThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Open(t.Context(), filepath.Join(inTheWay, "state")); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Error(err)
	}
	// Root may write everywhere, except in /proc.
	if _, err := queue.Open(t.Context(), "/proc/self/state"); err == nil {
		t.Error("a queue in /proc")
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := queue.Open(t.Context(), dir); !errors.Is(err, queue.ErrReadOnly) {
			t.Error(err)
		}
	}
}

// On a full disk nothing is acknowledged, and what was acknowledged is there.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir)
	if err := q.Exec(`PRAGMA max_page_count = 40`); err != nil { // SQLite's own word for a full disk
		t.Fatal(err)
	}
	acknowledged := 0
	var err error
	for n := range 10000 {
		if _, err = q.Accept(context.Background(), job("a", n)); err != nil {
			break
		}
		acknowledged++
	}
	if !errors.Is(err, queue.ErrFull) {
		t.Fatalf("after %d: %v", acknowledged, err)
	}
	if _, err := q.Accept(context.Background(), job("a", 1)); err != nil {
		t.Errorf("what is known already needs no room: %v", err)
	}
	if err := q.Exec(`PRAGMA max_page_count = 4000`); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Accept(context.Background(), job("a", 10001)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	q.Close()
	counts, err := open(t, dir).Count(t.Context())
	if err != nil || counts["a"][queue.Accepted].Jobs != acknowledged+1 {
		t.Errorf("%d acknowledged, there are %v, %v", acknowledged+1, counts, err)
	}
}
