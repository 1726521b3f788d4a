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

// encodeKeyIndex writes a key index as Spack does: the sorted fingerprints, each with an empty object.
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

// A retired key has a mark beside its document, since objects are never deleted: without the mark, the next
// publish would offer the key again. An empty mark means that the key is offered again. So the listing, which
// a publish needs anyway, says which keys are retired.

// RetiredMark returns the mark of a retired key, or the empty mark of a key that is offered again.
func RetiredMark(f Layout, k key.Fingerprint, retired bool) Object {
	var content []byte
	if retired {
		content = []byte("publish keys retire: this key is not offered to clients. publish keys add offers it again.\n")
	}
	return NewObject(f.RetiredKeyName(k), content, "text/plain", layout.Revalidate)
}

func isRetired(mark mirror.Info) bool { return mark.Size > 0 }

// KeysThere lists the keys of a mirror and their marks.
func KeysThere(ctx context.Context, f Layout, l mirror.Lister) (*Survey, error) {
	_, dir := f.Directories()
	there := &Survey{Ranges: []mirror.Range{{Prefix: dir}}}
	return there, there.List(ctx, l)
}

func UnionKeys(a, b []key.Fingerprint) []key.Fingerprint {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// PublicKey reads a key from the objects that publish it.
func PublicKey(objects []Object) (*key.Public, error) {
	armored, err := blob.ReadAll(objects[0].Content)
	if err != nil {
		return nil, err
	}
	return key.ReadPublic(armored)
}

// KeyObjects returns the uploads that publish a key.
func KeyObjects(f Layout, public *key.Public) ([]Object, error) {
	armored, err := public.Armored()
	if err != nil {
		return nil, err
	}
	return f.KeyObjects(public.Fingerprint(), armored)
}

// ReadKey reads a public key of a mirror.
func ReadKey(ctx context.Context, f Layout, r mirror.Reader, k key.Fingerprint) (*key.Public, error) {
	objects, err := f.ReadKey(ctx, r, k)
	if err != nil {
		return nil, err
	}
	return PublicKey(objects)
}

// ReadKeys reads keys of a mirror. It skips keys that cannot be read; verify reports what is wrong with them.
func ReadKeys(ctx context.Context, f Layout, r mirror.Reader, keys []key.Fingerprint) ([]*key.Public, error) {
	var all []*key.Public
	for _, k := range keys {
		p, err := ReadKey(ctx, f, r, k)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}
