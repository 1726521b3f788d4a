package mirrortest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Rule is a rule of Mem beyond those of every mirror.
type Rule int

const (
	// LetBe: a deleted object is not read again. A publisher must expect that it is gone.
	LetBe Rule = iota + 1
	// Labelled: each stored object has a Content-Type and a Cache-Control.
	Labelled
	// WriteOnce: an object below blobs/ is named by the SHA-256 of its content, and is created, never swapped.
	WriteOnce
)

// Mem is a Store in memory. It fails the test at each violation of its rules and at each unclean name.
type Mem struct {
	Log
	t        testing.TB
	forgiven []Rule

	mu      sync.Mutex // guards the fields below; never held while content is read
	objects map[string]object
	deleted map[string]bool // names that Delete has removed and that were not stored since
	left    map[string]mirror.Leftover
	stored  []string
	states  int // the number of object states so far, from which versions are made
}

type object struct {
	mirror.Info
	content            []byte
	mediaType, caching string
}

// NewMem returns an empty mirror that enforces every rule except the forgiven ones.
func NewMem(t testing.TB, forgiven ...Rule) *Mem {
	return &Mem{
		t:        t,
		forgiven: forgiven,
		objects:  map[string]object{},
		deleted:  map[string]bool{},
		left:     map[string]mirror.Leftover{},
	}
}

func (m *Mem) breach(r Rule, format string, args ...any) {
	if !slices.Contains(m.forgiven, r) {
		m.t.Helper()
		m.t.Errorf(format, args...)
	}
}

// Snapshot returns the content of every object. The caller must not change it.
func (m *Mem) Snapshot() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := make(map[string][]byte, len(m.objects))
	for name, o := range m.objects {
		s[name] = o.content
	}
	return s
}

// Stored returns the names of all content sent here, in order. A name that occurs twice was sent twice.
func (m *Mem) Stored() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.stored)
}

// Headers returns the headers of an object.
func (m *Mem) Headers(_ context.Context, name string) (contentType, cacheControl string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		return "", "", fmt.Errorf("headers of %s: %w", name, mirror.ErrNotExist)
	}
	return o.mediaType, o.caching, nil
}

// Plant stores an object without checking the rules, to set up or damage a mirror. It is not logged.
func (m *Mem) Plant(name string, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(mirror.Upload{Name: name}, bytes.Clone(content))
}

// PlantFS plants every regular file of fsys.
func (m *Mem) PlantFS(fsys fs.FS) error {
	return fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := fs.ReadFile(fsys, name)
		if err == nil {
			m.Plant(name, content)
		}
		return err
	})
}

// Uproot removes an object, as damage does. It is not logged, and reading the object afterwards is no violation.
func (m *Mem) Uproot(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
}

// Abandon begins an upload that is never finished.
func (m *Mem) Abandon(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states++
	id := fmt.Sprint("upload-", m.states)
	m.left[id] = mirror.Leftover{Name: name, ID: id, Started: time.Now()}
	return nil
}

// Open returns the current object. It does not change while it is read.
func (m *Mem) Open(ctx context.Context, name string) (*mirror.Object, error) {
	m.t.Helper()
	o, err := m.read(ctx, Open, name)
	if err != nil {
		return nil, err
	}
	return &mirror.Object{Info: o.Info, Body: io.NopCloser(bytes.NewReader(o.content))}, nil
}

// Stat describes the object that Open would open.
func (m *Mem) Stat(ctx context.Context, name string) (mirror.Info, error) {
	m.t.Helper()
	o, err := m.read(ctx, Stat, name)
	return o.Info, err
}

func (m *Mem) read(ctx context.Context, op Op, name string) (object, error) {
	m.t.Helper()
	if err := m.begin(ctx, op, name); err != nil {
		return object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.deleted[name] {
		m.breach(LetBe, "%s %s: it was deleted", op, name)
	}
	o, ok := m.objects[name]
	if !ok {
		return object{}, fmt.Errorf("%s %s: %w", op, name, mirror.ErrNotExist)
	}
	return o, nil
}

// List yields the objects that exist when it is called.
func (m *Mem) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		m.Log.add(Call{List, r.Prefix})
		if r.Prefix != "" && !clean(strings.TrimSuffix(r.Prefix, "/")) {
			m.t.Errorf("list %q: not a clean prefix", r.Prefix)
		}
		for _, o := range m.within(r) {
			if err := ctx.Err(); err != nil {
				yield(mirror.Info{}, fmt.Errorf("list %s: %w", r.Prefix, err))
				return
			}
			if !yield(o, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(mirror.Info{}, fmt.Errorf("list %s: %w", r.Prefix, err))
		}
	}
}

func (m *Mem) within(r mirror.Range) []mirror.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	var in []mirror.Info
	for name, o := range m.objects {
		if contains(r, name) {
			in = append(in, o.Info)
		}
	}
	slices.SortFunc(in, func(a, b mirror.Info) int { return cmp.Compare(a.Name, b.Name) })
	return in
}

func contains(r mirror.Range, name string) bool {
	return strings.HasPrefix(name, r.Prefix) && (r.After == "" || name > r.After) && (r.Until == "" || name < r.Until)
}

// Create stores a new object.
func (m *Mem) Create(ctx context.Context, u mirror.Upload) error {
	m.t.Helper()
	if err := m.begin(ctx, Create, u.Name); err != nil {
		return err
	}
	m.checkLabels(Create, u)
	if done, err := m.settled(u); done {
		return err
	}
	content, err := receive(ctx, u)
	if err != nil {
		return fmt.Errorf("create %s: %w", u.Name, err)
	}
	m.checkBlob(Create, u.Name, content)

	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.objects[u.Name]; ok {
		if bytes.Equal(o.content, content) {
			return nil
		}
		return fmt.Errorf("create %s: %w", u.Name, mirror.ErrExist)
	}
	m.put(u, content)
	m.stored = append(m.stored, u.Name)
	return nil
}

// settled reports, without reading u.Content, whether Create has nothing left to do, and its result.
func (m *Mem) settled(u mirror.Upload) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[u.Name]
	switch {
	case !ok:
		return false, nil
	case o.Size != u.Content.Size():
		return true, fmt.Errorf("create %s: %w", u.Name, mirror.ErrExist)
	case u.Digest.Known() && blob.DigestOf(o.content) == u.Digest:
		return true, nil
	}
	return false, nil
}

// Swap replaces an object of a known version.
func (m *Mem) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	m.t.Helper()
	if err := m.begin(ctx, Swap, u.Name); err != nil {
		return mirror.Absent, err
	}
	m.checkLabels(Swap, u)
	if isBlob(u.Name) {
		m.breach(WriteOnce, "swap %s: it is a blob", u.Name)
	}
	content, err := receive(ctx, u)
	if err != nil {
		return mirror.Absent, fmt.Errorf("swap %s: %w", u.Name, err)
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.objects[u.Name] // its Version is Absent if it is not there
	if now.Version != mirror.Absent && bytes.Equal(now.content, content) {
		return now.Version, nil
	}
	if now.Version != was {
		return mirror.Absent, fmt.Errorf("swap %s: %w", u.Name, mirror.ErrConflict)
	}
	m.put(u, content)
	m.stored = append(m.stored, u.Name)
	return m.objects[u.Name].Version, nil
}

// put makes content the next state of the object. The caller holds m.mu.
func (m *Mem) put(u mirror.Upload, content []byte) {
	m.states++
	delete(m.deleted, u.Name)
	m.objects[u.Name] = object{
		Info: mirror.Info{
			Name:     u.Name,
			Size:     int64(len(content)),
			Version:  mirror.Version(fmt.Sprint("state-", m.states)),
			Modified: time.Now(),
		},
		content:   content,
		mediaType: u.Type,
		caching:   u.CacheControl,
	}
}

// Delete removes an object of a known version.
func (m *Mem) Delete(ctx context.Context, name string, was mirror.Version) error {
	m.t.Helper()
	if err := m.begin(ctx, Delete, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		return nil
	}
	if o.Version != was {
		return fmt.Errorf("delete %s: %w", name, mirror.ErrConflict)
	}
	delete(m.objects, name)
	m.deleted[name] = true
	return nil
}

// Leftovers yields the uploads begun by Abandon.
func (m *Mem) Leftovers(ctx context.Context, prefix string) iter.Seq2[mirror.Leftover, error] {
	return func(yield func(mirror.Leftover, error) bool) {
		m.Log.add(Call{Leftovers, prefix})
		for _, l := range m.leftBelow(prefix) {
			if err := ctx.Err(); err != nil {
				yield(mirror.Leftover{}, fmt.Errorf("leftovers of %s: %w", prefix, err))
				return
			}
			if !yield(l, nil) {
				return
			}
		}
	}
}

func (m *Mem) leftBelow(prefix string) []mirror.Leftover {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := slices.DeleteFunc(slices.Collect(maps.Values(m.left)), func(l mirror.Leftover) bool {
		return !strings.HasPrefix(l.Name, prefix)
	})
	slices.SortFunc(left, func(a, b mirror.Leftover) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return left
}

// Discard discards an upload begun by Abandon.
func (m *Mem) Discard(ctx context.Context, l mirror.Leftover) error {
	m.t.Helper()
	if err := m.begin(ctx, Discard, l.Name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.left, l.ID)
	return nil
}

// begin logs a call and refuses names that no mirror accepts.
func (m *Mem) begin(ctx context.Context, op Op, name string) error {
	m.t.Helper()
	m.Log.add(Call{op, name})
	if !clean(name) {
		m.t.Errorf("%s %q: not a clean name", op, name)
		return fmt.Errorf("%s %q: not a clean name", op, name)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, name, err)
	}
	return nil
}

// clean reports whether a name is relative and has no empty or dotted elements and no control characters.
func clean(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (m *Mem) checkLabels(op Op, u mirror.Upload) {
	m.t.Helper()
	if u.Type == "" {
		m.breach(Labelled, "%s %s: without Content-Type", op, u.Name)
	}
	if u.CacheControl == "" {
		m.breach(Labelled, "%s %s: without Cache-Control", op, u.Name)
	}
}

// blobName matches the names of blobs, in a mirror or in a tree of mirrors.
var blobName = regexp.MustCompile(`(^|/)blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}$`)

func isBlob(name string) bool {
	return strings.HasPrefix(name, "blobs/") || strings.Contains(name, "/blobs/")
}

func (m *Mem) checkBlob(op Op, name string, content []byte) {
	m.t.Helper()
	if !isBlob(name) {
		return
	}
	if !blobName.MatchString(name) {
		m.breach(WriteOnce, "%s %s: not a blob's name", op, name)
		return
	}
	digest := blob.DigestOf(content).String()
	if path.Base(name) != digest || path.Base(path.Dir(name)) != digest[:2] {
		m.breach(WriteOnce, "%s %s: its content has sha256 %s", op, name, digest)
	}
}

// receiveSize is how many bytes are read between two checks of the context.
const receiveSize = 64 << 10

// receive reads an upload and checks its size and digest.
func receive(ctx context.Context, u mirror.Upload) ([]byte, error) {
	r, err := u.Content.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content := make([]byte, u.Content.Size())
	for off := 0; off < len(content); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		piece := content[off:min(off+receiveSize, len(content))]
		n, err := r.ReadAt(piece, int64(off))
		if n < len(piece) {
			return nil, cmp.Or(err, io.ErrUnexpectedEOF)
		}
		off += n
		if u.Sent != nil {
			u.Sent(int64(n))
		}
	}
	if got := blob.DigestOf(content); u.Digest.Known() && got != u.Digest {
		size := int64(len(content))
		return nil, &blob.MismatchError{Name: u.Name, WantSize: size, GotSize: size, Want: u.Digest, Got: got}
	}
	return content, nil
}
