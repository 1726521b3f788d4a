package buildcache

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// v2 is the layout that Spack wrote until 0.23. Its names do not depend on content, so no object that a
// document may point at is ever replaced.
type v2 struct{}

func (v2) Name() string                      { return "v2" }
func (v2) Generations() []indices.Generation { return indices.V2Generations }

func (v2) ParsePackageName(name string) (layout.SpecName, bool) { return layout.ParseV2Spec(name) }
func (v2) ParseKeyName(name string) (key.Fingerprint, bool)     { return layout.ParseV2Key(name) }
func (v2) Small() mirror.Range                                  { return mirror.Range{Prefix: layout.V2Keys} }
func (v2) Directories() (packages, keys string)                 { return layout.V2Root, layout.V2Keys }
func (v2) IndexNames() []string                                 { return []string{layout.V2Index, layout.V2IndexHash} }

func (v2) SignedName(file string) (string, bool)          { return layout.V2Signed(file) }
func (v2) DocumentsOf(string) string                      { return layout.V2Root }
func (v2) Owns(name string) bool                          { return strings.HasPrefix(name, layout.V2Root) }
func (v2) Detect(isDir func(string) bool) bool            { return isDir("build_cache") }
func (v2) Payload() string                                { return layout.V2Root }
func (v2) IsPayload(name string) bool                     { return strings.HasSuffix(name, ".spack") }
func (v2) NamesContent() bool                             { return false }
func (v2) ParseTarballName(name string) (spec.Hash, bool) { return layout.ParseV2Tarball(name) }
func (v2) KeyIndexName() string                           { return layout.V2KeyIndex }
func (v2) ParseViewName(string) (string, bool)            { return "", false }
func (v2) View(string) (Layout, bool)                     { return nil, false }
func (v2) ViewName() string                               { return "" }
func (f v2) IndexID() string                              { return f.Name() }
func (v2) BlobName(blob.Digest) (string, bool)            { return "", false }

// A Toolchain is the platform and compiler of a package, as in names of layout v2.
type Toolchain struct{ Platform, Compiler, Version string }

// ToolchainIn reads a toolchain from a record of an index. Only records of spec.Format4 have one.
func ToolchainIn(record jsontext.Value) func() Toolchain {
	return func() Toolchain {
		var r struct {
			Arch struct {
				Platform string `json:"platform"`
			} `json:"arch"`
			Compiler struct {
				Name    string `json:"name"`
				Version string `json:"version"`
			} `json:"compiler"`
		}
		if json.Unmarshal(record, &r) != nil {
			return Toolchain{}
		}
		return Toolchain{r.Arch.Platform, r.Compiler.Name, r.Compiler.Version}
	}
}

func (v2) DocumentNames(n *spec.Node, by func() Toolchain) ([]string, bool) {
	t := by()
	if t.Compiler == "" {
		return nil, false
	}
	return layout.V2Specs(n, t.Platform, t.Compiler, t.Version), true
}

func (v2) ReadChecksum(ctx context.Context, r mirror.Reader) (name, checksum string, err error) {
	text, _, err := mirror.Read(ctx, r, layout.V2IndexHash, MaxPointer)
	return layout.V2IndexHash, string(text), err
}

func (v2) Resolve(context.Context, mirror.Reader, string, manifest.Family) (Object, bool, error) {
	return Object{}, false, nil
}

func (v2) Ranges(int64) []mirror.Range { return []mirror.Range{{Prefix: layout.V2Root}} }

func (l v2) Everything(int64) []mirror.Range { return l.Ranges(0) }

func (v2) Root() string     { return layout.V2Root }
func (v2) Pointers() string { return layout.V2Index }

// Pages counts all documents of layout v2, which are in one directory.
func (v2) Pages(dir string, objects int64) int64 {
	if dir == layout.V2Root {
		return 1 + objects/2/pageSize
	}
	return 1
}

func (v2) ParseDocument(name string, document []byte, specs *spec.Reader) (*Package, error) {
	id, ok := layout.ParseV2Spec(name)
	if !ok {
		return nil, content(errors.New("not a name that Spack gives to a spec"))
	}
	text, err := key.Text(document)
	if err != nil {
		return nil, content(err)
	}
	s, err := specs.Parse(text, spec.Format4)
	if err != nil {
		return nil, content(err)
	}
	if !s.Tarball.Known() {
		return nil, content(errors.New("spec: it has no binary_cache_checksum"))
	}
	root := s.Root()
	tarball, ok := layout.V2Tarball(name, root)
	if !ok || root.Hash != id.Hash {
		return nil, content(fmt.Errorf("it carries %s: was it renamed?", root.ID()))
	}
	return &Package{
		File: name, Document: document, Signed: key.Signed(document),
		SpecName: layout.SpecName{Package: root.Name, Version: root.Version, Hash: root.Hash},
		Spec:     s,
		Blobs:    []Object{{Name: tarball, Size: -1, Digest: s.Tarball, Type: "application/gzip", CacheControl: layout.Immutable}},
	}, nil
}

func (v2) ReadSpec(context.Context, mirror.Reader, *Package, *spec.Reader) error { return nil }

func (f v2) ReadPointer(ctx context.Context, r mirror.Reader) (*Pointer, error) {
	p := NewPointer(f)
	content, info, err := mirror.Read(ctx, r, layout.V2Index, MaxIndex)
	if errors.Is(err, mirror.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	p.Version, p.Stored, p.Content = info.Version, info.Modified, content
	note, whole, bare := index.Glance(content)
	p.Refs[0] = IndexRef{whole, info.Size}
	var n v2Note
	if json.Unmarshal(note, &n) == nil {
		p.Place, p.Past = n.Place, n.Past.Normal()
		p.Checked = n.Of == bare.String() && n.Contract >= spec.Contract
	}
	return p, nil
}

func (f v2) Incomplete(ctx context.Context, r mirror.Reader, p *Pointer) (bool, error) {
	if p.Version == mirror.Absent {
		return false, nil
	}
	_, hash, err := f.ReadChecksum(ctx, r)
	if err != nil && !errors.Is(err, mirror.ErrNotExist) {
		return false, fmt.Errorf("index hash: %w", err)
	}
	return hash != p.Digest(), nil
}

func (f v2) ReadIndex(_ context.Context, _ mirror.Reader, p *Pointer) (x *indices.Set, err error) {
	x = indices.New(f.Generations())
	x.Parts[0], err = index.Parse(p.Content, index.V7)
	return x, content(err)
}

// WriteIndex replaces index.json, which is the index. A reader that finds a hash of another index still uses
// this index. It only reads it again next time.
func (f v2) WriteIndex(ctx context.Context, s mirror.Store, was *Pointer, x *indices.Set, past history.Past, prepared Prepared) (*Pointer, error) {
	part := x.Part(index.V7)
	now := NewPointer(f)
	if now.Version, now.Past = was.Version, past; !part.Changed() {
		now.Refs, now.Place = was.Refs, was.Place
		return now, nil
	}
	bare, err := blob.Sum(ctx, part.Noted(nil))
	if err != nil {
		return nil, err
	}
	now.Place, now.Checked = was.next(bare.String()), true
	content, err := now.note(ctx, part, bare)
	if err == nil {
		err = now.prepare(prepared)
	}
	if err == nil && now.Record == "" { // the index must not name the record then
		content, err = now.note(ctx, part, bare)
	}
	if err != nil {
		return nil, err
	}
	ref := now.Refs[0]
	o := Object{Name: layout.V2Index, Size: ref.Size, Digest: ref.Digest, Type: JsonType, CacheControl: layout.Revalidate, Content: content}
	if now.Version, err = s.Swap(ctx, indexUpload(o), was.Version); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return now, nil
}

// A v2Note is the member that we add to an index of layout v2, beside Spack's database.
type v2Note struct {
	Of       string `json:"of"`       // digest of the document without the note when we wrote it
	Contract int    `json:"contract"` // see ours.Contract
	history.Place
	history.Past
}

// note returns the document of an index with a note of the pointer's facts. bare is the digest of the
// document without the note.
func (p *Pointer) note(ctx context.Context, part *index.Index, bare blob.Digest) (blob.Source, error) {
	content, err := p.noted(part, bare)
	if err != nil {
		return nil, err
	}
	digest, err := blob.Sum(ctx, content)
	p.Refs[0] = IndexRef{digest, content.Size()}
	return content, err
}

func (p *Pointer) noted(part *index.Index, bare blob.Digest) (blob.Source, error) {
	text, err := json.Marshal(v2Note{bare.String(), spec.Contract, p.Place, p.Past}, json.Deterministic(true))
	return part.Noted(text), err
}

// PointerSize returns the size of the hash and of the note.
func (v2) PointerSize(was *Pointer, x *indices.Set) (int64, error) {
	size := int64(len(blob.DigestOf(nil).String()))
	if part := x.Part(index.V7); part.Changed() {
		now := Pointer{Place: was.next(""), Past: was.Past}
		noted, err := now.noted(part, blob.DigestOf(nil))
		return size + noted.Size() - part.Content().Size(), err
	}
	return size, nil
}

// CompleteIndex sets index.json.hash to the hash of the index. It reads the version of the hash before the
// index. So if it can replace that version, no other publisher has replaced the hash since the index was
// read. A publisher that replaces the index later reads the hash later and corrects it. When the last
// publisher is done, the hash matches the index.
//
// If the index is still the one that WriteIndex wrote, it is not read again.
func (f v2) CompleteIndex(ctx context.Context, s mirror.Store, now *Pointer) error {
	hash, info, err := mirror.Read(ctx, s, layout.V2IndexHash, MaxPointer)
	if err != nil && !errors.Is(err, mirror.ErrNotExist) {
		return err
	}
	p := now
	if there, err := s.Stat(ctx, layout.V2Index); err != nil || there.Version != now.Version {
		if p, err = f.ReadPointer(ctx, s); err != nil {
			return err
		}
	}
	if string(hash) == p.Digest() {
		return nil
	}
	o := NewObject(layout.V2IndexHash, []byte(p.Digest()), "text/plain", layout.Revalidate)
	_, err = s.Swap(ctx, o.Upload(), info.Version)
	return err
}

// Glance reads the hash of the index, which is written after the index.
func (f v2) Glance(ctx context.Context, r mirror.Reader) (*Pointer, error) {
	p := NewPointer(f)
	info, err := r.Stat(ctx, layout.V2Index)
	if errors.Is(err, mirror.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	p.Version, p.Stored = info.Version, info.Modified
	text, _, err := mirror.Read(ctx, r, layout.V2IndexHash, MaxPointer)
	if err != nil && !errors.Is(err, mirror.ErrNotExist) {
		return nil, fmt.Errorf("index hash: %w", err)
	}
	if digest, err := blob.ParseDigest(string(text)); err == nil {
		p.Refs[0] = IndexRef{digest, info.Size}
	}
	return p, nil
}

func (v2) ReadKey(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error) {
	armored, _, err := mirror.Read(ctx, r, layout.V2Key(f), MaxKeys)
	if err != nil {
		return nil, err
	}
	if _, err := CheckKeyFile(armored, f); err != nil {
		return nil, content(err)
	}
	return v2{}.KeyObjects(f, armored)
}

func (v2) KeyName(f key.Fingerprint) string { return layout.V2Key(f) }

func (v2) RetiredKeyName(f key.Fingerprint) string { return layout.V2RetiredKey(f) }

func (v2) KeyObjects(f key.Fingerprint, armored []byte) ([]Object, error) {
	return []Object{NewObject(layout.V2Key(f), armored, "application/pgp-keys", layout.Revalidate)}, nil
}

func (v2) ReadKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error) {
	content, info, err := mirror.Read(ctx, r, layout.V2KeyIndex, MaxKeys)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, mirror.Absent, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("key index: %w", err)
	}
	keys, err := ParseKeyIndex(content)
	if err != nil {
		keys = nil // rebuilt from the keys of the mirror
	}
	return keys, info.Version, nil
}

func (v2) KeyIndex(keys []key.Fingerprint) ([]Object, error) {
	return []Object{NewObject(layout.V2KeyIndex, encodeKeyIndex(keys), JsonType, layout.Revalidate)}, nil
}

func (v2) Marker() (Object, bool) { return Object{}, false }
