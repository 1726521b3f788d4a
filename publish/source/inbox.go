package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// An Inbox is a SOURCE directory into which another program writes packages while it is watched. Packages in
// it may be incomplete.
type Inbox struct {
	root  *blob.Dir
	rules Rules
}

// Rules decide which packages of an inbox are published.
type Rules struct {
	Selection Selection // Files is ignored
	Trust     buildcache.Trust
	Signs     bool // unsigned packages are signed when they are published
}

// OpenInbox opens a directory. Files outside of it are never read, not even through symbolic links.
func OpenInbox(dir string, rules Rules) (*Inbox, error) {
	root, err := blob.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open SOURCE: %w", err)
	}
	return &Inbox{root, rules}, nil
}

// Close releases the directory.
func (in *Inbox) Close() error { return in.root.Close() }

// An Arrival is the document of a package in an inbox, known by its name and its metadata in the file system.
type Arrival struct {
	File string // below the inbox
	// Mark changes when the file is replaced or changed, as far as its metadata tell.
	Mark string
}

// Arrivals yields the documents in a directory below the inbox; "" is the whole inbox. An error concerns a
// single directory, and Arrivals continues after it.
func (in *Inbox) Arrivals(ctx context.Context, dir string) iter.Seq2[Arrival, error] {
	return func(yield func(Arrival, error) bool) {
		if dir == "" {
			dir = "."
		}
		err := in.root.Walk(ctx, dir, func(full string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil // removed after it was listed
			case err != nil:
				if !yield(Arrival{}, err) {
					return fs.SkipAll
				}
				return nil
			case d.IsDir():
				if passedBy(full) {
					return fs.SkipDir
				}
				return nil
			}
			if _, _, _, ok := documentAt(full); !ok {
				return nil
			}
			info, err := d.Info()
			if err == nil && !info.Mode().IsRegular() {
				info, err = in.root.Stat(full) // Spack may have made a link
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if !yield(Arrival{full, markOf(info)}, err) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Arrival{}, err)
		}
	}
}

// passedBy reports whether a directory of a mirror cannot hold documents, so that it is skipped.
func passedBy(full string) bool {
	parent, base := "", full
	if i := strings.LastIndexByte(full, '/'); i >= 0 {
		parent, base = full[:i], full[i+1:]
	}
	hidden := strings.HasPrefix(base, ".") && base != "."
	return hidden || base == "sha256" && (parent == "blobs" || strings.HasSuffix(parent, "/blobs"))
}

// MayHold reports whether a directory of an inbox, or one below it, may hold documents.
func MayHold(dir string) bool { return !passedBy(dir) }

func markOf(info fs.FileInfo) string {
	if info == nil {
		return ""
	}
	inode := uint64(0)
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = s.Ino
	}
	return fmt.Sprintf("%d %d %d", info.Size(), info.ModTime().UnixNano(), inode)
}

// documentAt returns the directory of the mirror that holds a document, and the document's name in the
// mirror.
func documentAt(full string) (dir string, f buildcache.Layout, name string, ok bool) {
	for at := 0; at <= len(full); {
		for _, f := range buildcache.Layouts() {
			if _, ok := f.ParsePackageName(full[at:]); ok && spec.Readable(full) {
				return strings.TrimSuffix(full[:at], "/"), f, full[at:], true
			}
		}
		next := strings.IndexByte(full[at:], '/')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return "", nil, "", false
}

// An Arrived is a package in an inbox whose document was read.
type Arrived struct {
	File   string // below the inbox
	Digest blob.Digest
	ID     string // readable name
	Bytes  int64  // of the objects that the document points at, as far as known

	pkg    *buildcache.Package
	format buildcache.Layout
	tree   *tree
	name   string // in its mirror
	specs  *spec.Reader
}

// signatureEnd is the last line of a signed document. A document without it may be parsed, but is incomplete.
const signatureEnd = "-----END PGP SIGNATURE-----"

// Read reads the document of a package. A document that cannot be parsed may still be incomplete.
func (in *Inbox) Read(ctx context.Context, file string) (*Arrived, error) {
	a, content, err := in.open(ctx, file)
	if err != nil {
		return nil, err
	}
	return a, in.understand(ctx, a, content)
}

// open reads a document without parsing it.
func (in *Inbox) open(ctx context.Context, file string) (*Arrived, []byte, error) {
	dir, f, name, ok := documentAt(file)
	if !ok {
		return nil, nil, arrival.ErrNoDocument
	}
	a := &Arrived{File: file, format: f, tree: &tree{in.root, dir}, name: name, specs: spec.NewReader(maxSourceSpecs)}
	content, _, err := mirror.Read(ctx, a.tree, name, buildcache.MaxDocument)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, nil, arrival.ErrGone
	}
	a.Digest = blob.DigestOf(content)
	return a, content, err
}

func (in *Inbox) understand(ctx context.Context, a *Arrived, content []byte) error {
	p, err := a.format.ParseDocument(a.name, content, a.specs)
	if w, ok := errors.AsType[*tombstone.Error](err); ok {
		return &arrival.RefusedError{Reasons: []error{w}}
	}
	if err != nil {
		return err
	}
	if p.Signed && !strings.HasSuffix(strings.TrimSpace(string(content)), signatureEnd) {
		return errors.New("its signature is cut off")
	}
	trueVersion(ctx, p, a.format, a.tree, a.specs)
	if !in.rules.Selection.picks(p) || !in.rules.Selection.layout(a.format) {
		return arrival.ErrNotSelected
	}
	a.pkg, a.ID = p, p.ID()
	for _, b := range p.Blobs {
		if b.Size < 0 {
			if info, err := a.tree.Stat(ctx, b.Name); err == nil {
				b.Size = info.Size
			}
		}
		a.Bytes += max(b.Size, 0)
	}
	return nil
}

// Check reads all objects that a document points at, and returns nil if the package is complete and
// acceptable. The document must still have the digest was; otherwise the error is arrival.ErrGone or
// arrival.ErrAnother. A *arrival.RefusedError is final. After any other error the package may still be
// arriving. read receives the number of bytes read.
func (in *Inbox) Check(ctx context.Context, file string, was blob.Digest, read func(int64)) error {
	a, content, err := in.open(ctx, file)
	if err != nil {
		return err
	}
	if a.Digest != was {
		return arrival.ErrAnother
	}
	if err := in.understand(ctx, a, content); err != nil {
		return err
	}
	trust := in.rules.Trust
	trust.RequireSigned = trust.RequireSigned && !in.rules.Signs
	if err := trust.Objection(a.pkg.Document); err != nil {
		return &arrival.RefusedError{Reasons: []error{err}}
	}
	if err := a.format.ReadSpec(ctx, a.tree, a.pkg, a.specs); err != nil {
		return refusedUnless(onItsWay(err), err)
	}
	if reason := in.rules.Selection.Mismatch(a.pkg); reason != "" {
		return &arrival.RefusedError{Reasons: []error{errors.New(reason)}}
	}
	for _, b := range a.pkg.Blobs {
		if err := a.checkBlob(ctx, b, read); err != nil {
			return refusedUnless(onItsWay(err), err)
		}
	}
	return nil
}

func refusedUnless(onItsWay bool, err error) error {
	if onItsWay {
		return err
	}
	return &arrival.RefusedError{Reasons: []error{err}}
}

// onItsWay reports whether an error may be temporary: the file does not exist yet, is being written, or
// cannot be read at the moment.
func onItsWay(err error) bool {
	var mismatch *blob.MismatchError
	var path *fs.PathError
	return errors.Is(err, mirror.ErrNotExist) || errors.Is(err, blob.ErrChanged) || errors.As(err, &mismatch) || errors.As(err, &path) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (a *Arrived) checkBlob(ctx context.Context, b buildcache.Object, read func(int64)) error {
	content, err := a.tree.Content(b.Name)
	if err != nil {
		return err
	}
	if b.Size >= 0 && content.Size() != b.Size {
		return &blob.MismatchError{Name: b.Name, WantSize: b.Size, GotSize: content.Size()}
	}
	return blob.Check(ctx, b.Name, metered{content, read}, b.Digest)
}

// metered reports how many bytes of a Source are read.
type metered struct {
	blob.Source
	read func(int64)
}

func (m metered) Open() (blob.Reader, error) {
	r, err := m.Source.Open()
	if err != nil {
		return nil, err
	}
	return meteredReader{r, m.read}, nil
}

type meteredReader struct {
	blob.Reader
	read func(int64)
}

func (m meteredReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.Reader.ReadAt(p, off)
	m.read(int64(n))
	return n, err
}

// named returns the mirrors that hold documents, with the names of the documents in each.
func (src *Source) named(documents []string) map[*Mirror][]string {
	names := make(map[*Mirror][]string)
	for _, full := range slices.Compact(slices.Sorted(slices.Values(documents))) {
		dir, f, name, ok := documentAt(full)
		if !ok {
			src.report(buildcache.Error, full, arrival.ErrNoDocument.Error())
			continue
		}
		m := src.mirrorAt(dir, f)
		names[m] = append(names[m], name)
	}
	return names
}

// mirrorAt returns the mirror in a directory. It creates one if there is none yet.
func (src *Source) mirrorAt(dir string, f buildcache.Layout) *Mirror {
	for _, m := range src.Mirrors {
		if m.Path == dir && m.Layout == f {
			return m
		}
	}
	m := src.newMirror(dir, f)
	src.Mirrors = append(src.Mirrors, m)
	return m
}
