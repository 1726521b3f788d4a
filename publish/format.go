package publish

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

// A format is what differs between the layouts of a buildcache.
type format interface {
	// layout is "v3" or "v2".
	layout() string
	// generations are the formats of its specs and indices, the older ones first.
	generations() []generation

	// packageName recognises the name of a package's document.
	packageName(name string) (layout.SpecName, bool)
	// keyName recognises the name of the document that makes a key known.
	keyName(name string) (key.Fingerprint, bool)
	// directories are where package documents and keys are, for listing.
	directories() (packages, keys string)

	// document reads a package's document. Of layout v2 it yields the spec as well. The error is a
	// *contentError.
	document(name string, content []byte, specs *spec.Reader) (*Package, error)
	// readSpec completes p.Spec and checks that the document is about the package
	// that its name says. The error is a *contentError if the spec was read and will not do.
	readSpec(ctx context.Context, r mirror.Reader, p *Package, specs *spec.Reader) error

	// readPointer reads what says which index there is. Of layout v2 that is the index itself.
	readPointer(ctx context.Context, r mirror.Reader) (*pointer, error)
	// halfway reports whether whoever wrote the index that p points at died before all of its
	// objects were written. A client can use it, and the next publisher completes it.
	halfway(ctx context.Context, r mirror.Reader, p *pointer) (bool, error)
	// readIndex reads the documents that p points at.
	readIndex(ctx context.Context, r mirror.Reader, p *pointer) (*indices, error)
	// writeIndex makes x the indices if the pointer still is was: mirror.ErrConflict if not. Where they are
	// what was points at already, the pointer is not written: a client that holds its
	// ETag would lose its copy of the index (docs/layouts.md).
	writeIndex(ctx context.Context, s mirror.Store, was *pointer, x *indices) (*pointer, error)
	// completeIndex tries once to bring what belongs to an index in line with it, after writeIndex:
	// mirror.ErrConflict if another publisher was faster.
	completeIndex(ctx context.Context, s mirror.Store) error
	// pointerSize is how many bytes writeIndex stores for x besides the documents themselves.
	pointerSize(was *pointer, x *indices) (int64, error)
	// indexWrites are the names that writeIndex writes at fixed names.
	indexWrites() []string

	// key reads a key and makes sure that it is the one that its name says: uploads in the
	// order in which they are made.
	key(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error)
	// keyDocument is the name of the document that makes a key known.
	keyDocument(f key.Fingerprint) string
	// keyObjects are the uploads that make a key known, in the order in which they are made.
	keyObjects(f key.Fingerprint, armored []byte) ([]Object, error)
	// readKeyIndex returns the keys that clients are told of, and the version of
	// the object that tells them.
	readKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error)
	// keyIndex are the objects that tell clients of keys, in the order in which they are
	// stored: the last one has a fixed name.
	keyIndex(keys []key.Fingerprint) ([]Object, error)

	// marker is the object that declares the layout, if there is one.
	marker() (Object, bool)
}

// The layouts that there are.
var (
	formatV3 format = v3{}
	formatV2 format = v2{}
)

// layouts are all of them, the one that Spack writes today first.
func layouts() []format { return []format{formatV3, formatV2} }

// A pointer says which indices a mirror has.
type pointer struct {
	Version mirror.Version // of the object at the fixed name; Absent if there is no index
	// Coverage is what the indices offer, where the pointer says so.
	Coverage index.Coverage
	// Turned is when the object at the fixed name was stored.
	Turned time.Time

	refs     []indexRef         // of each generation of the layout
	checked  bool               // the writer of the indices made sure that Spack can read them
	manifest *manifest.Manifest // of layout v3, as it was read: it may name what we do not know
	content  []byte             // of layout v2: the index document, which is the pointer
	broken   error              // why the object at the fixed name points at nothing
	halfway  bool               // see format.halfway
	text     []byte             // of the object at the fixed name, where broken
	proofs   []string           // what was proved of the storage when the pointer was written: see mirror.Prover
	proof    string             // what must be proved before the pointer is replaced; empty: nothing more
}

// An indexRef is the document of an index. Its Digest is not known where there is none.
type indexRef struct {
	Digest blob.Digest
	Size   int64 // bytes
}

func newPointer(f format) *pointer {
	return &pointer{Version: mirror.Absent, refs: make([]indexRef, len(f.generations()))}
}

// digest identifies the indices: the SHA-256 of the document, or those of several with a + between
// them; empty if there is none.
func (p *pointer) digest() string {
	var all []string
	for _, ref := range p.refs {
		if ref.Digest.Known() {
			all = append(all, ref.Digest.String())
		}
	}
	return strings.Join(all, "+")
}

// size is that of all index documents, in bytes.
func (p *pointer) size() int64 {
	var n int64
	for _, ref := range p.refs {
		n += ref.Size
	}
	return n
}

// needsProof notes what must be proved of a store before the pointer is replaced.
func (p *pointer) needsProof(s mirror.Store) {
	prover := mirror.ProverOf(s)
	if prover == nil {
		return
	}
	if proof := prover.Proof(p.Version); proof != "" && !slices.Contains(p.proofs, proof) {
		p.proof = proof
	}
}

// proved is what is known of the storage when the pointer has been replaced.
func (p *pointer) proved() []string {
	if p.proof == "" {
		return p.proofs
	}
	return append(slices.Clone(p.proofs), p.proof)
}

// whichIndex reads what a publisher must know of the index before it writes.
func whichIndex(ctx context.Context, f format, r mirror.Reader) (*pointer, error) {
	p, err := f.readPointer(ctx, r)
	if err != nil {
		return nil, err
	}
	p.halfway, err = f.halfway(ctx, r, p)
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

	unsignedFile string // name of the document in SOURCE, if it gets another one by being signed

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

// file is the name of a package's document in SOURCE.
func (p *Package) file() string {
	if p.unsignedFile != "" {
		return p.unsignedFile
	}
	return p.File
}

// issuer tells which key the package was signed with, as its document says; the signature is not checked.
func (p *Package) issuer() (key.Issuer, bool) {
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

func (o Object) upload() mirror.Upload {
	return mirror.Upload{Name: o.Name, Content: o.Content, Digest: o.Digest, Type: o.Type, CacheControl: o.CacheControl}
}

// object is an Object in memory.
func object(name string, content []byte, contentType, cache string) Object {
	return Object{
		Name: name, Size: int64(len(content)), Digest: blob.DigestOf(content),
		Type: contentType, CacheControl: cache, Content: blob.Bytes(content),
	}
}

// Limits on what is read whole. They are far above what Spack writes and keep a
// damaged or hostile mirror from filling memory.
const (
	maxDocument = 16 << 20 // a package's document; a v2 one holds the whole spec
	maxSpec     = 16 << 20 // what a spec blob unpacks to
	maxPointer  = 4 << 20  // an index or key manifest
	maxKeys     = 16 << 20 // an armored key, an index of keys
	maxIndex    = 4 << 30  // an index document
)

// A contentError reports a document or spec that is intact but unusable: Spack's readers fail on it, or another
// version of Spack wrote it. Publishing it again would not help.
type contentError struct{ err error }

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// A foreignError reports a package for versions of Spack that this release does not know. It is left alone.
type foreignError struct{ err error }

func (e *foreignError) Error() string { return e.err.Error() }

// foreign reports whether an error says that another version of Spack wrote a package.
func foreign(err error) bool {
	_, label := errors.AsType[*foreignError](err)
	_, format := errors.AsType[*spec.FormatError](err)
	return label || format
}

// content makes an error one about content. It is nil if err is.
func content(err error) error {
	if err == nil {
		return nil
	}
	return &contentError{err}
}

// md5Of is the MD5 of a small object in hexadecimal: the ETag that S3 gives it.
func md5Of(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

// documentOf is the object that makes a package reachable.
func documentOf(p *Package) Object {
	contentType := jsonType
	if p.Signed {
		contentType = "text/plain"
	}
	return object(p.File, p.Document, contentType, layout.Revalidate)
}

// join is the name of an object of the mirror at dir, which is empty for the place itself.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// looksLikeDocument reports whether a name ends like that of the document of a package.
func looksLikeDocument(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, ".spec.manifest.json") || strings.HasSuffix(base, ".spec.json") || strings.HasSuffix(base, ".spec.json.sig")
}
