package mirrortest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

func swap(t *testing.T, m Store) {
	const name = "v3/manifests/index/index.manifest.json"
	_, err := m.Swap(t.Context(), text(name, "zero"), "no such version")
	wantError(t, err, mirror.ErrConflict)
	wantAbsent(t, m, name)

	one := mustSwap(t, m, text(name, "one"), mirror.Absent)
	wantVersion(t, m, name, "one", one)
	wantLabels(t, m, name, "application/x-suite", "public, max-age=60")
	_, err = m.Swap(t.Context(), text(name, "two"), mirror.Absent)
	wantError(t, err, mirror.ErrConflict)
	wantVersion(t, m, name, "one", one)

	relabelled := text(name, "two")
	relabelled.Type, relabelled.CacheControl = "application/json", "no-cache"
	two := mustSwap(t, m, relabelled, one)
	wantVersion(t, m, name, "two", two)
	wantLabels(t, m, name, "application/json", "no-cache")
	if two == one {
		t.Errorf("a swap has not changed the version %s", one)
	}
	_, err = m.Swap(t.Context(), text(name, "six"), one) // of the same size
	wantError(t, err, mirror.ErrConflict)
	wantVersion(t, m, name, "two", two)

	// Repeating a swap succeeds, and so does a swap to the same content by another writer.
	for _, was := range []mirror.Version{one, two, mirror.Absent} {
		if again := mustSwap(t, m, text(name, "two"), was); again != two {
			t.Errorf("swap of the same content: got version %s, want %s", again, two)
		}
	}
	wantVersion(t, m, name, "two", two)

	wantError(t, m.Create(t.Context(), text(name, "three")), mirror.ErrExist)
	mustCreate(t, m, text(name, "two"))
	wantVersion(t, m, name, "two", two)
}

func wantVersion(t *testing.T, m Store, name, content string, want mirror.Version) {
	t.Helper()
	if got := wantContent(t, m, name, []byte(content)).Version; got != want {
		t.Errorf("%s has version %s, want %s", name, got, want)
	}
}

func swapMismatch(t *testing.T, m Store) {
	wrong := text("pointer", "wrong")
	wrong.Digest = blob.DigestOf([]byte("right"))
	_, err := m.Swap(t.Context(), wrong, mirror.Absent)
	wantMismatch(t, err, wrong)
	wantAbsent(t, m, "pointer")

	is := mustSwap(t, m, text("pointer", "right"), mirror.Absent)
	_, err = m.Swap(t.Context(), wrong, is)
	if err == nil {
		t.Error("swapped content with a wrong digest")
	}
	wantVersion(t, m, "pointer", "right", is)
}

func swapSizes(t *testing.T, m Store) {
	large := noise(6, largeSize)
	is := mustSwap(t, m, text("pointer", ""), mirror.Absent)
	is = mustSwap(t, m, upload("pointer", large), is)
	wantContent(t, m, "pointer", large)
	mustSwap(t, m, text("pointer", ""), is)
	wantContent(t, m, "pointer", nil)
}

// swapRace treats an object like the index: many writers add to a set, each by reading it and swapping in the sum.
// At the end no addition may be missing.
func swapRace(t *testing.T, m Store) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := add(t.Context(), m, "set", fmt.Sprintf("%d-%02d\n", w, i)); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	all, _, err := mirror.Read(t.Context(), m, "set", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	added := map[string]bool{}
	for line := range strings.Lines(string(all)) {
		added[line] = true
	}
	if len(added) != writers*each {
		t.Errorf("%d additions are left of %d", len(added), writers*each)
	}
}

func add(ctx context.Context, m Store, name, line string) error {
	for ctx.Err() == nil {
		now, info, err := mirror.Read(ctx, m, name, 1<<20)
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			return err
		}
		_, err = m.Swap(ctx, upload(name, append(now, line...)), info.Version)
		if !errors.Is(err, mirror.ErrConflict) {
			return err
		}
		time.Sleep(rand.N(5 * time.Millisecond)) // lets another writer go first
	}
	return ctx.Err()
}

// swapBeforeReaders: a reader sees one whole state, and never an earlier one than before.
func swapBeforeReaders(t *testing.T, m Store) {
	const readers, states, size = 4, 40, 64 << 10
	state := func(n int) mirror.Upload { return upload("pointer", bytes.Repeat([]byte{byte(n)}, size+n)) }
	is := mustSwap(t, m, state(0), mirror.Absent)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			seen := 0
			for last := false; !last; {
				select {
				case <-done:
					last = true // reads once more
				default:
				}
				content, _, err := mirror.Read(t.Context(), m, "pointer", 1<<20)
				if err != nil {
					t.Errorf("read during a swap: %v", err)
					return
				}
				n := len(content) - size
				if n < seen || bytes.Count(content, []byte{byte(n)}) != len(content) {
					t.Errorf("after state %d a reader sees %d bytes that start with %x", seen, len(content), content[:1])
					return
				}
				seen = n
			}
		})
	}
	for n := 1; n <= states; n++ {
		is = mustSwap(t, m, state(n), is)
	}
	close(done)
	wg.Wait()
	wantVersion(t, m, "pointer", strings.Repeat(string([]byte{states}), size+states), is)
}

// createSwapRace: exactly one of several first writers succeeds.
func createSwapRace(t *testing.T, m Store) {
	for round := range 10 {
		name := fmt.Sprint("first/", round)
		var errs [8]error
		var wg sync.WaitGroup
		for w := range errs {
			wg.Go(func() {
				u := upload(name, fmt.Appendf(nil, "%d", w))
				if w%2 == 0 {
					errs[w] = m.Create(t.Context(), u)
				} else {
					_, errs[w] = m.Swap(t.Context(), u, mirror.Absent)
				}
			})
		}
		wg.Wait()
		won, _, err := mirror.Read(t.Context(), m, name, 1<<10)
		if err != nil {
			t.Errorf("nobody has won: %v", err)
			continue
		}
		for w, err := range errs {
			lost := mirror.ErrExist
			if w%2 == 1 {
				lost = mirror.ErrConflict
			}
			if string(won) == fmt.Sprint(w) {
				lost = nil
			}
			wantError(t, err, lost)
		}
	}
}
