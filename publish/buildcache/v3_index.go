package buildcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// ourMember is the member that we add to an index manifest. Spack ignores it.
const ourMember = "slurm-factory-publish"

// ours is the content of our member: facts about the indices that the manifest names.
type ours struct {
	// Of identifies the indices that the other fields describe: see Pointer.Digest.
	Of string `json:"of"`
	// Offers is an index.Coverage, the largest part of a pointer. It is left out if it is too large. Then
	// readers must read the indices instead.
	Offers jsontext.Value `json:"offers,omitzero"`
	// Contract is the revision of the contract with Spack's readers that every record fulfils: see
	// spec.Contract.
	Contract int `json:"contract"`
	// Proofs are the proofs of the storage: see mirror.Prover.
	Proofs []string `json:"proofs,omitempty"`
	// Foreign is kept until a publisher has listed the whole mirror: see Pointer.Foreign.
	Foreign string `json:"foreign,omitempty"`
	history.Place
	history.Past
}

// maxCovered is how many package names a coverage may have. Each takes about 38 bytes in the pointer, which
// every publisher and client reads. Spack has 8,500 (July 2026).
const maxCovered = 40_000

// coverageOf returns the coverage that a pointer stores for indices; nil if it is too large.
func coverageOf(x *indices.Set) index.Coverage {
	if c := x.Coverage(); len(c) <= maxCovered {
		return c
	}
	return nil
}

func (f v3) ReadPointer(ctx context.Context, r mirror.Reader) (*Pointer, error) {
	p, err := f.Glance(ctx, r)
	if err != nil || len(p.offers) == 0 {
		return p, err
	}
	if json.Unmarshal(p.offers, &p.Coverage, jsontext.AllowDuplicateNames(true)) != nil {
		p.Coverage, p.Checked, p.proofs = nil, false, nil // as if the pointer had no such member
		if !p.view {
			p.Foreign = p.Digest()
		}
	}
	p.offers = nil
	return p, nil
}

// Glance reads the pointer without parsing what the indices offer.
func (f v3) Glance(ctx context.Context, r mirror.Reader) (*Pointer, error) {
	p := NewPointer(f)
	p.view = f.view != ""
	text, info, err := mirror.Read(ctx, r, f.IndexNames()[0], MaxPointer)
	if errors.Is(err, mirror.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	p.Version, p.Stored = info.Version, info.Modified
	if p.Broken = p.Parse(text); p.Broken != nil {
		p.text = text
	}
	if p.view {
		p.Foreign = "" // a view is a selection, whichever program made it
	}
	return p, nil
}

// Parse reads an index manifest. A reader uses only records whose media type it knows exactly, so records of
// other versions of Spack are left alone.
func (p *Pointer) Parse(text []byte) error {
	m, err := ReadManifest(text)
	if version, ok := errors.AsType[*manifest.VersionError](err); ok {
		return &index.VersionError{Got: version.Got, Want: manifest.Version}
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(m.Records, func(r manifest.Record) bool { return manifest.FamilyOf(r.MediaType) == manifest.Index }) {
		return fmt.Errorf("manifest: it has no record of type %s", manifest.Index)
	}
	for i, g := range indices.V3Generations {
		rec, ok := m.Typed(manifest.IndexType(g.Index))
		if ok && rec.Unusable() != nil {
			return fmt.Errorf("manifest: record of type %s: %w", rec.MediaType, rec.Unusable())
		}
		if ok {
			p.Refs[i] = IndexRef{rec.Digest, rec.Size}
		}
	}
	p.Manifest, p.Foreign = m, p.Digest()
	var o ours
	// Another program may have replaced an index and kept our member, which is then ignored. As in Python,
	// the last of two members of one name counts: to search for duplicates takes longer than everything else.
	if json.Unmarshal(m.Extra[ourMember], &o, jsontext.AllowDuplicateNames(true)) == nil && o.Of == p.Digest() {
		p.offers, p.Checked, p.proofs, p.Foreign = o.Offers, o.Contract >= spec.Contract, o.Proofs, o.Foreign
		p.Place, p.Past = o.Place, o.Past.Normal()
	}
	return nil
}

// Incomplete is always false: in layout v3 one write replaces all indices.
func (v3) Incomplete(context.Context, mirror.Reader, *Pointer) (bool, error) { return false, nil }

func (f v3) ReadIndex(ctx context.Context, r mirror.Reader, p *Pointer) (*indices.Set, error) {
	if p.Broken != nil {
		return nil, content(fmt.Errorf("%s: %w", f.IndexNames()[0], p.Broken))
	}
	x := indices.New(indices.V3Generations)
	for i, ref := range p.Refs {
		if !ref.Digest.Known() {
			continue
		}
		raw, checked, err := readLargeBlob(ctx, r, Object{Name: layout.V3Blob(ref.Digest), Size: ref.Size, Digest: ref.Digest})
		if err != nil {
			return nil, err
		}
		x.Parts[i], err = index.Parse(raw, indices.V3Generations[i].Index)
		if err := cmp.Or(checked(), content(err)); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// WriteIndex stores each index under its digest and then replaces the pointer. A reader sees either the old
// indices or the new ones, always complete. The old documents stay.
func (f v3) WriteIndex(ctx context.Context, s mirror.Store, was *Pointer, x *indices.Set, past history.Past, prepared Prepared) (*Pointer, error) {
	now := NewPointer(f)
	now.Coverage, now.Checked, now.Refs, now.Foreign, now.Past = coverageOf(x), true, slices.Clone(was.Refs), was.Foreign, past
	sources, err := x.Contents(ctx, now.salt(was))
	if err != nil {
		return nil, err
	}
	var uploads []mirror.Upload
	for i, content := range sources {
		if content == nil {
			continue
		}
		digest, err := blob.Sum(ctx, content)
		if err != nil {
			return nil, err
		}
		o := BlobOf(indexRecord(indices.V3Generations[i], IndexRef{digest, content.Size()}))
		o.Content = content
		uploads = append(uploads, indexUpload(o))
		now.Refs[i] = IndexRef{digest, content.Size()}
	}
	if was.Manifest != nil && slices.Equal(now.Refs, was.Refs) {
		return was, storeIndices(ctx, s, uploads, nothing) // only the index blobs were missing
	}
	now.Place = was.next(now.Digest())
	if err := storeIndices(ctx, s, uploads, func() error { return now.prepare(prepared) }); err != nil {
		return nil, err
	}
	text, err := now.encode(was)
	if err != nil {
		return nil, err
	}
	now.Version, err = s.Swap(ctx, NewObject(f.IndexNames()[0], text, JsonType, layout.Revalidate).Upload(), was.Version)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return now, nil
}

// storeIndices stores the documents of indices and runs beside at the same time.
func storeIndices(ctx context.Context, s mirror.Store, uploads []mirror.Upload, beside func() error) error {
	var g defect.Group
	g.Go(beside)
	var failed error
	for _, u := range uploads {
		if err := s.Create(ctx, u); err != nil {
			failed = fmt.Errorf("index: %w", err)
			break
		}
	}
	return cmp.Or(failed, g.Wait())
}

func nothing() error { return nil }

// An index is sent in few parts: more parts would cost more time in requests than they save.
const (
	indexParts = 5
	indexPart  = 8 << 20 // bytes, at least
	mostOfPart = 32 << 20
)

func indexUpload(o Object) mirror.Upload {
	u := o.Upload()
	u.PartSize = min(mostOfPart, max(indexPart, (o.Size+indexParts-1)/indexParts))
	return u
}

// CompleteIndex has nothing to do: in layout v3 one write replaces all indices.
func (v3) CompleteIndex(context.Context, mirror.Store, *Pointer) error { return nil }

// salt returns text that changes the digest of an index, so that its pointer must be written although clients
// may already have an equal index: one of an earlier epoch, or one named by a pointer that Spack could read
// and we could not.
func (p *Pointer) salt(was *Pointer) string {
	salt := p.Epoch
	if was.Broken != nil && len(was.text) > 0 {
		salt = strings.TrimSpace(salt + " " + blob.DigestOf(was.text).String())
	}
	return salt
}

func indexRecord(g indices.Generation, ref IndexRef) manifest.Record {
	return manifest.Record{Size: ref.Size, MediaType: manifest.IndexType(g.Index), Compression: "none", Digest: ref.Digest}
}

// encode returns the manifest that names p's indices: the manifest of was with the changed records and our
// member.
func (p *Pointer) encode(was *Pointer) ([]byte, error) {
	p.Manifest, p.proofs = new(manifest.Manifest), was.proved()
	if was.Manifest != nil {
		p.Manifest = was.Manifest.Clone()
	}
	for i, ref := range p.Refs {
		if ref.Digest.Known() && ref != was.Refs[i] {
			p.Manifest.Set(indexRecord(indices.V3Generations[i], ref))
		}
	}
	o := ours{Of: p.Digest(), Contract: spec.Contract, Proofs: p.proofs, Foreign: p.Foreign, Place: p.Place, Past: p.Past}
	if p.Coverage != nil {
		var err error
		if o.Offers, err = json.Marshal(p.Coverage, json.Deterministic(true)); err != nil {
			return nil, err
		}
	}
	member, err := json.Marshal(o, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	if p.Manifest.Extra == nil {
		p.Manifest.Extra = make(map[string]jsontext.Value)
	}
	p.Manifest.Extra[ourMember] = member
	return p.Manifest.Encode()
}

// PointerSize returns the size of the index manifest. All digests have the same length in it.
func (f v3) PointerSize(was *Pointer, x *indices.Set) (int64, error) {
	now := NewPointer(f)
	now.Coverage, now.Foreign, now.Place, now.Past = coverageOf(x), was.Foreign, was.next(""), was.Past
	for i, part := range x.Parts {
		if part != nil {
			now.Refs[i] = IndexRef{blob.DigestOf(nil), part.Content().Size()}
		}
	}
	text, err := now.encode(was)
	return int64(len(text)), err
}
