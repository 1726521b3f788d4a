package mirrortest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Misbehaving is a Store whose storage can be made to answer wrongly: with an incomplete answer, with an error
// that looks like a success, or without an end.
type Misbehaving interface {
	Store
	// Ways are the wrong answers that the storage can give to the requests of an act.
	Ways(Op) []string
	// Misbehave makes the storage answer the n-th request from now on (from 1; 0 for each) in one of its ways. The
	// empty way repairs it. It returns the number of requests since its previous call.
	Misbehave(way string, nth int) (requests int)
}

// patience is how long an act may take, however the storage answers and however busy the machine is.
const patience = 2 * time.Minute

// RunMisbehaving checks that a mirror accepts only complete answers. Whatever is answered wrongly, once or always,
// reading returns the object or an error, listing returns every name or an error, and writing succeeds only if the
// object exists. Every act ends, and succeeds when repeated after the storage is repaired. open returns an empty
// mirror.
func RunMisbehaving(t *testing.T, open func(t *testing.T) Misbehaving) {
	for _, act := range []struct {
		name string
		op   Op
		run  func(t *testing.T, m Misbehaving, broken bool) error
	}{
		{"create small", Create, creating(noise(3, 3000))},
		{"create large", Create, creating(noise(4, largeSize))},
		{"swap", Swap, swapping},
		{"read", Open, reading},
		{"stat", Stat, looking},
		{"list", List, listing},
	} {
		t.Run(act.name, func(t *testing.T) {
			m := open(t)
			furnish(t, m)
			m.Misbehave("", 0)
			if err := act.run(t, m, false); err != nil {
				t.Fatalf("undisturbed: %v", err)
			}
			requests := m.Misbehave("", 0)
			for _, way := range m.Ways(act.op) {
				for nth := range requests + 1 {
					t.Run(fmt.Sprintf("%s/%d", way, nth), func(t *testing.T) {
						t.Parallel()
						m := open(t)
						furnish(t, m)
						m.Misbehave(way, nth)
						if err := act.run(t, m, true); errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("it does not end: %v", err)
						}
						m.Misbehave("", 0)
						if err := act.run(t, m, false); err != nil {
							t.Errorf("mended: %v", err)
						}
					})
				}
			}
		})
	}
}

// furnished are the names of the objects that exist before each act.
var furnished = []string{"v3/a", "v3/b", "v3/b c+d%", "v3/c", "v3/d"}

func furnish(t *testing.T, m Store) {
	t.Helper()
	for _, name := range furnished {
		mustCreate(t, m, text(name, "old "+name))
	}
}

// bounded returns a context for one act on storage that may never answer.
func bounded(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), patience)
}

func creating(content []byte) func(*testing.T, Misbehaving, bool) error {
	return func(t *testing.T, m Misbehaving, broken bool) error {
		ctx, cancel := bounded(t)
		defer cancel()
		err := m.Create(ctx, upload("new", content))
		if broken {
			m.Misbehave("", 0)
		}
		got, _, unread := mirror.Read(t.Context(), m, "new", largeSize)
		switch {
		case err == nil && unread != nil:
			t.Errorf("create succeeded, and then: %v", unread)
		case unread == nil && !bytes.Equal(got, content):
			t.Errorf("create stored something else, %s", where(content, got))
		}
		return err
	}
}

func swapping(t *testing.T, m Misbehaving, broken bool) error {
	ctx, cancel := bounded(t)
	defer cancel()
	way := "swapped, and mended"
	if broken {
		way = "swapped"
	}
	was, err := m.Stat(ctx, "v3/a")
	if err != nil {
		return err
	}
	is, err := m.Swap(ctx, text("v3/a", way), was.Version)
	if broken {
		m.Misbehave("", 0)
	}
	got, now, unread := mirror.Read(t.Context(), m, "v3/a", 1<<20)
	switch {
	case unread != nil:
		t.Errorf("read after swap: %v", unread)
	case err == nil && (string(got) != way || is != now.Version):
		t.Errorf("swap succeeded with version %q; there is %q with version %q", is, got, now.Version)
	case err != nil && string(got) != way && now.Version != was.Version:
		t.Errorf("swap failed and left %q", got)
	}
	return err
}

func reading(t *testing.T, m Misbehaving, _ bool) error {
	ctx, cancel := bounded(t)
	defer cancel()
	got, info, err := mirror.Read(ctx, m, "v3/b", 1<<20)
	if err == nil && (string(got) != "old v3/b" || info.Version == mirror.Absent) {
		t.Errorf("read %q of version %q", got, info.Version)
	}
	return err
}

func looking(t *testing.T, m Misbehaving, _ bool) error {
	ctx, cancel := bounded(t)
	defer cancel()
	info, err := m.Stat(ctx, "v3/b")
	if err == nil && (info.Size != int64(len("old v3/b")) || info.Version == mirror.Absent) {
		t.Errorf("stat: %+v", info)
	}
	return err
}

func listing(t *testing.T, m Misbehaving, _ bool) error {
	ctx, cancel := bounded(t)
	defer cancel()
	var got []string
	for info, err := range m.List(ctx, mirror.Range{Prefix: "v3/"}) {
		if err != nil {
			return err
		}
		got = append(got, info.Name)
	}
	if !slices.Equal(got, furnished) {
		t.Errorf("listed %q without an error", got)
	}
	return nil
}
