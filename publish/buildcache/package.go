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

// A Package is one package in a mirror, as its document tells.
type Package struct {
	File     string // name of the document
	Document []byte
	Signed   bool
	ToSign   bool       // by this publish, which replaces the signature if there is one
	Was      key.Issuer // of the signature that this replaces in the destination; zero: there is none, or it was not checked
	Blobs    []Object   // what the document points at: the tarball, the spec where it is one, anything else
	layout.SpecName

	// In layout v3, the document labels its blobs: the format of the spec, 0 if it is none that Spack
	// would look for, and the media types of the spec and the tarball.
	format                int
	specType, tarballType string

	UnsignedFile string // name of the document in SOURCE, if it gets another one by being signed

	// Spec is nil until it was needed.
	Spec *spec.Spec
	// Licence is what the recipe in the tarball says, where it was read.
	Licence string
}

// SpecBlob is the position of the spec among Blobs; -1 if the document holds the spec itself.
func (p *Package) SpecBlob() int {
	if p.specType == "" {
		return -1
	}
	return specBlob
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

// A ContentError reports a document, spec or index that is intact but unusable: Spack's readers fail on it, or another
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

// DependencyDocuments are the names that the documents of what a package depends on may have, as far as its spec
// says, but for those of packages whose document is one of some.
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
