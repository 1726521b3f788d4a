// Package buildcache describes the content of a mirror: packages, the objects that their documents point at,
// keys and indices, and how a layout stores each of them.
//
// All differences between layouts v3 and v2 are behind the Layout interface. A layout reads from the given
// reader and writes to the given store. It makes no decisions and no retries. A Survey finds out what a
// mirror holds, as far as an operation needs it, in as few requests as possible.
package buildcache

import (
	"context"
	"crypto/md5" // to compare with ETags; it protects nothing
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Layout holds the differences between the layouts of a buildcache.
type Layout interface {
	// Name is "v3" or "v2".
	Name() string
	// Generations are the formats of its specs and indices, the older ones first.
	Generations() []indices.Generation

	// ParsePackageName recognises the name of a package's document.
	ParsePackageName(name string) (layout.SpecName, bool)
	// ParseKeyName recognises the name of the document of a key.
	ParseKeyName(name string) (key.Fingerprint, bool)
	// SignedName returns the name of a package's document after signing. It is false if the name stays file.
	SignedName(file string) (string, bool)
	// Directories returns the directories of package documents and of keys, for listing.
	Directories() (packages, keys string)
	// Small is a range that holds the keys, the layout marker and little else.
	Small() mirror.Range
	// DocumentsOf returns the directory of the documents of all packages with this name. It may hold other
	// documents, too.
	DocumentsOf(name string) string
	// Owns reports whether the name of an object, or of a directory with a slash at its end, belongs to the layout.
	Owns(name string) bool
	// Detect reports whether a directory holds a mirror, given which directories are in it.
	Detect(isDir func(name string) bool) bool
	// Ranges splits a mirror of about this many packages into ranges of about a page each, so that all pages
	// are requested at once.
	Ranges(packages int64) []mirror.Range
	// Everything splits all objects that the layout owns, of any name, into ranges that are listed
	// concurrently. objects is their approximate number.
	Everything(objects int64) []mirror.Range
	// Root is the directory by which a mirror of the layout is found in a tree, with a slash at its end.
	Root() string
	// Pointers is the prefix of the names of all index pointers.
	Pointers() string
	// Pages returns how many pages a listing of a directory takes in a mirror of about this many objects.
	Pages(dir string, objects int64) int64

	// Payload is the prefix of the names of content that documents point at, and IsPayload recognises such a name.
	Payload() string
	IsPayload(name string) bool
	// NamesContent reports whether the name of content follows from its digest, so that the content never
	// changes. BlobName returns that name.
	NamesContent() bool
	BlobName(d blob.Digest) (name string, ok bool)
	// ParseTarballName recognises a tarball whose name does not follow from its content.
	ParseTarballName(name string) (spec.Hash, bool)
	// DocumentNames returns the possible names of a package's document, the one that clients try first at the
	// front. It is false if the names contain the toolchain and the toolchain is not known.
	DocumentNames(n *spec.Node, by func() Toolchain) ([]string, bool)

	// ParseDocument reads a package's document. In layout v2 this includes the spec. The error is a
	// *ContentError.
	ParseDocument(name string, content []byte, specs *spec.Reader) (*Package, error)
	// ReadSpec completes p.Spec and checks that the document describes the package that its name says. The
	// error is a *ContentError if the spec was read but cannot be used.
	ReadSpec(ctx context.Context, r mirror.Reader, p *Package, specs *spec.Reader) error

	// ReadPointer reads the pointer, which names the current indices. In layout v2 that is the index itself.
	ReadPointer(ctx context.Context, r mirror.Reader) (*Pointer, error)
	// Incomplete reports whether the publisher of the index that p points at died before it had written all
	// objects of the index. Clients can use such an index, and the next publisher completes it.
	Incomplete(ctx context.Context, r mirror.Reader, p *Pointer) (bool, error)
	// ReadIndex reads the documents that p points at.
	ReadIndex(ctx context.Context, r mirror.Reader, p *Pointer) (*indices.Set, error)
	// WriteIndex makes x the current indices if the pointer is still was. Otherwise the error is
	// mirror.ErrConflict. past lists the packages that the new pointer keeps out. If was already points at x,
	// the pointer is not written: a client that holds its ETag would lose its copy of the index
	// (docs/layouts.md).
	WriteIndex(ctx context.Context, s mirror.Store, was *Pointer, x *indices.Set, past history.Past, prepared Prepared) (*Pointer, error)
	// CompleteIndex updates the objects that accompany the index now, which WriteIndex has returned. It tries
	// once. The error is mirror.ErrConflict if another publisher was faster.
	CompleteIndex(ctx context.Context, s mirror.Store, now *Pointer) error
	// Glance reads which indices there are, but not what they offer, in as few bytes as possible. It serves
	// to follow receipts. In layout v2 the digest may belong to an index that has just been replaced.
	Glance(ctx context.Context, r mirror.Reader) (*Pointer, error)
	// PointerSize returns how many bytes WriteIndex stores for x in addition to the index documents.
	PointerSize(was *Pointer, x *indices.Set) (int64, error)
	// IndexNames returns the fixed names that WriteIndex writes, the name that clients read at the front.
	IndexNames() []string
	// ReadChecksum reads the object with which clients check whether their copy of the index is current. The
	// name is empty if the layout has no such object.
	ReadChecksum(ctx context.Context, r mirror.Reader) (name, checksum string, err error)
	// ParseViewName recognises the name of the pointer of a named index.
	ParseViewName(name string) (view string, ok bool)
	// View returns the same layout with a named index in place of the index of the whole mirror, whose name
	// is empty. It is false if the layout has no named indices.
	View(name string) (Layout, bool)
	// ViewName is the name of the index; empty for the index of the whole mirror.
	ViewName() string
	// IndexID identifies the index among those of a mirror.
	IndexID() string

	// ReadKey reads a key and checks that it is the key that its name says. It returns uploads in the order
	// in which they must be stored.
	ReadKey(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error)
	// Resolve returns the blob that the document of a key or of the index of keys points at. It is false if
	// the document is the content itself.
	Resolve(ctx context.Context, r mirror.Reader, name string, f manifest.Family) (Object, bool, error)
	// KeyName is the name of the document of a key.
	KeyName(f key.Fingerprint) string
	// RetiredKeyName is the name of the mark that says whether a key is retired: see Retired.
	RetiredKeyName(f key.Fingerprint) string
	// KeyObjects returns the uploads that publish a key, in the order in which they must be stored.
	KeyObjects(f key.Fingerprint, armored []byte) ([]Object, error)
	// ReadKeyIndex returns the keys that the mirror offers to clients and the version of the object that
	// lists them.
	ReadKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error)
	// KeyIndexName is the fixed name of the object in which clients find the keys.
	KeyIndexName() string
	// KeyIndex returns the objects that list keys for clients, in the order in which they must be stored. The
	// last one has a fixed name.
	KeyIndex(keys []key.Fingerprint) ([]Object, error)

	// Marker is the object that declares the layout, if there is one.
	Marker() (Object, bool)
}

// Prepared is called with the pointer of new indices, and returns before that pointer is written. It reports
// whether the history record that the pointer names is stored. It may be nil.
type Prepared func(now *Pointer) (recorded bool, err error)

// The supported layouts.
var (
	V3 Layout = v3{}
	V2 Layout = v2{}
)

// Layouts returns all layouts, starting with the one that Spack writes today.
func Layouts() []Layout { return []Layout{V3, V2} }

// LayoutNames returns the names of all layouts.
func LayoutNames() (names []string) {
	for _, l := range Layouts() {
		names = append(names, l.Name())
	}
	return names
}

// LayoutNamed returns the layout with a name: v3 or v2.
func LayoutNamed(name string) (Layout, bool) {
	for _, l := range Layouts() {
		if l.Name() == name {
			return l, true
		}
	}
	return nil, false
}

// Limits on content that is read completely. They are far above what Spack writes, and keep a damaged or hostile
// mirror from filling memory.
const (
	MaxDocument = 16 << 20 // a package's document; a v2 one holds the whole spec
	MaxPointer  = 4 << 20  // an index or key manifest
	MaxKeys     = 16 << 20 // an armored key, an index of keys
	MaxIndex    = 4 << 30  // an index document
	// MaxHeld limits the bytes that the specs of all packages of a mirror take in memory. An index of two
	// million packages has about as many.
	MaxHeld = 2 << 30
)

// MD5 returns the MD5 of a small object in hexadecimal, which is its ETag in S3.
func MD5(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

// DocumentOf returns the document of a package as an object.
func DocumentOf(p *Package) Object {
	contentType := JsonType
	if p.Signed {
		contentType = "text/plain"
	}
	o := NewObject(p.File, p.Document, contentType, layout.Revalidate)
	if p.Document == nil { // the document was not read
		o.Content = nil
	}
	return o
}

// View returns layout v3 with a view in place of the index of the whole mirror, whose name is empty.
func View(name string) Layout {
	l, _ := V3.View(name)
	return l
}

// Views lists the views of a mirror, sorted.
func Views(ctx context.Context, l mirror.Lister) ([]string, error) {
	var views []string
	for info, err := range l.List(ctx, mirror.Range{Prefix: View("").Pointers()}) {
		if err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		if view, ok := View("").ParseViewName(info.Name); ok {
			views = append(views, view)
		}
	}
	slices.Sort(views)
	return views, nil
}

// Pointers returns the names of the index objects that a client of the mirror at a path reads.
func Pointers(path string, l Layout) []string {
	var names []string
	for _, name := range l.IndexNames() {
		names = append(names, Join(path, name))
	}
	return names
}

// Join returns the name of an object of the mirror at dir. dir is empty for a mirror at the root.
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
