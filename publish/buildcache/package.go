package buildcache

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Package is one package of a mirror, as its document describes it.
type Package struct {
	File     string // name of the document
	Document []byte
	Signed   bool
	ToSign   bool       // this publish signs it and replaces a signature that it has
	Was      key.Issuer // key of the replaced signature in the destination; zero: none, or not checked
	Blobs    []Object   // objects that the document points at: the tarball, the spec if it is a blob, others
	layout.SpecName

	// In layout v3, the document labels its blobs: with the format of the spec (0 if Spack does not know it),
	// and the media types of the spec and the tarball.
	format                int
	specType, tarballType string

	UnsignedFile string // name of the document in SOURCE, if signing changes the name

	// Spec is nil until it is read.
	Spec *spec.Spec
	// Licence is the licence in the tarball's recipe, if that was read.
	Licence string
}

// SpecBlob returns the position of the spec in Blobs; -1 if the document holds the spec itself.
func (p *Package) SpecBlob() int {
	if p.specType == "" {
		return -1
	}
	return specBlob
}

// ID returns a readable name of the package.
func (p *Package) ID() string {
	if p.Spec != nil {
		return p.Spec.Root().ID()
	}
	return fmt.Sprintf("%s@%s/%s", p.Package, p.Version, p.Hash.Short())
}

// SourceFile returns the name of a package's document in SOURCE.
func (p *Package) SourceFile() string {
	if p.UnsignedFile != "" {
		return p.UnsignedFile
	}
	return p.File
}

// Issuer returns the key that the document names as its signer. It does not check the signature.
func (p *Package) Issuer() (key.Issuer, bool) {
	if !p.Signed {
		return key.Issuer{}, false
	}
	by, err := key.IssuerOf(p.Document)
	return by, err == nil
}

// An Object is content to be stored under a name.
type Object struct {
	Name         string
	Size         int64       // bytes; -1 if only the source knows
	Digest       blob.Digest // zero if no document says
	Type         string      // Content-Type
	CacheControl string
	Of           string // readable name of its package; empty if Name says it

	// Content is nil if the object was not read, or is not in the source.
	Content blob.Source
}

func (o Object) Upload() mirror.Upload {
	return mirror.Upload{Name: o.Name, Content: o.Content, Digest: o.Digest, Type: o.Type, CacheControl: o.CacheControl}
}

// NewObject returns an Object whose content is in memory.
func NewObject(name string, content []byte, contentType, cache string) Object {
	return Object{
		Name: name, Size: int64(len(content)), Digest: blob.DigestOf(content),
		Type: contentType, CacheControl: cache, Content: blob.Bytes(content),
	}
}

// A ContentError reports a document, spec or index that is intact but unusable: Spack's readers fail on it,
// or another version of Spack wrote it. Publishing it again does not help.
type ContentError struct{ err error }

func (e *ContentError) Error() string { return e.err.Error() }
func (e *ContentError) Unwrap() error { return e.err }

// A foreignError reports a package for versions of Spack that this release does not know. Such packages are
// left alone.
type foreignError struct{ err error }

func (e *foreignError) Error() string { return e.err.Error() }

// IsForeign reports whether an error says that another version of Spack wrote a package.
func IsForeign(err error) bool {
	_, label := errors.AsType[*foreignError](err)
	_, format := errors.AsType[*spec.FormatError](err)
	return label || format
}

// content wraps an error in a ContentError. It returns nil if err is nil.
func content(err error) error {
	if err == nil {
		return nil
	}
	return &ContentError{err}
}

// DependencyDocuments returns the possible names of the documents of a package's dependencies, as far as its
// spec is known. It leaves out dependencies that have a document in but.
func DependencyDocuments(f Layout, p *Package, but map[string]bool) []string {
	if p.Spec == nil {
		return nil
	}
	var all []string
	for _, n := range p.Spec.Nodes[1:] {
		names, ok := f.DocumentNames(n, ToolchainIn(n.Record))
		if ok && !n.External && !slices.ContainsFunc(names, func(name string) bool { return but[name] }) {
			all = append(all, names...)
		}
	}
	return all
}
