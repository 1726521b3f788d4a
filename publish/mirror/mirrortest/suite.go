package mirrortest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Labeller is a Store that can tell what an object is labelled with. The suite asks
// the stores that can.
type Labeller interface {
	Headers(ctx context.Context, name string) (contentType, cacheControl string, err error)
}

// An Abandoner is a Store that can begin an upload as a publisher would who dies then.
// The suite asks the stores that can.
type Abandoner interface {
	Abandon(ctx context.Context, name string) error
}

// A Limited is a Store on a server that cannot do all that S3 can. The suite does not ask it for
// that.
type Limited interface {
	Lacks(Ability) bool
}

// An Ability is something of S3 that a publisher can do without.
type Ability int

const (
	// DeleteIfSeen is to delete a version only, and not what has replaced it.
	DeleteIfSeen Ability = iota
	// LeftoversBelow is to list leftovers by the beginning of their names, and not only by a
	// whole name.
	LeftoversBelow
)

func lacks(m Store, a Ability) bool {
	l, ok := m.(Limited)
	return ok && l.Lacks(a)
}

// largeSize is more than two of the smallest parts that S3 takes, and no multiple of any.
const largeSize = 11<<20 + 1

// Run checks that a mirror keeps the contracts of package mirror. open returns a mirror
// without objects, another one at each call.
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
		{"list ranges", listRanges},
		{"list many", listMany},
		{"list until enough", listStops},
		{"a cancelled context", cancelled},
		{"leftovers", leftovers},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// upload is content as a publisher sends it.
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

// wantError checks that err is one that callers recognise as want.
func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// wantContent checks what all ways to look at an object say of it.
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

// wantAbsent checks that no way to look at an object finds it.
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

// noise is content that does not repeat itself: a part in the wrong place shows.
func noise(seed uint64, size int) []byte {
	content := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(content)
	return content
}

func createThenRead(t *testing.T, m Store) {
	content := []byte("content\nof no account\x00\xff")
	digest := blob.DigestOf(content).String()
	for _, name := range []string{"top", "v3/layout.json", "blobs/sha256/" + digest[:2] + "/" + digest} {
		mustCreate(t, m, upload(name, content))
		wantContent(t, m, name, content)
		wantLabels(t, m, name, "application/x-suite", "public, max-age=60")
	}
	unpromised := text("without a digest", "whatever")
	unpromised.Digest = blob.Digest{}
	mustCreate(t, m, unpromised)
	wantContent(t, m, unpromised.Name, []byte("whatever"))
}

func wantLabels(t *testing.T, m Store, name, contentType, cacheControl string) {
	t.Helper()
	l, ok := m.(Labeller)
	if !ok {
		return
	}
	gotType, gotCache, err := l.Headers(t.Context(), name)
	if err != nil || gotType != contentType || gotCache != cacheControl {
		t.Errorf("headers of %s: got %q, %q, %v; want %q, %q", name, gotType, gotCache, err, contentType, cacheControl)
	}
}

func createAgain(t *testing.T, m Store) {
	mustCreate(t, m, text("a", "first"))
	before := wantContent(t, m, "a", []byte("first"))
	mustCreate(t, m, text("a", "first"))
	unpromised := text("a", "first")
	unpromised.Digest = blob.Digest{}
	mustCreate(t, m, unpromised)
	for _, other := range []string{"second, which is longer", "other", ""} {
		wantError(t, m.Create(t.Context(), text("a", other)), mirror.ErrExist)
	}
	if after := wantContent(t, m, "a", []byte("first")); after != before {
		t.Errorf("create changed an object that is there from %+v to %+v", before, after)
	}
}

func createEmpty(t *testing.T, m Store) {
	mustCreate(t, m, text("empty", ""))
	wantContent(t, m, "empty", nil)
	mustCreate(t, m, text("empty", ""))
	wantError(t, m.Create(t.Context(), text("empty", "full")), mirror.ErrExist)
}

func createLarge(t *testing.T, m Store) {
	content := noise(1, largeSize)
	u := upload("large", content)
	var mu sync.Mutex
	sent := int64(0)
	u.Sent = func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		sent += n
	}
	mustCreate(t, m, u)
	if sent != largeSize {
		t.Errorf("%d bytes are said to be sent, want %d", sent, largeSize)
	}
	wantContent(t, m, "large", content)

	sent = 0
	mustCreate(t, m, u)
	if sent != 0 {
		t.Errorf("%d bytes are said to be sent of what is there", sent)
	}
	other := slices.Clone(content)
	other[len(other)-1]++
	wantError(t, m.Create(t.Context(), upload("large", other)), mirror.ErrExist)
	wantContent(t, m, "large", content)
}

func createMismatch(t *testing.T, m Store) {
	for _, size := range []int{0, 5, largeSize} {
		u := upload(fmt.Sprint("wrong", size), noise(2, size))
		u.Digest[0]++
		wantMismatch(t, m.Create(t.Context(), u), u)
		wantAbsent(t, m, u.Name)
	}
}

func wantMismatch(t *testing.T, err error, u mirror.Upload) {
	t.Helper()
	var mismatch *blob.MismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("got error %v, want a MismatchError", err)
		return
	}
	got, _ := blob.Sum(t.Context(), u.Content)
	if mismatch.Name == "" || mismatch.Want != u.Digest || mismatch.Got != got {
		t.Errorf("got %+v, want the digests %s and %s", mismatch, u.Digest, got)
	}
}

// A story is a Source that tells its n-th reader (from 1) what tell says.
type story struct {
	size int64
	tell func(n int, p []byte, off int64) (int, error)

	mu    sync.Mutex // guards opens
	opens int
}

func (s *story) Size() int64 { return s.size }

func (s *story) Open() (blob.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	return &telling{s, s.opens}, nil
}

type telling struct {
	*story
	n int
}

func (r *telling) ReadAt(p []byte, off int64) (int, error) { return r.tell(r.n, p, off) }
func (r *telling) Close() error                            { return nil }

func createFailingSource(t *testing.T, m Store) {
	for _, size := range []int64{1000, largeSize} {
		content := noise(3, int(size))
		for what, ends := range map[string]error{"shrinks": io.EOF, "changes": blob.ErrChanged} {
			u := upload(fmt.Sprint(what, size), content)
			// It fails in its last tenth, when a large one is partly sent.
			good := bytes.NewReader(content[:size-size/10])
			u.Content = &story{size: size, tell: func(_ int, p []byte, off int64) (int, error) {
				n, err := good.ReadAt(p, off)
				if n < len(p) {
					err = ends
				}
				return n, err
			}}
			err := m.Create(t.Context(), u)
			if err == nil {
				t.Errorf("created from a source that %s", what)
			}
			if ends != io.EOF {
				wantError(t, err, ends)
			}
			wantAbsent(t, m, u.Name)
			mustCreate(t, m, upload(u.Name, content))
			wantContent(t, m, u.Name, content)
		}
	}
}

func createChangedFile(t *testing.T, m Store) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for what, change := range map[string]func(path string) error{
		"removed":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 3) },
		"grown":     func(path string) error { return os.WriteFile(path, []byte("content and more"), 0o644) },
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".new", []byte("CONTENT"), 0o644); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	} {
		path := filepath.Join(dir, what)
		if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		info, err := root.Lstat(what)
		if err != nil {
			t.Fatal(err)
		}
		u := text(what, "content")
		u.Content = blob.File(root, what, info)
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		wantError(t, m.Create(t.Context(), u), blob.ErrChanged)
		wantAbsent(t, m, what)
	}
}

// createTurncoat: content that is right when it is hashed and wrong when it is sent, or
// the other way round, is stored as promised or not at all.
func createTurncoat(t *testing.T, m Store) {
	right, wrong := noise(4, largeSize), noise(5, largeSize)
	for _, size := range []int{1000, largeSize} {
		for honest := range 3 {
			u := upload(fmt.Sprintf("turncoat %d %d", size, honest), right[:size])
			u.Content = &story{size: int64(size), tell: func(n int, p []byte, off int64) (int, error) {
				if n <= honest {
					return bytes.NewReader(right[:size]).ReadAt(p, off)
				}
				return bytes.NewReader(wrong[:size]).ReadAt(p, off)
			}}
			if err := m.Create(t.Context(), u); err != nil {
				wantAbsent(t, m, u.Name)
				continue
			}
			wantContent(t, m, u.Name, right[:size])
		}
	}
}

func createRace(t *testing.T, m Store) {
	const writers, objects, contents = 16, 20, 4
	// Writers w and w+contents agree on the content, the others do not.
	content := func(w, o int) []byte { return fmt.Appendf(nil, "object %d as %d says", o, w%contents) }
	name := func(o int) string { return fmt.Sprintf("race/%02d", o) }
	var errs [writers][objects]error
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for o := range objects {
				errs[w][o] = m.Create(t.Context(), upload(name(o), content(w, o)))
			}
		})
	}
	wg.Wait()
	for o := range objects {
		won, _, err := mirror.Read(t.Context(), m, name(o), 1<<10)
		if err != nil {
			t.Errorf("nobody has won: %v", err)
			continue
		}
		for w := range writers {
			switch mine, err := bytes.Equal(content(w, o), won), errs[w][o]; {
			case mine && err != nil:
				t.Errorf("writer %d has won %s and got the error %v", w, name(o), err)
			case !mine && !errors.Is(err, mirror.ErrExist):
				t.Errorf("writer %d has lost %s and got the error %v, want ErrExist", w, name(o), err)
			}
		}
	}
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

	// Whoever repeats a swap finds it done, and so does who wanted the same.
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

// swapRace: as the index is, an object is a set to which many add, each by reading it
// and swapping in the sum. Nothing that anybody has added may be missing at the end.
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
		time.Sleep(rand.N(5 * time.Millisecond)) // lets another one through
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

// createSwapRace: of those who want to be the first, one is.
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

func deleteSeen(t *testing.T, m Store) {
	one := mustSwap(t, m, text("dir/pointer", "one"), mirror.Absent)
	mustCreate(t, m, text("dir/other", "other"))
	two := mustSwap(t, m, text("dir/pointer", "two"), one)
	if !lacks(m, DeleteIfSeen) {
		wantError(t, m.Delete(t.Context(), "dir/pointer", one), mirror.ErrConflict)
		wantVersion(t, m, "dir/pointer", "two", two)
	}
	for range 2 { // the second time it is not there, which is success
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

// oddNames are what makes listing hard: bytes around the slash, what must be encoded in
// URLs and in XML, what looks encoded already, and directories that sort otherwise with
// a slash than without.
var oddNames = []string{
	"p/Z", "p/a", "p/a+1/c", "p/a-b", "p/ab.c", "p/ab/c", "p/ab/c+1", "p/ab/d", "p/ab0",
	"p/100%", "p/%41", "p/%2F", "p/me@home", "p/~tmp", "p/with space", "p/with+plus", "p/a&b<c>'d\"", "p/q?x=y#z",
	"p/semi;colon,comma", "p/b[1]{2}*", "p/back\\slash", "p/ümlaut", "p/日本/x", "p/\U0001F600",
	"p/deep/er/and/deeper/x", "p/deep.er", "p/...", "p/.hidden", "q", "p0", "P/x",
}

func listRanges(t *testing.T, m Store) {
	if got := list(t, m, mirror.Range{}); len(got) != 0 {
		t.Errorf("an empty mirror lists %v", names(got))
	}
	for _, name := range oddNames {
		mustCreate(t, m, text(name, name))
	}
	for _, name := range oddNames {
		wantContent(t, m, name, []byte(name))
	}
	all := slices.Sorted(slices.Values(oddNames))
	bounds := []string{"", "P", "p/a", "p/ab", "p/ab.c", "p/ab/", "p/ab/c", "p/deep/er/and", "p/with", "p/\u00fc", "p/日本/x", "p0", "z"}
	for _, prefix := range []string{"", "p", "p/", "p/a", "p/ab", "p/ab/", "p/deep/e", "p/日", "p/nothing", "q"} {
		for _, after := range bounds {
			for _, until := range bounds {
				r := mirror.Range{Prefix: prefix, After: after, Until: until}
				want := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !contains(r, name) })
				if got := names(list(t, m, r)); !slices.Equal(got, want) {
					t.Errorf("list %+v: got %q, want %q", r, got, want)
				}
			}
		}
	}
}

func listMany(t *testing.T, m Store) {
	const many, writers = 1050, 16 // more than one page of S3
	var want []string
	for n := range many {
		want = append(want, fmt.Sprintf("many/%02x/%04d", n%7, n))
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := w; n < many; n += writers {
				if err := m.Create(t.Context(), text(want[n], "x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	if got := names(list(t, m, mirror.Range{Prefix: "many/"})); !slices.Equal(got, want) {
		t.Errorf("listed %d names, want %d in byte order", len(got), len(want))
	}
	middle := mirror.Range{After: want[10], Until: want[1040]}
	if got := names(list(t, m, middle)); !slices.Equal(got, want[11:1040]) {
		t.Errorf("listed %d names in the middle, want %d", len(got), 1040-11)
	}
}

func listStops(t *testing.T, m Store) {
	for _, name := range []string{"a", "b/x", "b/y", "c"} {
		mustCreate(t, m, text(name, name))
	}
	var got []string
	for info, err := range m.List(t.Context(), mirror.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Name)
		if len(got) == 2 {
			break
		}
	}
	if want := []string{"a", "b/x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
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
		for range 2 { // the second time it is gone, which is success
			if err := m.Discard(t.Context(), l); err != nil {
				t.Errorf("discard %+v: %v", l, err)
			}
		}
	}
	found("", "q/x")
	wantContent(t, m, "p/done", []byte("done"))
	// What somebody else has left in the way is no obstacle.
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
