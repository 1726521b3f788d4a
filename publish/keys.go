package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
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

func parseKeyIndex(content []byte) ([]key.Fingerprint, error) {
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

// addKeys makes clients learn of keys, next to those that they are told of already.
func addKeys(ctx context.Context, f format, s Store, keys []key.Fingerprint) error {
	return contend(ctx, func() error {
		have, version, err := f.readKeyIndex(ctx, s)
		if err != nil {
			return err
		}
		all := union(have, keys)
		if len(all) == len(have) {
			return nil
		}
		return writeKeyIndex(ctx, f, s, version, all)
	})
}

// writeKeyIndex makes keys what clients are told of, if that still is the version was.
func writeKeyIndex(ctx context.Context, f format, s Store, was mirror.Version, keys []key.Fingerprint) error {
	objects, err := f.keyIndex(keys)
	if err != nil {
		return err
	}
	last := len(objects) - 1
	for _, o := range objects[:last] {
		if err := s.Create(ctx, o.upload()); err != nil {
			return err
		}
	}
	_, err = s.Swap(ctx, objects[last].upload(), was)
	return err
}

func union(a, b []key.Fingerprint) []key.Fingerprint {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}
