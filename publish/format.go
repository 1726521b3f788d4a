package publish

import (
	"context"
	"crypto/md5" // to compare with ETags; it protects nothing
	"encoding/hex"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A format is what differs between the layouts of a buildcache.
type format interface {
	// layout is "v3" or "v2".
	layout() string
	// indexVersion is that of its index documents.
	indexVersion() int

	// packageName recognises the name of a package's document.
	packageName(name string) (layout.SpecName, bool)
	// keyName recognises the name of the document that makes a key known.
	keyName(name string) (key.Fingerprint, bool)
	// directories are where package documents and keys are, for listing.
	directories() (packages, keys string)

	// document reads a package's document. Of layout v2 it yields the spec as well.
	document(name string, content []byte) (*Package, error)
	// readSpec completes p.Spec and checks that the document is about the package
	// that its name says.
	readSpec(ctx context.Context, r mirror.Reader, p *Package) error

	// readPointer reads what says which index there is. Of layout v2 that is the index itself.
	readPointer(ctx context.Context, r mirror.Reader) (*pointer, error)
	// halfway reports whether whoever wrote the index that p points at died before all of its
	// objects were written. A client can use it, and the next publisher completes it.
	halfway(ctx context.Context, r mirror.Reader, p *pointer) (bool, error)
	// readIndex reads the document that p points at.
	readIndex(ctx context.Context, r mirror.Reader, p *pointer) (*index.Index, error)
	// writeIndex makes x the index if the pointer still is was: mirror.ErrConflict if not.
	writeIndex(ctx context.Context, s Store, was *pointer, x *index.Index) (*pointer, error)
	// pointerSize is how many bytes writeIndex stores for x besides the document itself.
	pointerSize(x *index.Index) (int64, error)
	// indexWrites are the names that writeIndex writes at fixed names.
	indexWrites() []string

	// key reads a key and makes sure that it is the one that its name says: uploads in the
	// order in which they are made.
	key(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error)
	// readKeyIndex returns the keys that clients are told of, and the version of
	// the object that tells them.
	readKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error)
	// keyIndex are the objects that tell clients of keys, in the order in which they are
	// stored: the last one has a fixed name.
	keyIndex(keys []key.Fingerprint) ([]Object, error)

	// marker is the object that declares the layout, if there is one.
	marker() (Object, bool)
}

// A pointer says which index a mirror has.
type pointer struct {
	Version mirror.Version // of the object at the fixed name; Absent if there is no index
	Digest  blob.Digest    // of the index document
	Size    int64          // of the index document, in bytes
	// Coverage is what the index offers, where the pointer says so.
	Coverage index.Coverage
	// Turned is when the object at the fixed name was stored.
	Turned time.Time

	content []byte // the index document, where it was read along with the pointer
	broken  error  // why the object at the fixed name points at nothing
	halfway bool   // see format.halfway
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
	Blobs    []Object // what the document points at, the tarball first
	layout.SpecName

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
	maxDocument = 64 << 20 // a package's document; a v2 one holds the whole spec
	maxSpec     = 64 << 20 // a spec blob, and what it unpacks to
	maxPointer  = 4 << 20  // an index or key manifest
	maxKeys     = 16 << 20 // an armored key, an index of keys
	maxIndex    = 4 << 30  // an index document
)

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
