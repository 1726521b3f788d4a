package reindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache/unpack"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A packageReader reads packages of a mirror and checks that they are complete.
type packageReader struct {
	format buildcache.Layout
	store  mirror.Store
	from   mirror.Reader   // source of documents and specs: the store, or known content
	stored map[string]bool // documents that are known to be stored after their blobs
	seen   *buildcache.Survey
	trust  buildcache.Trust
	specs  *spec.Reader

	// foreign are the documents read so far that another version of Spack wrote.
	foreign map[string]bool
}

func newPackageReader(f buildcache.Layout, s mirror.Store, seen *buildcache.Survey, trust buildcache.Trust) *packageReader {
	return &packageReader{
		format: f, store: s, from: s, stored: make(map[string]bool), seen: seen, trust: trust,
		specs: spec.NewReader(buildcache.MaxHeld), foreign: make(map[string]bool),
	}
}

// readAll returns the complete packages in the order of their names, and a finding for every other one: a
// Warning if Spack cannot read its content, an Error if it is damaged, incomplete or not trusted.
func (r *packageReader) readAll(ctx context.Context, names []string) ([]*buildcache.Package, []buildcache.Finding, error) {
	slices.Sort(names)
	packages := make([]*buildcache.Package, len(names))
	reasons := make([]error, len(names))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(names), func(ctx context.Context, i int) error {
		packages[i], reasons[i] = r.read(ctx, names[i])
		if blameless(reasons[i]) {
			return fmt.Errorf("read %s: %w", names[i], reasons[i])
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, nil, err
	}
	var whole []*buildcache.Package
	var findings []buildcache.Finding
	for i, name := range names {
		if reasons[i] == nil {
			whole = append(whole, packages[i])
			continue
		}
		severity := buildcache.Error
		if _, ok := errors.AsType[*buildcache.ContentError](reasons[i]); ok {
			severity = buildcache.Warning
		}
		if buildcache.IsForeign(reasons[i]) {
			r.foreign[name] = true
		}
		findings = append(findings, severity.In(name, reasons[i].Error()))
	}
	return whole, findings, nil
}

// An unreadError means that a document was not received completely.
type unreadError struct{ err error }

func (e *unreadError) Error() string { return e.err.Error() }
func (e *unreadError) Unwrap() error { return e.err }

// blameless reports whether an error says nothing about the package itself: the storage has a fault, rejects
// our credentials, or ends the transfer early.
func blameless(err error) bool {
	for _, why := range []error{mirror.ErrFault, mirror.ErrCredentials, mirror.ErrNoBucket} {
		if errors.Is(err, why) {
			return true
		}
	}
	_, untrusted := errors.AsType[*mirror.CertificateError](err)
	_, unread := errors.AsType[*unreadError](err)
	return untrusted || unread
}

func (r *packageReader) read(ctx context.Context, name string) (*buildcache.Package, error) {
	// A document of layout v2 holds the whole spec.
	memory := max(0, min(r.seen.Objects[name].Size, buildcache.MaxDocument))
	release, err := unpack.Reserve(ctx, memory)
	if err != nil {
		return nil, err
	}
	document, info, err := mirror.Read(ctx, r.from, name, buildcache.MaxDocument)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = &unreadError{err} // less was received than the object has
	}
	if err == nil {
		err = asListed(r.seen.Objects[name], info, document)
	}
	var p *buildcache.Package
	if err == nil {
		p, err = r.format.ParseDocument(name, document, r.specs)
	}
	release()
	if err != nil {
		return nil, err
	}
	if err := r.trust.Objection(document); err != nil {
		return nil, err
	}
	if !r.stored[name] {
		errs := make([]error, len(p.Blobs)) // report the first blob's error, whichever occurred first
		err := parallel.Each(ctx, parallel.Readers, parallel.Positions(p.Blobs), func(ctx context.Context, i int) error {
			errs[i] = present(ctx, r.store, r.seen, p.Blobs[i])
			return nil
		})
		if err = cmp.Or(append(errs, err)...); err != nil {
			return nil, err
		}
	}
	err = r.format.ReadSpec(ctx, r.from, p, r.specs)
	if _, content := errors.AsType[*buildcache.ContentError](err); !content && errors.Is(err, io.ErrUnexpectedEOF) {
		err = &unreadError{err}
	}
	return p, err
}

// asListed checks that content agrees with the listing. Otherwise a store that sends other content, such as
// the page of a proxy, would look like a mirror full of unreadable packages.
func asListed(listed, info mirror.Info, content []byte) error {
	if listed.Version != info.Version {
		return nil // not listed, or replaced since
	}
	if listed.Size != int64(len(content)) || listed.MD5 != "" && listed.MD5 != buildcache.MD5(content) {
		return mirror.Faultf("it lists %s with %d bytes, and sends %d others under the same version", listed.Name, listed.Size, len(content))
	}
	return nil
}

// present checks that a blob is there, in the survey or by listing its name: blobs and documents are listed
// at different times, and both may have arrived in between.
func present(ctx context.Context, s mirror.Lister, seen *buildcache.Survey, b buildcache.Object) error {
	if seen.Has(b) {
		return nil
	}
	info, err := mirror.Find(ctx, s, b.Name)
	if err != nil || info.Name != "" && (b.Size < 0 || info.Size == b.Size) {
		return err
	}
	return fmt.Errorf("%s, which it points at, %w", b.Name, errMissing)
}

var errMissing = errors.New("is missing or has another size")

// Missing returns the objects of packages that no longer exist, the document last.
func Missing(ctx context.Context, f buildcache.Layout, s mirror.Store, now *buildcache.Pointer, packages []*buildcache.Package) (map[*buildcache.Package][]buildcache.Object, error) {
	var names []string
	for _, p := range packages {
		names = append(names, p.File)
		for _, b := range p.Blobs {
			names = append(names, b.Name)
		}
	}
	seen, err := buildcache.SurveyAt(ctx, f, s, now, names)
	if err != nil {
		return nil, err
	}
	gone := make(map[*buildcache.Package][]buildcache.Object)
	for _, p := range packages {
		document := buildcache.DocumentOf(p)
		document.Size = -1 // another publisher may have stored another document of the package
		for _, o := range append(slices.Clone(p.Blobs), document) {
			if err := present(ctx, s, seen, o); err != nil {
				if ctx.Err() != nil || !errors.Is(err, errMissing) {
					return nil, err
				}
				gone[p] = append(gone[p], o)
			}
		}
	}
	return gone, nil
}

// ReadPackage reads the package whose document has a name. p is nil if the package is incomplete or not
// trusted; then why says what is wrong.
func ReadPackage(ctx context.Context, f buildcache.Layout, s mirror.Store, trust buildcache.Trust, name string) (p *buildcache.Package, why string, err error) {
	packages, findings, err := newPackageReader(f, s, &buildcache.Survey{}, trust).readAll(ctx, []string{name})
	if len(packages) > 0 {
		p = packages[0]
	} else if err == nil {
		why = findings[0].Reason
	}
	return p, why, err
}

// Deleted returns the error for an object that another program deleted while its package was published.
func Deleted(o buildcache.Object, p *buildcache.Package) error {
	return fmt.Errorf("%s was deleted from the destination while %s was published: publish it again", o.Name, p.ID())
}
