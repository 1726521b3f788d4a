package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// v2 is the layout that Spack wrote until 0.23. Nothing in it is named by its
// content, so nothing that a document may point at is ever replaced.
type v2 struct{}

func (v2) layout() string            { return "v2" }
func (v2) generations() []generation { return v2Generations }

func (v2) packageName(name string) (layout.SpecName, bool) { return layout.ParseV2Spec(name) }
func (v2) keyName(name string) (key.Fingerprint, bool)     { return layout.ParseV2Key(name) }
func (v2) directories() (packages, keys string)            { return layout.V2Root, layout.V2Keys }
func (v2) indexWrites() []string                           { return []string{layout.V2Index, layout.V2IndexHash} }

func (v2) document(name string, document []byte, specs *spec.Reader) (*Package, error) {
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

func (v2) readSpec(context.Context, mirror.Reader, *Package, *spec.Reader) error { return nil }

func (f v2) readPointer(ctx context.Context, r mirror.Reader) (*pointer, error) {
	p := newPointer(f)
	content, info, err := mirror.Read(ctx, r, layout.V2Index, maxIndex)
	if errors.Is(err, mirror.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	p.Version, p.Turned, p.content = info.Version, info.Modified, content
	p.refs[0] = indexRef{blob.DigestOf(content), info.Size}
	return p, nil
}

func (v2) halfway(ctx context.Context, r mirror.Reader, p *pointer) (bool, error) {
	if p.Version == mirror.Absent {
		return false, nil
	}
	hash, _, err := mirror.Read(ctx, r, layout.V2IndexHash, maxPointer)
	if err != nil && !errors.Is(err, mirror.ErrNotExist) {
		return false, fmt.Errorf("index hash: %w", err)
	}
	return string(hash) != p.digest(), nil
}

func (f v2) readIndex(_ context.Context, _ mirror.Reader, p *pointer) (x *indices, err error) {
	x = newIndices(f.generations())
	x.parts[0], err = index.Parse(p.content, index.V7)
	return x, err
}

// writeIndex turns index.json, which is the index. A reader who sees a hash that is not that of
// the index takes the index all the same and merely reads it again next time.
func (f v2) writeIndex(ctx context.Context, s mirror.Store, was *pointer, x *indices) (*pointer, error) {
	content := x.part(index.V7).Content()
	digest, err := blob.Sum(ctx, content)
	if err != nil {
		return nil, err
	}
	now := newPointer(f)
	now.refs[0] = indexRef{digest, content.Size()}
	o := Object{Name: layout.V2Index, Size: content.Size(), Digest: digest, Type: jsonType, CacheControl: layout.Revalidate, Content: content}
	if now.Version = was.Version; now.refs[0].Digest != was.refs[0].Digest {
		if now.Version, err = s.Swap(ctx, o.upload(), was.Version); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
	}
	return now, nil
}

// pointerSize is that of the hash.
func (v2) pointerSize(*pointer, *indices) (int64, error) {
	return int64(len(blob.DigestOf(nil).String())), nil
}

// completeIndex makes index.json.hash that of the index. The version of the hash is read
// before the index is. So when it is replaced as that version, nobody has
// replaced it since the index was read; and whoever replaces the index after that has yet
// to read the hash, and will put it right. When the last publisher is done, the
// hash is that of the index.
func (f v2) completeIndex(ctx context.Context, s mirror.Store) error {
	hash, info, err := mirror.Read(ctx, s, layout.V2IndexHash, maxPointer)
	if err != nil && !errors.Is(err, mirror.ErrNotExist) {
		return err
	}
	p, err := f.readPointer(ctx, s)
	if err != nil {
		return err
	}
	if string(hash) == p.digest() {
		return nil
	}
	o := object(layout.V2IndexHash, []byte(p.digest()), "text/plain", layout.Revalidate)
	_, err = s.Swap(ctx, o.upload(), info.Version)
	return err
}

func (v2) key(ctx context.Context, r mirror.Reader, f key.Fingerprint) ([]Object, error) {
	armored, _, err := mirror.Read(ctx, r, layout.V2Key(f), maxKeys)
	if err != nil {
		return nil, err
	}
	if _, err := isKey(armored, f); err != nil {
		return nil, err
	}
	return v2{}.keyObjects(f, armored)
}

func (v2) keyDocument(f key.Fingerprint) string { return layout.V2Key(f) }

func (v2) keyObjects(f key.Fingerprint, armored []byte) ([]Object, error) {
	return []Object{object(layout.V2Key(f), armored, "application/pgp-keys", layout.Revalidate)}, nil
}

func (v2) readKeyIndex(ctx context.Context, r mirror.Reader) ([]key.Fingerprint, mirror.Version, error) {
	content, info, err := mirror.Read(ctx, r, layout.V2KeyIndex, maxKeys)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, mirror.Absent, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("key index: %w", err)
	}
	keys, err := parseKeyIndex(content)
	if err != nil {
		keys = nil // replaced by one that is made of what is there
	}
	return keys, info.Version, nil
}

func (v2) keyIndex(keys []key.Fingerprint) ([]Object, error) {
	return []Object{object(layout.V2KeyIndex, encodeKeyIndex(keys), jsonType, layout.Revalidate)}, nil
}

func (v2) marker() (Object, bool) { return Object{}, false }
