package publish

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// Signing says what a publish signs. Only packages and files that passed every check are signed. All
// signatures are made and verified before the first document is stored.
type Signing struct {
	// Key signs unsigned packages and files. It is one of the trusted keys. Nil: nothing is signed.
	Key *sign.Key
	// Resign also replaces signatures by other keys, in SOURCE and in the destination. Trust.Keys must accept them.
	Resign bool
}

// signs reports whether a package gets a signature.
func (s Signing) signs(p *buildcache.Package) bool {
	switch {
	case s.Key == nil:
		return false
	case !p.Signed:
		return true
	case !s.Resign:
		return false
	}
	by, _ := p.Issuer()
	return !s.Key.Public().Made(by)
}

// mark marks the packages of a mirror that get a signature, and returns the packages to publish. In layout v2
// a signed document has its own name. If the source has both, the unsigned one is dropped.
func (s Signing) mark(l buildcache.Layout, packages []*buildcache.Package) []*buildcache.Package {
	if s.Key == nil {
		return packages
	}
	signed := make(map[string]bool)
	for _, p := range packages {
		signed[p.File] = p.Signed
	}
	return slices.DeleteFunc(packages, func(p *buildcache.Package) bool {
		p.ToSign = s.signs(p)
		name, ok := l.SignedName(p.File)
		if !ok {
			return false
		}
		p.UnsignedFile, p.File = p.File, name
		return signed[name] // SOURCE has it signed as well
	})
}

// A signature adds between minSignature and maxSignature bytes to a document. Those of gpg take 270 (ed25519)
// to 900 (RSA of 4096 bits).
const minSignature, maxSignature = 200, 4096

// compareSigned compares a package that gets a signature with the destination's document. Signatures differ
// each time they are made, so the document has to be read. It is not read if the run would keep another
// document anyway, all blobs are there, and the size is that of a signed document: then it is assumed to be
// this package, signed before.
func (d *decision) compareSigned(ctx context.Context, p *buildcache.Package, info mirror.Info) (comparison, error) {
	o := d.plan.options
	text, err := sign.TextOf(p.Document)
	if err != nil {
		return comparison{status: New}, nil // checkPackage reports why it cannot be signed
	}
	added := info.Size - int64(len(text))
	missing := slices.ContainsFunc(p.Blobs, func(b buildcache.Object) bool { return !d.seen.Has(b) })
	if o.IfExists == Skip && !o.Sign.Resign && !missing && info.MD5 != "" && added >= minSignature && added <= maxSignature {
		return comparison{status: Unchanged, assumed: true}, nil
	}
	content, read, err := mirror.Read(ctx, d.out.store, info.Name, buildcache.MaxDocument)
	if err != nil {
		return comparison{}, err
	}
	there, err := sign.TextOf(content)
	objection := o.Trust.Objection(content)
	by, _ := key.IssuerOf(content)
	resigns := key.Signed(content) && o.Sign.Resign && o.IfExists != Refuse
	switch same := err == nil && string(there) == string(text); {
	case same && o.Sign.Key.Verify(content) == nil && objection == nil:
		return comparison{status: Unchanged}, nil
	case same && resigns && objection == nil:
		p.Was = by
	case same && resigns && string(content) == string(p.Document): // refused together with the source's document
	case same && (o.IfExists == Overwrite || o.IfExists != Refuse && !key.Signed(content) || resigns && o.Sign.Key.Public().Made(by)):
	case same && resigns:
		return comparison{refusal: notResigned + objection.Error()}, nil
	default:
		return d.differs(ctx, p, read)
	}
	return comparison{status: Replaced, was: read.Version}, nil
}

// notResigned precedes the reason why a signature at the destination is not replaced.
const notResigned = "the destination holds it with a signature that is not replaced, unless if-exists is overwrite: "

// issuer returns the key that signed a package or will sign it; zero: none.
func (s Signing) issuer(p *buildcache.Package) key.Issuer {
	if p.ToSign {
		return s.Key.Public().Issuer()
	}
	by, _ := p.Issuer()
	return by
}

// sign makes all signatures. If it fails, no document has been stored.
func (a *application) sign(ctx context.Context) error {
	if a.plan.options.Sign.Key == nil {
		return nil
	}
	for _, m := range a.mirrors {
		for _, wave := range m.documents {
			err := parallel.Each(ctx, writers, parallel.Positions(wave), func(ctx context.Context, i int) (err error) {
				wave[i], err = a.signed(ctx, wave[i])
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	for _, f := range a.files {
		if err := f.sign(ctx, a.plan.options.Sign.Key); err != nil {
			return err
		}
	}
	return nil
}

// signed returns a document as it is stored.
func (a *application) signed(ctx context.Context, w Write) (Write, error) {
	if !w.pkg.ToSign {
		return w, nil
	}
	text, err := sign.TextOf(w.pkg.Document)
	if err != nil {
		return w, fmt.Errorf("%s: %w", w.Name, err)
	}
	document, err := a.plan.options.Sign.Key.Document(ctx, text)
	if err != nil {
		return w, fmt.Errorf("%s: %w", w.Name, err)
	}
	w.Object = buildcache.NewObject(w.Name, document, "text/plain", layout.Revalidate)
	return w, nil
}

// compareSignature compares a signature that is not made yet with the destination's. file is the status of
// the signed file. A signature beside the same file belongs to that file.
func (p *Plan) compareSignature(ctx context.Context, f *FilePlan, name string, file Status) (Status, mirror.Version, error) {
	there, err := mirror.Find(ctx, f.store, name)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("list %s: %w", name, err)
	case there.Name == "":
		return New, mirror.Absent, nil
	case file == Unchanged && p.options.Trust.Keys != nil:
		return p.judgeSignature(ctx, f, there)
	case file != New:
		return file, there.Version, nil
	}
	status, was := p.options.IfExists.other(there)
	return status, was, nil
}

// judgeSignature checks a signature that the destination holds beside the same file, and decides whether to
// replace it.
func (p *Plan) judgeSignature(ctx context.Context, f *FilePlan, there mirror.Info) (Status, mirror.Version, error) {
	o := p.options
	by, version, objection, err := same.Detached(ctx, f.store, there, f.content, o.Trust.Keys)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("check the signature: %w", err)
	case objection != nil && o.Sign.Key != nil && (o.IfExists == Overwrite || o.Sign.Resign && o.Sign.Key.Public().Made(by)):
		return Replaced, version, nil
	case objection != nil && o.Sign.Resign:
		p.Findings = append(p.Findings, buildcache.Error.In(there.Name, notResigned+objection.Error()))
		f.Status = Rejected
	case objection != nil:
		p.Findings = append(p.Findings, buildcache.Warning.In(there.Name, "clients are offered it, but: "+objection.Error()))
	case o.Sign.Resign && !o.Sign.Key.Public().Made(by):
		f.was = by
		return Replaced, version, nil
	}
	return Unchanged, "", nil
}

// sign makes the signatures of a file that the plan has without content.
func (f *FilePlan) sign(ctx context.Context, k *sign.Key) error {
	for i, w := range f.Writes {
		if w.Content != nil {
			continue
		}
		signature, err := k.Detached(ctx, func() (io.ReadCloser, error) { return blob.Stream(f.content) })
		if err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
		f.Writes[i].Object = buildcache.NewObject(w.Name, signature, w.Type, w.CacheControl)
	}
	return nil
}

// SigningKey returns the key that a plan signs with; empty: none.
func (p *Plan) SigningKey() key.Fingerprint {
	if p.options.Sign.Key == nil {
		return ""
	}
	return p.options.Sign.Key.Fingerprint()
}

// Signs reports whether the plan makes signatures.
func (p *Plan) Signs() bool {
	return slices.ContainsFunc(p.Mirrors, func(m *MirrorPlan) bool {
		return slices.ContainsFunc(slices.Concat(m.Documents...), func(w Write) bool { return w.pkg.ToSign })
	}) || slices.ContainsFunc(p.Files, func(f *FilePlan) bool {
		return slices.ContainsFunc(f.Writes, func(w Write) bool { return w.Content == nil })
	})
}

// Replaces returns the key whose signature of a package is replaced, in the destination or else only in the
// source. Empty: the package has no signature, or keeps it.
func (p PlannedPackage) Replaces() string {
	by, _ := p.Issuer()
	if by = cmp.Or(p.Was, by); by == (key.Issuer{}) || !p.ToSign || p.Status != New && p.Status != Replaced {
		return ""
	}
	return by.String()
}

// Replaces returns the key whose signature of a file is replaced, in the destination or else only in the
// source. Empty: the file has no signature, or keeps it.
func (f *FilePlan) Replaces() string {
	if f.was == (key.Issuer{}) || !slices.ContainsFunc(f.Writes, func(w Write) bool { return w.Content == nil }) {
		return ""
	}
	return f.was.String()
}
