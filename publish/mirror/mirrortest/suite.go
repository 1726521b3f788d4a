package mirrortest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Labeller is a Store that can return the headers of an object. The suite then checks them.
type Labeller interface {
	Headers(ctx context.Context, name string) (contentType, cacheControl string, err error)
}

// An Abandoner is a Store that can begin an upload as a publisher that dies would. The suite then tests its
// leftovers.
type Abandoner interface {
	Abandon(ctx context.Context, name string) error
}

// A Limited is a Store on a server that lacks some abilities of S3. The suite does not test these.
type Limited interface {
	Lacks(Ability) bool
}

// An Ability is an ability of S3 that publishing does not need.
type Ability int

const (
	// DeleteIfSeen deletes a certain version only, and not its replacement.
	DeleteIfSeen Ability = iota
	// DeleteManyIfSeen is DeleteIfSeen for many objects in one request.
	DeleteManyIfSeen
	// LeftoversBelow lists leftovers by a prefix of their names, not only by a whole name.
	LeftoversBelow
)

func lacks(m Store, a Ability) bool {
	l, ok := m.(Limited)
	return ok && l.Lacks(a)
}

// largeSize is more than two of the smallest parts of S3, and a multiple of none.
const largeSize = 11<<20 + 1

// Run checks that a mirror keeps the contracts of package mirror. open returns another empty mirror at each call.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, m Store)
	}{
		{"create, then read", createThenRead},
		{"create again", createAgain},
		{"create what is empty", createEmpty},
		{"create what is large", createLarge},
		{"create with a wrong digest", createMismatch},
		{"create from a source that fails", createFailingSource},
		{"create from a file that changes", createChangedFile},
		{"create from a source that tells two stories", createTurncoat},
		{"create in a race", createRace},
		{"read what is not there", readAbsent},
		{"swap", swap},
		{"swap with a wrong digest", swapMismatch},
		{"swap what is large and what is empty", swapSizes},
		{"swap in a race", swapRace},
		{"swap before readers", swapBeforeReaders},
		{"create and swap in a race", createSwapRace},
		{"delete", deleteSeen},
		{"delete many", deleteMany},
		{"list ranges", listRanges},
		{"list many", listMany},
		{"list until enough", listStops},
		{"a cancelled context", cancelled},
		{"leftovers", leftovers},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// upload returns an upload as a publisher makes it.
func upload(name string, content []byte) mirror.Upload {
	return mirror.Upload{
		Name:         name,
		Content:      blob.Bytes(content),
		Digest:       blob.DigestOf(content),
		Type:         "application/x-suite",
		CacheControl: "public, max-age=60",
	}
}

func text(name, content string) mirror.Upload { return upload(name, []byte(content)) }

func mustCreate(t *testing.T, m mirror.Writer, u mirror.Upload) {
	t.Helper()
	if err := m.Create(t.Context(), u); err != nil {
		t.Fatalf("create %s: %v", u.Name, err)
	}
}

func mustSwap(t *testing.T, m mirror.Swapper, u mirror.Upload, was mirror.Version) mirror.Version {
	t.Helper()
	is, err := m.Swap(t.Context(), u, was)
	if err != nil {
		t.Fatalf("swap %s: %v", u.Name, err)
	}
	return is
}

// wantError checks that err matches want.
func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// wantContent checks an object by all ways of reading it.
func wantContent(t *testing.T, m Store, name string, want []byte) mirror.Info {
	t.Helper()
	got, opened, err := mirror.Read(t.Context(), m, name, 1<<30)
	if err != nil {
		t.Errorf("read: %v", err)
		return mirror.Info{}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has other content, %s", name, where(want, got))
	}
	info, err := m.Stat(t.Context(), name)
	if err != nil {
		t.Errorf("stat: %v", err)
	}
	listed := list(t, m, mirror.Range{Prefix: name})
	if len(listed) == 0 {
		t.Errorf("%s is not listed", name)
		return info
	}
	for _, i := range []mirror.Info{info, opened, listed[0]} {
		if i.Name != name || i.Size != int64(len(want)) || i.Version == mirror.Absent || i.Version != info.Version {
			t.Errorf("got %+v, want name %s, size %d, and one version", i, name, len(want))
		}
		if age := time.Since(i.Modified); age.Abs() > time.Hour {
			t.Errorf("%s is said to be modified %v ago", name, age)
		}
	}
	return info
}

// wantAbsent checks that no way of reading an object finds it.
func wantAbsent(t *testing.T, m Store, name string) {
	t.Helper()
	if o, err := m.Open(t.Context(), name); err == nil {
		o.Body.Close()
		t.Errorf("open %s: found", name)
	} else {
		wantError(t, err, mirror.ErrNotExist)
	}
	_, err := m.Stat(t.Context(), name)
	wantError(t, err, mirror.ErrNotExist)
	if listed := list(t, m, mirror.Range{Prefix: name}); len(listed) != 0 {
		t.Errorf("listed: %v", listed)
	}
}

func list(t *testing.T, m mirror.Lister, r mirror.Range) []mirror.Info {
	t.Helper()
	var all []mirror.Info
	for info, err := range m.List(t.Context(), r) {
		if err != nil {
			t.Errorf("list %+v: %v", r, err)
			break
		}
		all = append(all, info)
	}
	return all
}

func names(infos []mirror.Info) []string {
	var all []string
	for _, i := range infos {
		all = append(all, i.Name)
	}
	return all
}

// noise returns content that does not repeat, so that a misplaced part shows.
func noise(seed uint64, size int) []byte {
	content := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(content)
	return content
}

func readAbsent(t *testing.T, m Store) {
	wantAbsent(t, m, "nothing")
	mustCreate(t, m, text("some/thing", "something"))
	for _, name := range []string{"some", "some/th", "some/thing else", "some/other/thing"} {
		_, err := m.Stat(t.Context(), name)
		wantError(t, err, mirror.ErrNotExist)
		_, err = m.Open(t.Context(), name)
		wantError(t, err, mirror.ErrNotExist)
	}
}

func deleteSeen(t *testing.T, m Store) {
	one := mustSwap(t, m, text("dir/pointer", "one"), mirror.Absent)
	mustCreate(t, m, text("dir/other", "other"))
	two := mustSwap(t, m, text("dir/pointer", "two"), one)
	if !lacks(m, DeleteIfSeen) {
		wantError(t, m.Delete(t.Context(), "dir/pointer", one), mirror.ErrConflict)
		wantVersion(t, m, "dir/pointer", "two", two)
	}
	for range 2 { // the second time it is absent, and Delete succeeds
		if err := m.Delete(t.Context(), "dir/pointer", two); err != nil {
			t.Errorf("delete: %v", err)
		}
		wantAbsent(t, m, "dir/pointer")
	}
	if err := m.Delete(t.Context(), "never/there", two); err != nil {
		t.Errorf("delete what was never there: %v", err)
	}
	_, err := m.Swap(t.Context(), text("dir/pointer", "three"), two)
	wantError(t, err, mirror.ErrConflict)
	mustCreate(t, m, text("dir/pointer", "three"))
	wantContent(t, m, "dir/pointer", []byte("three"))
	wantContent(t, m, "dir/other", []byte("other"))
}

func cancelled(t *testing.T, m Store) {
	mustCreate(t, m, text("there", "there"))
	is := wantContent(t, m, "there", []byte("there")).Version
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, m.Create(ctx, text("new", "new")), context.Canceled)
	_, err := m.Swap(ctx, text("new", "new"), mirror.Absent)
	wantError(t, err, context.Canceled)
	_, err = m.Swap(ctx, text("there", "then"), is)
	wantError(t, err, context.Canceled)
	wantError(t, m.Delete(ctx, "there", is), context.Canceled)
	_, err = m.Stat(ctx, "there")
	wantError(t, err, context.Canceled)
	for _, err = range m.List(ctx, mirror.Range{}) {
		if err != nil {
			break
		}
	}
	wantError(t, err, context.Canceled)
	wantAbsent(t, m, "new")
	wantVersion(t, m, "there", "there", is)

	// A context that ends in the middle of the content ends the upload.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	content := noise(7, largeSize)
	u := upload("half", content)
	u.Content = &story{size: largeSize, tell: func(_ int, p []byte, off int64) (int, error) {
		if off > largeSize/2 {
			cancel()
		}
		return bytes.NewReader(content).ReadAt(p, off)
	}}
	wantError(t, m.Create(ctx, u), context.Canceled)
	wantAbsent(t, m, "half")
	mustCreate(t, m, upload("half", content))
	wantContent(t, m, "half", content)
}

func leftovers(t *testing.T, m Store) {
	mustCreate(t, m, text("p/done", "done"))
	mustSwap(t, m, text("p/pointer", "one"), mirror.Absent)
	wantLeftovers(t, m, "")

	if err := m.Discard(t.Context(), mirror.Leftover{Name: "p/done", ID: "no-such-upload"}); err != nil {
		t.Errorf("discard what is gone: %v", err)
	}
	a, ok := m.(Abandoner)
	if !ok {
		return
	}
	abandoned := []string{"p/a+b %41/日本", "p/a+b %41/日本", "p/" + strings.Repeat("long/", 60) + "name", "q/x"}
	for _, name := range abandoned {
		if err := a.Abandon(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		wantAbsent(t, m, name)
	}
	found := func(prefix string, of ...string) (all []mirror.Leftover) {
		if !lacks(m, LeftoversBelow) {
			return wantLeftovers(t, m, prefix, of...)
		}
		for i, name := range of {
			same := slices.DeleteFunc(slices.Clone(of), func(other string) bool { return other != name })
			if slices.Index(of, name) == i {
				all = append(all, wantLeftovers(t, m, name, same...)...)
			}
		}
		return all
	}
	found("", abandoned...)
	found("p/a", abandoned[:2]...)
	for _, l := range found("p/", abandoned[:3]...) {
		if age := time.Since(l.Started); age.Abs() > time.Hour {
			t.Errorf("%s is said to be begun %v ago", l.Name, age)
		}
		for range 2 { // the second time it is absent, and Delete succeeds
			if err := m.Discard(t.Context(), l); err != nil {
				t.Errorf("discard %+v: %v", l, err)
			}
		}
	}
	found("", "q/x")
	wantContent(t, m, "p/done", []byte("done"))
	// A leftover of another writer is no obstacle.
	content := noise(8, largeSize)
	mustCreate(t, m, upload("q/x", content))
	wantContent(t, m, "q/x", content)
}

func wantLeftovers(t *testing.T, m Store, prefix string, want ...string) []mirror.Leftover {
	t.Helper()
	var got []mirror.Leftover
	var gotNames []string
	for l, err := range m.Leftovers(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("leftovers: %v", err)
		}
		got = append(got, l)
		gotNames = append(gotNames, l.Name)
	}
	slices.Sort(gotNames)
	if want := slices.Sorted(slices.Values(want)); !slices.Equal(gotNames, want) {
		t.Errorf("leftovers of %q: got %q, want %q", prefix, gotNames, want)
	}
	return got
}
