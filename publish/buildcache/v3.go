package buildcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/semaphore"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// v3 is the layout that Spack writes since 1.0: manifests that point at blobs.
type v3 struct{}

func (v3) Name() string              { return "v3" }
func (v3) Generations() []Generation { return v3Generations }

func (v3) ParsePackageName(name string) (layout.SpecName, bool) { return layout.ParseV3Spec(name) }
func (v3) ParseKeyName(name string) (key.Fingerprint, bool)     { return layout.ParseV3Key(name) }
func (v3) Directories() (packages, keys string)                 { return layout.V3Specs, layout.V3Keys }
func (v3) IndexNames() []string                                 { return []string{layout.V3Index} }

const JsonType = "application/json"

func (v3) ParseDocument(name string, text []byte, _ *spec.Reader) (*Package, error) {
	id, ok := layout.ParseV3Spec(name)
	if !ok {
		return nil, content(errors.New("not a name that Spack gives to a manifest"))
	}
	m, err := ReadManifest(text)
	if err != nil {
		return nil, content(err)
	}
	p := &Package{File: name, Document: text, Signed: key.Signed(text), SpecName: id}
	if err := p.records(m); err != nil {
		return nil, content(err)
	}
	return p, nil
}

// SpecBlob is the position of the spec among the blobs of a package.
const SpecBlob = 1

// records takes the blobs that a manifest names. Those of unknown types belong to the package too.
func (p *Package) records(m *manifest.Manifest) error {
	tarball, err := m.Record(manifest.Tarball)
	if err != nil {
		return err
	}
	specs, err := m.Record(manifest.Spec)
	if err != nil {
		return err
	}
	p.specType, p.tarballType, p.format = specs.MediaType, tarball.MediaType, manifest.SpecFormat(specs.MediaType)
	p.Blobs = []Object{BlobOf(tarball), BlobOf(specs)}
	for _, r := range m.Records {
		switch family := manifest.FamilyOf(r.MediaType); {
		case r.Unusable() != nil:
			return fmt.Errorf("manifest: record of type %s: %w", r.MediaType, r.Unusable())
		case family != manifest.Tarball && family != manifest.Spec:
			p.Blobs = append(p.Blobs, BlobOf(r))
		}
	}
	return nil
}

func ReadManifest(document []byte) (*manifest.Manifest, error) {
	text, err := key.Text(document)
	if err != nil {
		return nil, err
	}
	return manifest.Parse(text)
}

func BlobOf(r manifest.Record) Object {
	return Object{Name: layout.V3Blob(r.Digest), Size: r.Size, Digest: r.Digest, Type: r.ContentType(), CacheControl: layout.Immutable}
}

func (v3) ReadSpec(ctx context.Context, r mirror.Reader, p *Package, specs *spec.Reader) error {
	if p.Spec != nil {
		return nil
	}
	newest := v3Generations[len(v3Generations)-1].Specs
	if p.format < v3Generations[0].Specs || p.format > newest {
		return content(&foreignError{fmt.Errorf("its spec has the media type %s, which this release does not know: another version of Spack wrote it", p.specType)})
	}
	if p.tarballType != manifest.TarballType {
		return content(&foreignError{fmt.Errorf("its tarball has the media type %s, and Spack fetches %s", p.tarballType, manifest.TarballType)})
	}
	text, err := readSpecBlob(ctx, r, p.Blobs[SpecBlob])
	if err != nil {
		return err
	}
	defer text.release()
	s, err := specs.Parse(text.content, p.format)
	if err != nil {
		return content(fmt.Errorf("%s: %w", p.Blobs[SpecBlob].Name, err))
	}
	root := s.Root()
	if want := layout.V3Spec(root); want != p.File {
		return content(fmt.Errorf("it carries %s, whose manifest is %s: was it renamed?", root.ID(), want))
	}
	p.Spec, p.Version = s, root.Version
	return nil
}

// ReadBlob reads a whole blob and checks its digest.
func ReadBlob(ctx context.Context, r mirror.Reader, b Object, limit int64) ([]byte, error) {
	content, _, err := mirror.Read(ctx, r, b.Name, limit)
	if err != nil {
		return nil, err
	}
	if got := blob.DigestOf(content); got != b.Digest {
		return nil, &blob.MismatchError{Name: b.Name, WantSize: b.Size, GotSize: int64(len(content)), Want: b.Digest, Got: got}
	}
	return content, nil
}

// A specText is the text of a spec. release returns its memory to the limit that all concurrent readers share.
type specText struct {
	content []byte
	release func()
}

// unpacking bounds how many bytes of specs are unpacked at once.
var unpacking = semaphore.NewWeighted(64 << 20)

// Reserve waits until n bytes of that may be used, until release is called.
func Reserve(ctx context.Context, n int64) (release func(), err error) {
	if err := unpacking.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { unpacking.Release(n) }, nil
}

// unpacked is the largest size to which stored bytes of a spec may unpack. Specs compress to about a tenth; one
// that unpacks to a hundred times its size was made to fill memory.
func unpacked(stored int64) int64 { return min(maxSpec, 64<<10+100*stored) }

func readSpecBlob(ctx context.Context, r mirror.Reader, b Object) (*specText, error) {
	if b.Size > maxSpec {
		return nil, content(fmt.Errorf("spec %s has %d bytes, more than %d", b.Name, b.Size, maxSpec))
	}
	limit := unpacked(b.Size)
	release, err := Reserve(ctx, limit)
	if err != nil {
		return nil, err
	}
	stored, err := ReadBlob(ctx, r, b, maxSpec)
	if err != nil {
		release()
		return nil, err
	}
	text, err := gunzip(stored, limit)
	if err != nil {
		release()
		return nil, content(fmt.Errorf("spec %s: %w", b.Name, err))
	}
	return &specText{text, release}, nil
}

// gunzip unpacks a spec blob, which Spack also accepts unpacked, to at most limit bytes.
func gunzip(stored []byte, limit int64) ([]byte, error) {
	if !bytes.HasPrefix(stored, []byte{0x1f, 0x8b}) {
		return stored, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(zr, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("its %d bytes unpack to more than %d, which no spec of Spack does: push the package again", len(stored), limit)
	}
	return text, err
}

// ourMember is the member of an index manifest that is ours. Spack ignores it.
const ourMember = "slurm-factory-publish"

// ours is our member of an index manifest: facts about the indices that it names.
type ours struct {
	// Of names the indices that the rest is about: see pointer.digest.
	Of string `json:"of"`
	// Offers is left out where it would be too large. Then it takes reading the indices to know.
	Offers index.Coverage `json:"offers,omitzero"`
	// Contract is the revision of the contract with Spack's readers that every record satisfies.
	Contract int `json:"contract"`
	// Proofs are what was proved of the storage: see mirror.Prover.
	Proofs []string `json:"proofs,omitempty"`
}

// contract is the revision of the rules in publish/spec. An index written under an older revision is checked
// before the next merge.
const contract = 1

// maxCovered is how many names of packages a coverage may have: about 38 bytes each, in
// what every publisher and client reads. Spack has 8,500 (July 2026).
const maxCovered = 40_000

// coverageOf is what a pointer says of indices; nil if that is too much.
func coverageOf(x *Indices) index.Coverage {
	if c := x.Coverage(); len(c) <= maxCovered {
		return c
	}
	return nil
}

func (f v3) ReadPointer(ctx context.Context, r mirror.Reader) (*Pointer, error) {
	p := NewPointer(f)
	text, info, err := mirror.Read(ctx, r, layout.V3Index, MaxPointer)
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
	return p, nil
}

// Parse reads an index manifest. A reader takes the record whose media type is exactly one that it knows, so
// records of other versions of Spack are left alone.
func (p *Pointer) Parse(text []byte) error {
	m, err := ReadManifest(text)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(m.Records, func(r manifest.Record) bool { return manifest.FamilyOf(r.MediaType) == manifest.Index }) {
		return fmt.Errorf("manifest: it has no record of type %s", manifest.Index)
	}
	for i, g := range v3Generations {
		rec, ok := m.Typed(manifest.IndexType(g.Index))
		if ok && rec.Unusable() != nil {
			return fmt.Errorf("manifest: record of type %s: %w", rec.MediaType, rec.Unusable())
		}
		if ok {
			p.Refs[i] = IndexRef{rec.Digest, rec.Size}
		}
	}
	p.Manifest = m
	var o ours
	// Another program may have replaced an index and kept our member, which then says nothing.
	if json.Unmarshal(m.Extra[ourMember], &o) == nil && o.Of == p.Digest() {
		p.Coverage, p.Checked, p.proofs = o.Offers, o.Contract >= contract, o.Proofs
	}
	return nil
}

// Incomplete is never: one object turns the indices of layout v3.
func (v3) Incomplete(context.Context, mirror.Reader, *Pointer) (bool, error) { return false, nil }

func (v3) ReadIndex(ctx context.Context, r mirror.Reader, p *Pointer) (*Indices, error) {
	if p.Broken != nil {
		return nil, fmt.Errorf("%s: %w", layout.V3Index, p.Broken)
	}
	x := NewIndices(v3Generations)
	for i, ref := range p.Refs {
		if !ref.Digest.Known() {
			continue
		}
		raw, err := ReadBlob(ctx, r, Object{Name: layout.V3Blob(ref.Digest), Size: ref.Size, Digest: ref.Digest}, MaxIndex)
		if err != nil {
			return nil, err
		}
		if x.Parts[i], err = index.Parse(raw, v3Generations[i].Index); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// WriteIndex stores each index under its digest and then turns the one pointer. A reader
// sees the old indices or the new ones, and all are whole. The old ones stay.
func (f v3) WriteIndex(ctx context.Context, s mirror.Store, was *Pointer, x *Indices) (*Pointer, error) {
	now := NewPointer(f)
	now.Coverage, now.Checked, now.Refs = coverageOf(x), true, slices.Clone(was.Refs)
	sources, err := x.contents(ctx, was.salt())
	if err != nil {
		return nil, err
	}
	for i, content := range sources {
		if content == nil {
			continue
		}
		digest, err := blob.Sum(ctx, content)
		if err != nil {
			return nil, err
		}
		o := BlobOf(indexRecord(v3Generations[i], IndexRef{digest, content.Size()}))
		o.Content = content
		if err := s.Create(ctx, o.Upload()); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		now.Refs[i] = IndexRef{digest, content.Size()}
	}
	if was.Manifest != nil && slices.Equal(now.Refs, was.Refs) {
		return was, nil // only the index blobs were missing
	}
	text, err := now.encode(was)
	if err != nil {
		return nil, err
	}
	now.Version, err = s.Swap(ctx, NewObject(layout.V3Index, text, JsonType, layout.Revalidate).Upload(), was.Version)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return now, nil
}

// CompleteIndex has nothing to do: one object turns the indices of layout v3.
func (v3) CompleteIndex(context.Context, mirror.Store) error { return nil }

// salt makes an index a new one whose pointer has to be written although it may be the index that clients have: the one that a
// pointer named that Spack could read and we could not.
func (p *Pointer) salt() string {
	if p.Broken == nil || len(p.text) == 0 {
		return ""
	}
	return blob.DigestOf(p.text).String()
}

func indexRecord(g Generation, ref IndexRef) manifest.Record {
	return manifest.Record{Size: ref.Size, MediaType: manifest.IndexType(g.Index), Compression: "none", Digest: ref.Digest}
}

// encode writes the manifest that names p's indices: what was says, with the records that have changed and our
// member.
func (p *Pointer) encode(was *Pointer) ([]byte, error) {
	p.Manifest, p.proofs = new(manifest.Manifest), was.proved()
	if was.Manifest != nil {
		p.Manifest = was.Manifest.Clone()
	}
	for i, ref := range p.Refs {
		if ref.Digest.Known() && ref != was.Refs[i] {
			p.Manifest.Set(indexRecord(v3Generations[i], ref))
		}
	}
	member, err := json.Marshal(ours{p.Digest(), p.Coverage, contract, p.proofs}, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	if p.Manifest.Extra == nil {
		p.Manifest.Extra = make(map[string]jsontext.Value)
	}
	p.Manifest.Extra[ourMember] = member
	return p.Manifest.Encode()
}

// PointerSize is that of the index manifest, in which any digest takes the same room.
func (f v3) PointerSize(was *Pointer, x *Indices) (int64, error) {
	now := NewPointer(f)
	now.Coverage = coverageOf(x)
	for i, part := range x.Parts {
		if part != nil {
			now.Refs[i] = IndexRef{blob.DigestOf(nil), part.Content().Size()}
		}
	}
	text, err := now.encode(was)
	return int64(len(text)), err
}

func (v3) ReadKey(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error) {
	name := layout.V3Key(f)
	text, _, err := mirror.Read(ctx, r, name, MaxPointer)
	if err != nil {
		return nil, err
	}
	m, err := ReadManifest(text)
	if err != nil {
		return nil, err
	}
	rec, err := OnlyRecord(m, manifest.Key)
	if err != nil {
		return nil, err
	}
	o := BlobOf(rec)
	armored, err := ReadBlob(ctx, r, o, MaxKeys)
	if err != nil {
		return nil, err
	}
	if _, err := CheckKeyFile(armored, f); err != nil {
		return nil, err
	}
	o.Content = blob.Bytes(armored)
	return []Object{o, NewObject(name, text, JsonType, layout.Revalidate)}, nil
}

// OnlyRecord is the one record of a manifest. Of keys and of their index Spack reads the first
// record, whatever its type is, so there must not be another.
func OnlyRecord(m *manifest.Manifest, f manifest.Family) (manifest.Record, error) {
	rec, err := m.Record(f)
	if err == nil && len(m.Records) != 1 {
		err = fmt.Errorf("manifest: it has %d records, want one", len(m.Records))
	}
	return rec, err
}

func (v3) KeyName(f key.Fingerprint) string { return layout.V3Key(f) }

func (v3) KeyObjects(f key.Fingerprint, armored []byte) ([]Object, error) {
	rec := manifest.Record{Size: int64(len(armored)), MediaType: manifest.KeyType, Compression: "none", Digest: blob.DigestOf(armored)}
	m := manifest.Manifest{Records: []manifest.Record{rec}}
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	o := BlobOf(rec)
	o.Content = blob.Bytes(armored)
	return []Object{o, NewObject(layout.V3Key(f), text, JsonType, layout.Revalidate)}, nil
}

func (f v3) ReadKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error) {
	text, info, err := mirror.Read(ctx, r, layout.V3KeyIndex, MaxPointer)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, mirror.Absent, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("key index: %w", err)
	}
	keys, err := f.keysBehind(ctx, r, text)
	if err != nil {
		return nil, "", fmt.Errorf("key index: %w", err)
	}
	return keys, info.Version, nil
}

// keysBehind returns no keys for a key index that is broken: it is made anew then.
func (v3) keysBehind(ctx context.Context, r mirror.Reader, text []byte) ([]key.Fingerprint, error) {
	m, err := ReadManifest(text)
	if err != nil {
		return nil, nil
	}
	rec, err := OnlyRecord(m, manifest.KeyIndex)
	if err != nil {
		return nil, nil
	}
	content, err := ReadBlob(ctx, r, BlobOf(rec), MaxKeys)
	var mismatch *blob.MismatchError
	if errors.Is(err, mirror.ErrNotExist) || errors.As(err, &mismatch) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeyIndex(content)
	if err != nil {
		return nil, nil
	}
	return keys, nil
}

func (v3) KeyIndex(keys []key.Fingerprint) ([]Object, error) {
	content := encodeKeyIndex(keys)
	rec := manifest.Record{Size: int64(len(content)), MediaType: manifest.KeyIndexType, Compression: "none", Digest: blob.DigestOf(content)}
	m := manifest.Manifest{Records: []manifest.Record{rec}}
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	o := BlobOf(rec)
	o.Content = blob.Bytes(content)
	return []Object{o, NewObject(layout.V3KeyIndex, text, JsonType, layout.Revalidate)}, nil
}

// Marker is the same in every mirror, signed or not (spack 1.2).
func (v3) Marker() (Object, bool) {
	return NewObject(layout.V3Layout, []byte(`{"signing": "gpg"}`), JsonType, layout.Revalidate), true
}
