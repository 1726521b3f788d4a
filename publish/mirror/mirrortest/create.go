package mirrortest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

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

// A story is a Source whose n-th reader (from 1) reads what tell returns.
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

// createTurncoat stores content that changes between hashing and sending, in either direction. It is stored as
// promised or not at all.
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
