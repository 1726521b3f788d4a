package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"

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

func (v3) layout() string    { return "v3" }
func (v3) indexVersion() int { return index.V8 }

func (v3) packageName(name string) (layout.SpecName, bool) { return layout.ParseV3Spec(name) }
func (v3) keyName(name string) (key.Fingerprint, bool)     { return layout.ParseV3Key(name) }
func (v3) directories() (packages, keys string)            { return layout.V3Specs, layout.V3Keys }
func (v3) indexWrites() []string                           { return []string{layout.V3Index} }

const jsonType = "application/json"

func (v3) document(name string, content []byte) (*Package, error) {
	id, ok := layout.ParseV3Spec(name)
	if !ok {
		return nil, errors.New("not a name that Spack gives to a manifest")
	}
	m, err := readManifest(content)
	if err != nil {
		return nil, err
	}
	tarball, err := m.Record(manifest.Tarball)
	if err != nil {
		return nil, err
	}
	specBlob, err := m.Record(manifest.Spec)
	if err != nil {
		return nil, err
	}
	return &Package{
		File: name, Document: content, Signed: key.Signed(content), SpecName: id,
		Blobs: []Object{blobOf(tarball), blobOf(specBlob)},
	}, nil
}

func readManifest(document []byte) (*manifest.Manifest, error) {
	text, err := key.Text(document)
	if err != nil {
		return nil, err
	}
	return manifest.Parse(text)
}

func blobOf(r manifest.Record) Object {
	return Object{Name: layout.V3Blob(r.Digest), Size: r.Size, Digest: r.Digest, Type: r.ContentType(), CacheControl: layout.Immutable}
}

func (v3) readSpec(ctx context.Context, r mirror.Reader, p *Package) error {
	b := p.Blobs[1]
	stored, err := readBlob(ctx, r, b, maxSpec)
	if err != nil {
		return err
	}
	text, err := gunzip(stored)
	if err != nil {
		return fmt.Errorf("spec %s: %w", b.Name, err)
	}
	s, err := spec.Parse(text, spec.Format5)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	if want := layout.V3Spec(s.Root()); want != p.File {
		return fmt.Errorf("it carries %s, whose manifest is %s: was it renamed?", s.Root().ID(), want)
	}
	p.Spec = s
	return nil
}

// readBlob reads a whole blob and checks its digest.
func readBlob(ctx context.Context, r mirror.Reader, b Object, limit int64) ([]byte, error) {
	content, _, err := mirror.Read(ctx, r, b.Name, limit)
	if err != nil {
		return nil, err
	}
	if got := blob.DigestOf(content); got != b.Digest {
		return nil, &blob.MismatchError{Name: b.Name, WantSize: b.Size, GotSize: int64(len(content)), Want: b.Digest, Got: got}
	}
	return content, nil
}

// gunzip unpacks a spec blob, which Spack also accepts unpacked.
func gunzip(stored []byte) ([]byte, error) {
	if !bytes.HasPrefix(stored, []byte{0x1f, 0x8b}) {
		return stored, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(zr, maxSpec+1))
	if err == nil && len(text) > maxSpec {
		err = fmt.Errorf("it unpacks to more than %d bytes", maxSpec)
	}
	return text, err
}

// coverageMember is the member of an index manifest that is ours. Spack ignores it.
const coverageMember = "slurm-factory-publish"

type coverage struct {
	Offers index.Coverage `json:"offers"`
}

// maxCovered is how many names of packages a coverage may have: about 38 bytes each, in
// what every publisher and client reads. Spack has 8,500 (July 2026).
const maxCovered = 40_000

// coverageOf is what the pointer to an index says; nil: too much. Then who wants to know what
// the index offers reads it.
func coverageOf(x *index.Index) index.Coverage {
	if c := x.Coverage(); len(c) <= maxCovered {
		return c
	}
	return nil
}

func (v3) readPointer(ctx context.Context, r mirror.Reader) (*pointer, error) {
	content, info, err := mirror.Read(ctx, r, layout.V3Index, maxPointer)
	if errors.Is(err, mirror.ErrNotExist) {
		return &pointer{Version: mirror.Absent}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	p := &pointer{Version: info.Version, Turned: info.Modified}
	p.broken = p.parse(content)
	return p, nil
}

func (p *pointer) parse(text []byte) error {
	m, err := readManifest(text)
	if err != nil {
		return err
	}
	rec, err := m.Record(manifest.Index)
	if err != nil {
		return err
	}
	p.Digest, p.Size = rec.Digest, rec.Size
	var c coverage
	if json.Unmarshal(m.Extra[coverageMember], &c) == nil { // anything else was not written by us
		p.Coverage = c.Offers
	}
	return nil
}

// halfway is never: one object turns an index of layout v3.
func (v3) halfway(context.Context, mirror.Reader, *pointer) (bool, error) { return false, nil }

func (v3) readIndex(ctx context.Context, r mirror.Reader, p *pointer) (*index.Index, error) {
	if p.broken != nil {
		return nil, fmt.Errorf("%s: %w", layout.V3Index, p.broken)
	}
	raw, err := readBlob(ctx, r, Object{Name: layout.V3Blob(p.Digest), Size: p.Size, Digest: p.Digest}, maxIndex)
	if err != nil {
		return nil, err
	}
	return index.Parse(raw, index.V8)
}

// writeIndex stores the index under its digest and then turns the one pointer. A reader
// sees the old index or the new one, and both are whole. The old one stays.
func (v3) writeIndex(ctx context.Context, s Store, was *pointer, x *index.Index) (*pointer, error) {
	content := x.Content()
	digest, err := blob.Sum(ctx, content)
	if err != nil {
		return nil, err
	}
	rec := indexRecord(content.Size(), digest)
	o := blobOf(rec)
	o.Content = content
	if err := s.Create(ctx, o.upload()); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	now := &pointer{Digest: digest, Size: content.Size(), Coverage: coverageOf(x)}
	text, err := encodePointer(rec, now.Coverage)
	if err != nil {
		return nil, err
	}
	now.Version, err = s.Swap(ctx, object(layout.V3Index, text, jsonType, layout.Revalidate).upload(), was.Version)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return now, nil
}

func indexRecord(size int64, d blob.Digest) manifest.Record {
	return manifest.Record{Size: size, MediaType: manifest.IndexType, Compression: "none", Digest: d}
}

func encodePointer(rec manifest.Record, offers index.Coverage) ([]byte, error) {
	m := manifest.Manifest{Records: []manifest.Record{rec}}
	if offers == nil {
		return m.Encode()
	}
	extra, err := json.Marshal(coverage{offers}, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	m.Extra = map[string]jsontext.Value{coverageMember: extra}
	return m.Encode()
}

// pointerSize is that of the index manifest, in which any digest takes the same room.
func (v3) pointerSize(x *index.Index) (int64, error) {
	text, err := encodePointer(indexRecord(x.Content().Size(), blob.DigestOf(nil)), coverageOf(x))
	return int64(len(text)), err
}

func (v3) key(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error) {
	name := layout.V3Key(f)
	text, _, err := mirror.Read(ctx, r, name, maxPointer)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(text)
	if err != nil {
		return nil, err
	}
	rec, err := m.Record(manifest.Key)
	if err != nil {
		return nil, err
	}
	o := blobOf(rec)
	armored, err := readBlob(ctx, r, o, maxKeys)
	if err != nil {
		return nil, err
	}
	if err := isKey(armored, f); err != nil {
		return nil, err
	}
	o.Content = blob.Bytes(armored)
	return []Object{o, object(name, text, jsonType, layout.Revalidate)}, nil
}

func (f v3) readKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error) {
	text, info, err := mirror.Read(ctx, r, layout.V3KeyIndex, maxPointer)
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
	m, err := readManifest(text)
	if err != nil {
		return nil, nil
	}
	rec, err := m.Record(manifest.KeyIndex)
	if err != nil {
		return nil, nil
	}
	content, err := readBlob(ctx, r, blobOf(rec), maxKeys)
	var mismatch *blob.MismatchError
	if errors.Is(err, mirror.ErrNotExist) || errors.As(err, &mismatch) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, err := parseKeyIndex(content)
	if err != nil {
		return nil, nil
	}
	return keys, nil
}

func (v3) keyIndex(keys []key.Fingerprint) ([]Object, error) {
	content := encodeKeyIndex(keys)
	rec := manifest.Record{Size: int64(len(content)), MediaType: manifest.KeyIndexType, Compression: "none", Digest: blob.DigestOf(content)}
	m := manifest.Manifest{Records: []manifest.Record{rec}}
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	o := blobOf(rec)
	o.Content = blob.Bytes(content)
	return []Object{o, object(layout.V3KeyIndex, text, jsonType, layout.Revalidate)}, nil
}

// marker is the same in every mirror, signed or not (spack 1.2).
func (v3) marker() (Object, bool) {
	return object(layout.V3Layout, []byte(`{"signing": "gpg"}`), jsonType, layout.Revalidate), true
}
