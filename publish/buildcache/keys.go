package buildcache

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
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
