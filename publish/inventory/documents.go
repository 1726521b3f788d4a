package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Document is the object that makes a build installable: it points at the tarball.
type Document struct {
	*Build
	Name     string
	Size     int64 // bytes
	SHA256   blob.Digest
	Stored   time.Time
	Signed   bool
	Signer   string    // key id or fingerprint named by the signature; empty if it names none
	Judged   Judgement // result of checking the signature
	Blobs    []Blob
	Unusable error // why the document cannot be used; nil if it can
}

// A Blob is an object that a document points at.
type Blob struct {
	Name    string      `json:"name"`
	Size    int64       `json:"bytes"`
	Digest  blob.Digest `json:"-"`
	Tarball bool        `json:"tarball"`
}

// Tarball returns the blob that is unpacked when a package is installed; nil if there is none.
func (d *Document) Tarball() *Blob {
	for i := range d.Blobs {
		if d.Blobs[i].Tarball {
			return &d.Blobs[i]
		}
	}
	return nil
}

// Bytes returns the size of a document and all its blobs.
func (d *Document) Bytes() int64 {
	n := d.Size
	for _, b := range d.Blobs {
		n += b.Size
	}
	return n
}

// A Judgement says whether the signature of a document is valid and by a trusted key.
type Judgement int

// NotJudged: the signature was not checked. Trusted: it is valid and by a trusted key. NotTrusted: it is not,
// or there is none.
const (
	NotJudged Judgement = iota
	Trusted
	NotTrusted
)

// Documents reads the documents of builds, in their order.
func Documents(ctx context.Context, r mirror.Reader, builds []*Build) ([]*Document, error) {
	return JudgedDocuments(ctx, r, builds, nil)
}

// JudgedDocuments is Documents that also checks signatures against trusted keys. Nil: they are not checked.
func JudgedDocuments(ctx context.Context, r mirror.Reader, builds []*Build, trusted *key.Ring) ([]*Document, error) {
	all := make([]*Document, len(builds))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(builds), func(ctx context.Context, i int) error {
		d, err := readDocument(ctx, r, builds[i], trusted)
		all[i] = d
		return err
	})
	return all, err
}

// readDocument returns an error if the mirror cannot be read. A defect of the document is in Unusable.
func readDocument(ctx context.Context, r mirror.Reader, b *Build, trusted *key.Ring) (*Document, error) {
	d := &Document{Build: b}
	var denied error // as in Read
	for _, name := range b.Documents() {
		text, info, err := mirror.Read(ctx, r, name, buildcache.MaxDocument)
		if errors.Is(err, mirror.ErrNotExist) {
			continue
		}
		if errors.Is(err, mirror.ErrDenied) {
			denied = fmt.Errorf("read %s: %w", name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		d.Name, d.Size, d.SHA256, d.Stored = name, info.Size, blob.DigestOf(text), info.Modified
		if d.Signed = key.Signed(text); d.Signed {
			if issuer, err := key.IssuerOf(text); err == nil {
				d.Signer = issuer.String()
			}
		}
		d.judge(text, trusted)
		return d, d.point(ctx, r, text)
	}
	if denied != nil {
		return nil, denied
	}
	d.Unusable = errors.New("its document is not there: run publish verify")
	return d, nil
}

func (d *Document) judge(text []byte, trusted *key.Ring) {
	if trusted == nil {
		return
	}
	d.Judged = NotTrusted
	if d.Signed {
		if _, err := trusted.Verify(text); err == nil {
			d.Judged = Trusted
		}
	}
}

// point fills in the blobs that a document points at.
func (d *Document) point(ctx context.Context, r mirror.Reader, text []byte) error {
	p, err := d.layout.ParseDocument(d.Name, text, spec.NewReader(buildcache.MaxDocument))
	if err != nil {
		d.Unusable = fmt.Errorf("%w: run publish verify", err)
		return nil
	}
	for i, b := range p.Blobs {
		if b.Size < 0 { // only the object shows its size
			info, err := r.Stat(ctx, b.Name)
			if errors.Is(err, mirror.ErrNotExist) {
				d.Unusable = fmt.Errorf("%s is not there: run publish verify", b.Name)
				return nil
			}
			if err != nil {
				return fmt.Errorf("look at %s: %w", b.Name, err)
			}
			b.Size = info.Size
		}
		d.Blobs = append(d.Blobs, Blob{b.Name, b.Size, b.Digest, i == buildcache.TarballBlob})
	}
	return nil
}
