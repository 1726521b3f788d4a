package publishtest

import (
	"context"
	"crypto/md5" // as S3 lists it
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

const (
	KeyOne  = key.Fingerprint("E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5") // signed the fixtures
	KeyGood = key.Fingerprint("49A2B952A248E4F41A9B402974A94FA39F9B86F5") // of signed.pub
	KeyEd   = key.Fingerprint("2FBB934417628971AFC51D883E3A1C6A9D27F61E") // of trust/keys/ed.pub
)

func Trusting(t testing.TB, files ...string) buildcache.Trust {
	t.Helper()
	var armored []byte
	for _, f := range files {
		armored = append(armored, MustRead(t, Original(f+".pub"))...)
	}
	ring, err := key.ReadRing(armored)
	Must(t, err)
	return buildcache.Trust{RequireSigned: true, Keys: ring}
}

// KeysIn are the keys that clients are offered: named in the index of keys, or there at all.
func KeysIn(t testing.TB, s map[string][]byte) (named, there []key.Fingerprint) {
	t.Helper()
	for name := range s {
		if f, ok := layout.ParseV3Key(name); ok {
			there = append(there, f)
		}
		if f, ok := layout.ParseV2Key(name); ok {
			there = append(there, f)
		}
	}
	index := s[layout.V2KeyIndex]
	if index == nil && s[layout.V3KeyIndex] != nil {
		var err error
		index, err = NewReader().Behind(s, layout.V3KeyIndex, manifest.KeyIndex)
		Must(t, err)
	}
	for _, part := range strings.Split(string(index), `"`) {
		if f, err := key.ParseFingerprint(part); err == nil {
			named = append(named, f)
		}
	}
	slices.Sort(named)
	slices.Sort(there)
	return named, there
}

func WantKeys(t testing.TB, s map[string][]byte, want ...key.Fingerprint) {
	t.Helper()
	slices.Sort(want)
	if named, there := KeysIn(t, s); !slices.Equal(named, want) || !slices.Equal(there, want) {
		t.Errorf("clients are told of the keys %v, there are %v, want %v", named, there, want)
	}
}

func Warnings(findings []buildcache.Finding, reason string) (found []buildcache.Finding) {
	for _, f := range findings {
		if f.Severity == buildcache.Warning && strings.Contains(f.Reason, reason) {
			found = append(found, f)
		}
	}
	return found
}

// Summed lists MD5s, as S3 does.
type Summed struct {
	mirror.Store
	Mem *mirrortest.Mem // what Store stores in
}

func (s Summed) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	content := s.Mem.Snapshot()
	return func(yield func(mirror.Info, error) bool) {
		for info, err := range s.Store.List(ctx, r) {
			info.MD5 = fmt.Sprintf("%x", md5.Sum(content[info.Name]))
			if !yield(info, err) {
				return
			}
		}
	}
}
