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

// A Layout is what differs between the layouts of a buildcache.
type Layout interface {
	// Name is "v3" or "v2".
	Name() string
	// Generations are the formats of its specs and indices, the older ones first.
	Generations() []indices.Generation

	// ParsePackageName recognises the name of a package's document.
	ParsePackageName(name string) (layout.SpecName, bool)
	// ParseKeyName recognises the name of the document that makes a key known.
	ParseKeyName(name string) (key.Fingerprint, bool)
	// SignedName returns the name of a package's document once it is signed, if that is another than file.
	SignedName(file string) (string, bool)
	// Directories are where package documents and keys are, for listing.
	Directories() (packages, keys string)
	// Small is a range that holds the keys, and what marks the layout, and little else.
	Small() mirror.Range
	// DocumentsOf is the directory that holds the documents of all packages of a name, and maybe others.
	DocumentsOf(name string) string
	// Owns reports whether the name of an object, or of a directory with a slash at its end, belongs to the layout.
	Owns(name string) bool
	// Detect reports whether a directory holds a mirror, given which directories are in it.
	Detect(isDir func(name string) bool) bool
	// Ranges splits a mirror of about so many packages into ranges of about a page each, so that all pages are
	// requested at once.
	Ranges(packages int64) []mirror.Range
	// Everything splits all that the layout owns, whatever its name, into ranges that are listed at the same time, for a
	// mirror of about so many objects.
	Everything(objects int64) []mirror.Range
	// Root is the directory by which a mirror of the layout is found in a tree, with a slash at its end.
	Root() string
	// Pointers is the prefix of the names of what says which indices there are.
	Pointers() string
	// Pages is how many pages a listing of a directory takes in a mirror of about so many objects.
	Pages(dir string, objects int64) int64

	// Payload is the prefix of the names of content that documents point at, and IsPayload recognises such a name.
	Payload() string
	IsPayload(name string) bool
	// NamesContent reports whether the name of content follows from its digest, so that it never changes, and BlobName
	// returns that name.
	NamesContent() bool
	BlobName(d blob.Digest) (name string, ok bool)
	// ParseTarballName recognises a tarball whose name does not follow from its content.
	ParseTarballName(name string) (spec.Hash, bool)
	// DocumentNames are the names that the document of a package may have, the one that clients try first before the
	// other. It is false if the toolchain is part of them and not known.
	DocumentNames(n *spec.Node, by func() Toolchain) ([]string, bool)

	// ParseDocument reads a package's document. Of layout v2 it yields the spec as well. The error is a
	// *ContentError.
	ParseDocument(name string, content []byte, specs *spec.Reader) (*Package, error)
	// ReadSpec completes p.Spec and checks that the document is about the package
	// that its name says. The error is a *ContentError if the spec was read and will not do.
	ReadSpec(ctx context.Context, r mirror.Reader, p *Package, specs *spec.Reader) error

	// ReadPointer reads what says which index there is. Of layout v2 that is the index itself.
	ReadPointer(ctx context.Context, r mirror.Reader) (*Pointer, error)
	// Incomplete reports whether the publisher of the index that p points at died before it had written all of its
	// objects. A client can use it, and the next publisher completes it.
	Incomplete(ctx context.Context, r mirror.Reader, p *Pointer) (bool, error)
	// ReadIndex reads the documents that p points at.
	ReadIndex(ctx context.Context, r mirror.Reader, p *Pointer) (*indices.Set, error)
	// WriteIndex makes x the indices if the pointer still is was: mirror.ErrConflict if not. past is what the new
	// pointer says of packages that are kept out. Where x is what was points at already, the pointer is not written:
	// a client that holds its ETag would lose its copy of the index (docs/layouts.md).
	WriteIndex(ctx context.Context, s mirror.Store, was *Pointer, x *indices.Set, past history.Past, prepared Prepared) (*Pointer, error)
	// CompleteIndex tries once to bring what belongs to an index in line with it, after WriteIndex has returned now:
	// mirror.ErrConflict if another publisher was faster.
	CompleteIndex(ctx context.Context, s mirror.Store, now *Pointer) error
	// Glance reads which indices there are and not what they offer, in as few bytes as possible. It is for following
	// receipts: of layout v2 the digest may be that of an index that was replaced a moment ago.
	Glance(ctx context.Context, r mirror.Reader) (*Pointer, error)
	// PointerSize is how many bytes WriteIndex stores for x besides the documents themselves.
	PointerSize(was *Pointer, x *indices.Set) (int64, error)
	// IndexNames are the names that WriteIndex writes at fixed names, the one that clients read first.
	IndexNames() []string
	// ReadChecksum reads the object with which clients compare the index that they have. The name is empty if the
	// layout has none.
	ReadChecksum(ctx context.Context, r mirror.Reader) (name, checksum string, err error)
	// ParseViewName recognises the name of the pointer of a named index.
	ParseViewName(name string) (view string, ok bool)
	// View returns the same layout with a named index in place of the one of the whole mirror, which has the empty
	// name. It is false if the layout has no named indices.
	View(name string) (Layout, bool)
	// ViewName is the name of the index; empty for the one of the whole mirror.
	ViewName() string
	// IndexID identifies the index among those of a mirror.
	IndexID() string

	// ReadKey reads a key and makes sure that it is the one that its name says: uploads in the
	// order in which they are made.
	ReadKey(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error)
	// Resolve returns the blob that the document of a key, or of the index of keys, points at. It is false if the
	// document is the content itself.
	Resolve(ctx context.Context, r mirror.Reader, name string, f manifest.Family) (Object, bool, error)
	// KeyName is the name of the document that makes a key known.
	KeyName(f key.Fingerprint) string
	// RetiredKeyName is the name of the mark that says whether a key was retired: see Retired.
	RetiredKeyName(f key.Fingerprint) string
	// KeyObjects are the uploads that make a key known, in the order in which they are made.
	KeyObjects(f key.Fingerprint, armored []byte) ([]Object, error)
	// ReadKeyIndex returns the keys that the mirror offers to clients, and the version of the object that lists them.
	ReadKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error)
	// KeyIndexName is the fixed name of the object that clients read to learn of keys.
	KeyIndexName() string
	// KeyIndex are the objects that tell clients of keys, in the order in which they are
	// stored: the last one has a fixed name.
	KeyIndex(keys []key.Fingerprint) ([]Object, error)

	// Marker is the object that declares the layout, if there is one.
	Marker() (Object, bool)
}

// Prepared is called with the pointer of new indices, and returns, before that pointer is written. It reports whether
// the record that the pointer names is stored. It may be nil.
type Prepared func(now *Pointer) (recorded bool, err error)

// The layouts that there are.
var (
	V3 Layout = v3{}
	V2 Layout = v2{}
)

// Layouts are all of them, the one that Spack writes today first.
func Layouts() []Layout { return []Layout{V3, V2} }

// LayoutNames are their names.
func LayoutNames() (names []string) {
	for _, l := range Layouts() {
		names = append(names, l.Name())
	}
	return names
}

// LayoutNamed returns the layout of a name: v3 or v2.
func LayoutNamed(name string) (Layout, bool) {
	for _, l := range Layouts() {
		if l.Name() == name {
			return l, true
		}
	}
	return nil, false
}

// Limits on what is read whole. They are far above what Spack writes and keep a
// damaged or hostile mirror from filling memory.
const (
	MaxDocument = 16 << 20 // a package's document; a v2 one holds the whole spec
	MaxPointer  = 4 << 20  // an index or key manifest
	MaxKeys     = 16 << 20 // an armored key, an index of keys
	MaxIndex    = 4 << 30  // an index document
	// MaxHeld is how many bytes the specs of all packages of a mirror may take in memory: as many as an index of two
	// million packages has.
	MaxHeld = 2 << 30
)

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
	o := NewObject(p.File, p.Document, contentType, layout.Revalidate)
	if p.Document == nil { // it was not read
		o.Content = nil
	}
	return o
}

// View returns the layout that has views, with one of them in place of the index of the whole mirror, which has the
// empty name.
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

// Pointers are the names of what a client of the mirror at a path reads to learn of packages.
func Pointers(path string, l Layout) []string {
	var names []string
	for _, name := range l.IndexNames() {
		names = append(names, Join(path, name))
	}
	return names
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
