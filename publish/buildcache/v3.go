package buildcache

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache/unpack"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// v3 is the layout that Spack writes since 1.0: manifests that point at blobs. view is the name of the index
// that is read and written; empty for the index of the whole mirror.
type v3 struct{ view string }

func (v3) Name() string                      { return "v3" }
func (v3) Generations() []indices.Generation { return indices.V3Generations }

func (v3) ParsePackageName(name string) (layout.SpecName, bool) { return layout.ParseV3Spec(name) }
func (v3) ParseKeyName(name string) (key.Fingerprint, bool)     { return layout.ParseV3Key(name) }
func (v3) Small() mirror.Range {
	return mirror.Range{Prefix: v3Root, Until: layout.V3Specs, Few: true}
}
func (v3) Directories() (packages, keys string) { return layout.V3Specs, layout.V3Keys }
func (f v3) IndexNames() []string               { return []string{layout.V3View(f.view)} }

func (v3) SignedName(string) (string, bool)          { return "", false }
func (v3) DocumentsOf(name string) string            { return layout.V3Specs + name + "/" }
func (v3) Payload() string                           { return layout.V3Blobs }
func (v3) IsPayload(name string) bool                { return strings.HasPrefix(name, layout.V3Blobs) }
func (v3) NamesContent() bool                        { return true }
func (v3) ParseTarballName(string) (spec.Hash, bool) { return "", false }
func (v3) KeyIndexName() string                      { return layout.V3KeyIndex }

// v3Root is the directory of everything but the blobs.
const v3Root = "v3/"

func (v3) Owns(name string) bool {
	return strings.HasPrefix(name, v3Root) || strings.HasPrefix(name, layout.V3Blobs)
}

func (v3) Detect(isDir func(string) bool) bool {
	return isDir("v3") && (isDir("blobs") || isDir("v3/manifests"))
}

func (v3) ParseViewName(name string) (string, bool) { return layout.ParseV3View(name) }
func (v3) View(name string) (Layout, bool)          { return v3{view: name}, true }
func (f v3) ViewName() string                       { return f.view }

func (f v3) IndexID() string {
	if f.view == "" {
		return f.Name()
	}
	return f.Name() + "/index/" + f.view
}

func (v3) DocumentNames(n *spec.Node, _ func() Toolchain) ([]string, bool) {
	return []string{layout.V3Spec(n)}, true
}

func (v3) BlobName(d blob.Digest) (string, bool) { return layout.V3Blob(d), true }

func (v3) ReadChecksum(context.Context, mirror.Reader) (name, checksum string, err error) { return }

func (v3) Pages(dir string, objects int64) int64 {
	switch {
	case dir == v3Root:
		return 1 + objects/pageSize // everything but the blobs is below it
	case strings.HasPrefix(dir, layout.V3Blobs):
		return 1 + objects*2/3/256/pageSize // digests spread evenly over 256 directories
	}
	return 1
}

func (f v3) Ranges(packages int64) []mirror.Range {
	ranges := mirror.Range{Prefix: layout.V3Blobs}.Split("0123456789abcdef", packages*2, pageSize)
	if packages <= pageSize {
		return append(ranges, mirror.Range{Prefix: v3Root})
	}
	return append(append(ranges, f.Small()), mirror.Range{Prefix: layout.V3Specs}.Split("abcdefghijklmnopqrstuvwxyz", packages, pageSize)...)
}

// Everything splits blobs by the first two digits of their digests, and documents by the first two letters of
// their package names.
func (v3) Everything(objects int64) []mirror.Range {
	if objects <= 2*pageSize {
		return []mirror.Range{{Prefix: layout.V3Blobs}, {Prefix: v3Root}}
	}
	var all []mirror.Range
	for i := range 256 {
		all = append(all, mirror.Range{Prefix: fmt.Sprintf("%s%02x/", layout.V3Blobs, i)})
	}
	all = append(all,
		mirror.Range{Prefix: v3Root, Until: layout.V3Specs},
		mirror.Range{Prefix: v3Root, After: strings.TrimSuffix(layout.V3Specs, "/") + "0"}) // 0 comes after /
	after := ""
	for a := 'a'; a <= 'z'; a++ {
		for b := 'a'; b <= 'z'; b += 5 {
			until := layout.V3Specs + string(a) + string(b)
			all = append(all, mirror.Range{Prefix: layout.V3Specs, After: after, Until: until})
			// No object can have the bound itself as its name, so nothing is left out between two ranges.
			after = until
		}
	}
	return append(all, mirror.Range{Prefix: layout.V3Specs, After: after})
}

func (v3) Root() string     { return layout.V3Manifests }
func (v3) Pointers() string { return layout.V3Indices }

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
	if t, ok := tombstone.Parse(text); ok {
		return nil, content(&tombstone.Error{Withdrawal: t.Withdrawal})
	}
	p := &Package{File: name, Document: text, Signed: key.Signed(text), SpecName: id}
	if err := p.records(m); err != nil {
		return nil, content(err)
	}
	return p, nil
}

// Positions among the blobs of a package. In layout v2 the document holds the spec itself.
const (
	TarballBlob = 0
	specBlob    = 1
)

// records sets the blobs from a manifest. Blobs of unknown types belong to the package, too.
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
	newest := indices.V3Generations[len(indices.V3Generations)-1].Specs
	if p.format < indices.V3Generations[0].Specs || p.format > newest {
		return content(&foreignError{fmt.Errorf("its spec has the media type %s, which this release does not know: another version of Spack wrote it", p.specType)})
	}
	if p.tarballType != manifest.TarballType {
		return content(&foreignError{fmt.Errorf("its tarball has the media type %s, and Spack fetches %s", p.tarballType, manifest.TarballType)})
	}
	text, err := readspecBlob(ctx, r, p.Blobs[specBlob])
	if err != nil {
		return err
	}
	defer text.release()
	s, err := specs.Parse(text.content, p.format)
	if err != nil {
		return content(fmt.Errorf("%s: %w", p.Blobs[specBlob].Name, err))
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
	return content, promised(b, content)
}

// readLargeBlob is ReadBlob for the document of an index. It reads parts concurrently if the mirror can.
// Hashing takes as long as parsing, so both run at the same time: the content must not be used before checked
// has returned nil.
func readLargeBlob(ctx context.Context, r mirror.Reader, b Object) (content []byte, checked func() error, err error) {
	if content, err = mirror.ReadLarge(ctx, r, b.Name, b.Size, mirror.Absent, MaxIndex); err != nil {
		return nil, nil, err
	}
	var hashing defect.Group
	hashing.Go(func() error { return promised(b, content) })
	return content, hashing.Wait, nil
}

// promised compares content with the digest of an object.
func promised(b Object, content []byte) error {
	if got := blob.DigestOf(content); got != b.Digest {
		return &blob.MismatchError{Name: b.Name, WantSize: b.Size, GotSize: int64(len(content)), Want: b.Digest, Got: got}
	}
	return nil
}

// A specText is the text of a spec. release returns its memory to the limit that all concurrent readers share.
type specText struct {
	content []byte
	release func()
}

func readspecBlob(ctx context.Context, r mirror.Reader, b Object) (*specText, error) {
	if b.Size > unpack.MaxSpec {
		return nil, content(fmt.Errorf("spec %s has %d bytes, more than %d", b.Name, b.Size, unpack.MaxSpec))
	}
	limit := unpack.Limit(b.Size)
	release, err := unpack.Reserve(ctx, limit)
	if err != nil {
		return nil, err
	}
	stored, err := ReadBlob(ctx, r, b, unpack.MaxSpec)
	if err != nil {
		release()
		return nil, err
	}
	text, err := unpack.Gunzip(stored, limit)
	if err != nil {
		release()
		return nil, content(fmt.Errorf("spec %s: %w", b.Name, err))
	}
	return &specText{text, release}, nil
}

func (v3) ReadKey(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error) {
	name := layout.V3Key(f)
	text, _, err := mirror.Read(ctx, r, name, MaxPointer)
	if err != nil {
		return nil, err
	}
	m, err := ReadManifest(text)
	if err != nil {
		return nil, content(err)
	}
	rec, err := onlyRecord(m, manifest.Key)
	if err != nil {
		return nil, content(err)
	}
	o := BlobOf(rec)
	armored, err := ReadBlob(ctx, r, o, MaxKeys)
	if err != nil {
		return nil, err
	}
	if _, err := CheckKeyFile(armored, f); err != nil {
		return nil, content(err)
	}
	o.Content = blob.Bytes(armored)
	return []Object{o, NewObject(name, text, JsonType, layout.Revalidate)}, nil
}

// Resolve reads the manifest of a key or of the index of keys.
func (v3) Resolve(ctx context.Context, r mirror.Reader, name string, f manifest.Family) (Object, bool, error) {
	document, _, err := mirror.Read(ctx, r, name, MaxPointer)
	if err != nil {
		return Object{}, true, err
	}
	m, err := ReadManifest(document)
	if err != nil {
		return Object{}, true, err
	}
	rec, err := onlyRecord(m, f)
	if err != nil {
		return Object{}, true, err
	}
	return BlobOf(rec), true, nil
}

// onlyRecord returns the single record of a manifest. For keys and their index, Spack reads the first record
// of any type, so there must not be another one.
func onlyRecord(m *manifest.Manifest, f manifest.Family) (manifest.Record, error) {
	rec, err := m.Record(f)
	if err == nil && len(m.Records) != 1 {
		err = fmt.Errorf("manifest: it has %d records, want one", len(m.Records))
	}
	return rec, err
}

func (v3) KeyName(f key.Fingerprint) string { return layout.V3Key(f) }

func (v3) RetiredKeyName(f key.Fingerprint) string { return layout.V3RetiredKey(f) }

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

// keysBehind returns no keys for a broken key index, which is then rebuilt.
func (v3) keysBehind(ctx context.Context, r mirror.Reader, text []byte) ([]key.Fingerprint, error) {
	m, err := ReadManifest(text)
	if err != nil {
		return nil, nil
	}
	rec, err := onlyRecord(m, manifest.KeyIndex)
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
