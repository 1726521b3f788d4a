// Package buildcache says what a mirror consists of: packages, the objects that their documents point at, keys and
// indices, and how each of them is stored in a layout.
//
// All that differs between layouts v3 and v2 is behind the Layout interface. A layout reads through the reader and
// writes to the store that it is given; it decides nothing and repeats nothing. A Survey says what a mirror holds, as
// far as an operation needs to know, in as few requests as possible.
package buildcache

import (
	"context"
	"crypto/md5" // to compare with ETags; it protects nothing
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Layout is what differs between the layouts of a buildcache.
type Layout interface {
	// Name is "v3" or "v2".
	Name() string
	// Generations are the formats of its specs and indices, the older ones first.
	Generations() []Generation

	// ParsePackageName recognises the name of a package's document.
	ParsePackageName(name string) (layout.SpecName, bool)
	// ParseKeyName recognises the name of the document that makes a key known.
	ParseKeyName(name string) (key.Fingerprint, bool)
	// Directories are where package documents and keys are, for listing.
	Directories() (packages, keys string)

	// ParseDocument reads a package's document. Of layout v2 it yields the spec as well. The error is a
	// *ContentError.
	ParseDocument(name string, content []byte, specs *spec.Reader) (*Package, error)
	// ReadSpec completes p.Spec and checks that the document is about the package
	// that its name says. The error is a *ContentError if the spec was read and will not do.
	ReadSpec(ctx context.Context, r mirror.Reader, p *Package, specs *spec.Reader) error

	// ReadPointer reads what says which index there is. Of layout v2 that is the index itself.
	ReadPointer(ctx context.Context, r mirror.Reader) (*Pointer, error)
	// Incomplete reports whether whoever wrote the index that p points at died before all of its
	// objects were written. A client can use it, and the next publisher completes it.
	Incomplete(ctx context.Context, r mirror.Reader, p *Pointer) (bool, error)
	// ReadIndex reads the documents that p points at.
	ReadIndex(ctx context.Context, r mirror.Reader, p *Pointer) (*Indices, error)
	// WriteIndex makes x the indices if the pointer still is was: mirror.ErrConflict if not. Where they are
	// what was points at already, the pointer is not written: a client that holds its
	// ETag would lose its copy of the index (docs/layouts.md).
	WriteIndex(ctx context.Context, s mirror.Store, was *Pointer, x *Indices) (*Pointer, error)
	// CompleteIndex tries once to bring what belongs to an index in line with it, after WriteIndex:
	// mirror.ErrConflict if another publisher was faster.
	CompleteIndex(ctx context.Context, s mirror.Store) error
	// PointerSize is how many bytes WriteIndex stores for x besides the documents themselves.
	PointerSize(was *Pointer, x *Indices) (int64, error)
	// IndexNames are the names that WriteIndex writes at fixed names.
	IndexNames() []string

	// ReadKey reads a key and makes sure that it is the one that its name says: uploads in the
	// order in which they are made.
	ReadKey(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error)
	// KeyName is the name of the document that makes a key known.
	KeyName(f key.Fingerprint) string
	// KeyObjects are the uploads that make a key known, in the order in which they are made.
	KeyObjects(f key.Fingerprint, armored []byte) ([]Object, error)
	// ReadKeyIndex returns the keys that clients are told of, and the version of
	// the object that tells them.
	ReadKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error)
	// KeyIndex are the objects that tell clients of keys, in the order in which they are
	// stored: the last one has a fixed name.
	KeyIndex(keys []key.Fingerprint) ([]Object, error)

	// Marker is the object that declares the layout, if there is one.
	Marker() (Object, bool)
}

// The layouts that there are.
var (
	V3 Layout = v3{}
	V2 Layout = v2{}
)

// Layouts are all of them, the one that Spack writes today first.
func Layouts() []Layout { return []Layout{V3, V2} }

// A Pointer says which indices a mirror has.
type Pointer struct {
	Version mirror.Version // of the object at the fixed name; Absent if there is no index
	// Coverage is what the indices offer, where the pointer says so.
	Coverage index.Coverage
	// Stored is when the object at the fixed name was stored.
	Stored time.Time

	Refs       []IndexRef         // of each generation of the layout
	Checked    bool               // the writer of the indices made sure that Spack can read them
	Manifest   *manifest.Manifest // of layout v3, as it was read: it may name what we do not know
	Content    []byte             // of layout v2: the index document, which is the pointer
	Broken     error              // why the object at the fixed name points at nothing
	Incomplete bool               // see format.halfway
	text       []byte             // of the object at the fixed name, where broken
	proofs     []string           // what was proved of the storage when the pointer was written: see mirror.Prover
	Proof      string             // what must be proved before the pointer is replaced; empty: nothing more
}

// An IndexRef is the document of an index. Its Digest is not known where there is none.
type IndexRef struct {
	Digest blob.Digest
	Size   int64 // bytes
}

func NewPointer(f Layout) *Pointer {
	return &Pointer{Version: mirror.Absent, Refs: make([]IndexRef, len(f.Generations()))}
}

// Digest identifies the indices: the SHA-256 of the document, or those of several with a + between
// them; empty if there is none.
func (p *Pointer) Digest() string {
	var all []string
	for _, ref := range p.Refs {
		if ref.Digest.Known() {
			all = append(all, ref.Digest.String())
		}
	}
	return strings.Join(all, "+")
}

// Size is that of all index documents, in bytes.
func (p *Pointer) Size() int64 {
	var n int64
	for _, ref := range p.Refs {
		n += ref.Size
	}
	return n
}

// NeedsProof notes what must be proved of a store before the pointer is replaced.
func (p *Pointer) NeedsProof(s mirror.Store) {
	prover := mirror.ProverOf(s)
	if prover == nil {
		return
	}
	if proof := prover.Proof(p.Version); proof != "" && !slices.Contains(p.proofs, proof) {
		p.Proof = proof
	}
}

// proved is what is known of the storage when the pointer has been replaced.
func (p *Pointer) proved() []string {
	if p.Proof == "" {
		return p.proofs
	}
	return append(slices.Clone(p.proofs), p.Proof)
}

// PointerForUpdate reads what a publisher must know of the index before it writes.
func PointerForUpdate(ctx context.Context, f Layout, r mirror.Reader) (*Pointer, error) {
	p, err := f.ReadPointer(ctx, r)
	if err != nil {
		return nil, err
	}
	p.Incomplete, err = f.Incomplete(ctx, r, p)
	return p, err
}

// A Package is one package in a mirror, as its document tells.
type Package struct {
	File     string // name of the document
	Document []byte
	Signed   bool
	ToSign   bool     // by this publish, which replaces the signature if there is one
	Blobs    []Object // what the document points at: the tarball, the spec where it is one, anything else
	layout.SpecName

	// In layout v3, the document labels its blobs: the format of the spec, 0 if it is none that Spack
	// would look for, and the media types of the spec and the tarball.
	format                int
	specType, tarballType string

	UnsignedFile string // name of the document in SOURCE, if it gets another one by being signed

	// Spec is nil until it was needed.
	Spec *spec.Spec
}

// ID names the package for people.
func (p *Package) ID() string {
	if p.Spec != nil {
		return p.Spec.Root().ID()
	}
	return fmt.Sprintf("%s@%s/%s", p.Package, p.Version, p.Hash.Short())
}

// SourceFile is the name of a package's document in SOURCE.
func (p *Package) SourceFile() string {
	if p.UnsignedFile != "" {
		return p.UnsignedFile
	}
	return p.File
}

// Issuer tells which key the package was signed with, as its document says; the signature is not checked.
func (p *Package) Issuer() (key.Issuer, bool) {
	if !p.Signed {
		return key.Issuer{}, false
	}
	by, err := key.IssuerOf(p.Document)
	return by, err == nil
}

// An Object is something to be stored under a name.
type Object struct {
	Name         string
	Size         int64       // bytes; -1 where only the source can tell
	Digest       blob.Digest // zero where no document says
	Type         string      // Content-Type
	CacheControl string
	Of           string // the package that it belongs to, for people; empty where its name says it

	// Content is nil where the object was only named, or is not in the source.
	Content blob.Source
}

func (o Object) Upload() mirror.Upload {
	return mirror.Upload{Name: o.Name, Content: o.Content, Digest: o.Digest, Type: o.Type, CacheControl: o.CacheControl}
}

// NewObject is an Object in memory.
func NewObject(name string, content []byte, contentType, cache string) Object {
	return Object{
		Name: name, Size: int64(len(content)), Digest: blob.DigestOf(content),
		Type: contentType, CacheControl: cache, Content: blob.Bytes(content),
	}
}

// Limits on what is read whole. They are far above what Spack writes and keep a
// damaged or hostile mirror from filling memory.
const (
	MaxDocument = 16 << 20 // a package's document; a v2 one holds the whole spec
	maxSpec     = 16 << 20 // what a spec blob unpacks to
	MaxPointer  = 4 << 20  // an index or key manifest
	MaxKeys     = 16 << 20 // an armored key, an index of keys
	MaxIndex    = 4 << 30  // an index document
	// MaxHeld is how many bytes the specs of all packages of a mirror may take in memory: as many as an index of two
	// million packages has.
	MaxHeld = 2 << 30
)

// A ContentError reports a document or spec that is intact but unusable: Spack's readers fail on it, or another
// version of Spack wrote it. Publishing it again would not help.
type ContentError struct{ err error }

func (e *ContentError) Error() string { return e.err.Error() }
func (e *ContentError) Unwrap() error { return e.err }

// A foreignError reports a package for versions of Spack that this release does not know. It is left alone.
type foreignError struct{ err error }

func (e *foreignError) Error() string { return e.err.Error() }

// IsForeign reports whether an error says that another version of Spack wrote a package.
func IsForeign(err error) bool {
	_, label := errors.AsType[*foreignError](err)
	_, format := errors.AsType[*spec.FormatError](err)
	return label || format
}

// content makes an error one about content. It is nil if err is.
func content(err error) error {
	if err == nil {
		return nil
	}
	return &ContentError{err}
}

// MD5 is the MD5 of a small object in hexadecimal: the ETag that S3 gives it.
func MD5(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

// DocumentOf is the object that makes a package reachable.
func DocumentOf(p *Package) Object {
	contentType := JsonType
	if p.Signed {
		contentType = "text/plain"
	}
	return NewObject(p.File, p.Document, contentType, layout.Revalidate)
}

// Join is the name of an object of the mirror at dir, which is empty for the place itself.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// LooksLikeDocument reports whether a name ends like that of the document of a package.
func LooksLikeDocument(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, ".spec.manifest.json") || strings.HasSuffix(base, ".spec.json") || strings.HasSuffix(base, ".spec.json.sig")
}
