package buildcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// encodeKeyIndex writes what Spack writes: the fingerprints, sorted, each with nothing.
func encodeKeyIndex(keys []key.Fingerprint) []byte {
	members := make([]string, len(keys))
	for i, f := range slices.Sorted(slices.Values(keys)) {
		members[i] = fmt.Sprintf(`"%s":{}`, f)
	}
	return []byte(`{"keys":{` + strings.Join(members, ",") + `}}`)
}

func ParseKeyIndex(content []byte) ([]key.Fingerprint, error) {
	var doc struct {
		Keys map[string]struct{} `json:"keys"`
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("key index: %w", err)
	}
	var keys []key.Fingerprint
	for name := range doc.Keys {
		f, err := key.ParseFingerprint(name)
		if err != nil {
			return nil, fmt.Errorf("key index: %w", err)
		}
		keys = append(keys, f)
	}
	if len(keys) == 0 {
		return nil, errors.New("key index: it names no key")
	}
	slices.Sort(keys)
	return keys, nil
}

// A key that was retired has a mark beside its document, because neither is ever deleted: without the mark, the next publish would
// offer the key again. A mark without content has been taken back. So the listing, which a publish makes anyway, says which keys
// are retired.

// RetiredMark is the mark of a key that is retired, or of one that is so no more.
func RetiredMark(f Layout, k key.Fingerprint, retired bool) Object {
	var content []byte
	if retired {
		content = []byte("publish keys retire: this key is not offered to clients. publish keys add offers it again.\n")
	}
	return NewObject(f.RetiredKeyName(k), content, "text/plain", layout.Revalidate)
}

func isRetired(mark mirror.Info) bool { return mark.Size > 0 }

// KeysThere lists the keys of a mirror, and their marks.
func KeysThere(ctx context.Context, f Layout, l mirror.Lister) (*Survey, error) {
	_, dir := f.Directories()
	there := &Survey{Ranges: []mirror.Range{{Prefix: dir}}}
	return there, there.List(ctx, l)
}

func UnionKeys(a, b []key.Fingerprint) []key.Fingerprint {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// PublicKey reads a key from the objects that make it known.
func PublicKey(objects []Object) (*key.Public, error) {
	armored, err := blob.ReadAll(objects[0].Content)
	if err != nil {
		return nil, err
	}
	return key.ReadPublic(armored)
}

// KeyObjects are the uploads that make a key known.
func KeyObjects(f Layout, public *key.Public) ([]Object, error) {
	armored, err := public.Armored()
	if err != nil {
		return nil, err
	}
	return f.KeyObjects(public.Fingerprint(), armored)
}

// MergeKey returns a key as the mirror holds it once it is published, the objects that make it known, and those of them that are to
// be stored. Of a copy that the mirror has already, everything stays said; one that cannot be read stays as it is.
func (s *Survey) MergeKey(ctx context.Context, f Layout, r mirror.Reader, public *key.Public, objects []Object) (merged *key.Public, all, absent []Object, err error) {
	document := objects[len(objects)-1]
	more := false
	if info, there := s.Objects[document.Name]; there {
		if same, err := sameKey(ctx, r, info, document); err != nil {
			return nil, nil, nil, err
		} else if !same {
			public, objects, more, err = mergeThere(ctx, f, r, public, objects)
			if err != nil {
				return nil, nil, nil, err
			}
		}
	}
	for _, o := range objects {
		if _, there := s.Objects[o.Name]; !there || more && o.Name == document.Name {
			absent = append(absent, o)
		}
	}
	return public, objects, absent, nil
}

// sameKey compares the document of a key with the one that is there.
func sameKey(ctx context.Context, r mirror.Reader, info mirror.Info, document Object) (bool, error) {
	content, err := blob.ReadAll(document.Content)
	if err != nil || info.MD5 != "" && info.MD5 == MD5(content) {
		return err == nil, err
	}
	if info.Size != int64(len(content)) {
		return false, nil
	}
	there, _, err := mirror.Read(ctx, r, info.Name, MaxKeys)
	return string(there) == string(content), err
}

// mergeThere merges a key with the copy that is there, and reports whether that is more than the copy says.
func mergeThere(ctx context.Context, f Layout, r mirror.Reader, public *key.Public, objects []Object) (*key.Public, []Object, bool, error) {
	there, err := f.ReadKey(ctx, r, public.Fingerprint())
	if err != nil { // verify tells what is wrong with it
		return public, objects, false, ctx.Err()
	}
	published, err := PublicKey(there)
	if err != nil {
		return nil, nil, false, err
	}
	merged, more, err := published.Merged(public)
	if err != nil || !more {
		return published, there, false, err
	}
	objects, err = KeyObjects(f, merged)
	return merged, objects, true, err
}

// ReadKeys reads keys of a mirror. Those that cannot be read are passed over: verify tells what is wrong with them.
func ReadKeys(ctx context.Context, f Layout, r mirror.Reader, keys []key.Fingerprint) ([]*key.Public, error) {
	var all []*key.Public
	for _, k := range keys {
		objects, err := f.ReadKey(ctx, r, k)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue
		}
		if p, err := PublicKey(objects); err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}
