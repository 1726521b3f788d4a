package publishtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// IndexAs is the index of a version that the pointer of a mirror names; nil if it names none.
func IndexAs(t testing.TB, s map[string][]byte, version int) records {
	t.Helper()
	m, err := manifest.Parse(s[layout.V3Index])
	if err != nil {
		t.Fatal(err)
	}
	r, ok := m.Typed(manifest.IndexType(version))
	if !ok {
		return nil
	}
	x, err := parseIndex(s[layout.V3Blob(r.Digest)])
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Reindexed replaces the index of a version that the pointer names among others, as a program would that keeps the rest of it.
func (s Subject) Reindexed(version int, edit func(Installs)) {
	s.T.Helper()
	m, err := manifest.Parse(s.Read(layout.V3Index))
	if err != nil {
		s.T.Fatal(err)
	}
	r, _ := m.Typed(manifest.IndexType(version))
	var doc struct {
		Database struct {
			Version  string   `json:"version"`
			Installs Installs `json:"installs"`
		} `json:"database"`
	}
	if err := json.Unmarshal(s.Read(layout.V3Blob(r.Digest)), &doc); err != nil {
		s.T.Fatal(err)
	}
	edit(doc.Database.Installs)
	content, err := json.Marshal(doc)
	if err != nil {
		s.T.Fatal(err)
	}
	digest := blob.DigestOf(content)
	s.Plant(layout.V3Blob(digest), content)
	m.Set(manifest.Record{Size: int64(len(content)), MediaType: r.MediaType, Compression: "none", Digest: digest})
	text, err := m.Encode()
	if err != nil {
		s.T.Fatal(err)
	}
	s.Plant(layout.V3Index, text)
}

func Document(format int, nodes ...string) string {
	return fmt.Sprintf(`{"spec":{"_meta":{"version":%d},"nodes":[%s]},"buildcache_layout_version":2}`, format, strings.Join(nodes, ","))
}

func Node(name, version string, hash spec.Hash, more string) string {
	return fmt.Sprintf(`{"name":"%s","version":"%s",%s"hash":"%s"}`, name, version, more, hash)
}

func Dependency(name string, hash spec.Hash) string {
	return fmt.Sprintf(`"dependencies":[{"name":"%s","hash":"%s","parameters":{"deptypes":["link"],"virtuals":[]}}],`, name, hash)
}
