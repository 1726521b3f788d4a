package inventory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// fixture opens a copy of a mirror that real Spack wrote.
func fixture(t testing.TB, name string) (*dir.Mirror, string) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(at, os.DirFS("../../test/testdata/"+name)); err != nil {
		t.Fatal(err)
	}
	return open(t, at), at
}

func open(t testing.TB, at string) *dir.Mirror {
	t.Helper()
	d, err := dir.Open(at, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.Mirror("")
}

func read(t testing.TB, r mirror.Reader, view string) *Inventory {
	t.Helper()
	inv, err := Read(t.Context(), r, view)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func selected(t testing.TB, inv *Inventory, text string) []*Build {
	t.Helper()
	q, err := query.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Select(q)
}

func namesOf(builds []*Build) string {
	var all []string
	for _, b := range builds {
		all = append(all, b.Name)
	}
	return strings.Join(all, " ")
}

// A reader is a mirror that cannot be listed, as behind a URL.
type reader struct{ m *dir.Mirror }

func (r reader) Open(ctx context.Context, name string) (*mirror.Object, error) {
	return r.m.Open(ctx, name)
}
func (r reader) Stat(ctx context.Context, name string) (mirror.Info, error) {
	return r.m.Stat(ctx, name)
}

// The packages of both layouts and of views are found by the index alone.
func TestPackagesAreFoundByTheIndex(t *testing.T) {
	for _, row := range []struct{ fixture, view, query, want string }{
		{"v3-signed", "", "^hwloc", "openmpi pmix slurm"},
		{"v3-signed", "", "", "compiler-wrapper gcc gcc-runtime hwloc libevent munge openmpi openssl pmix slurm zlib"},
		{"v3-signed", "", "%gcc@13 target=x86_64_v2: ^openssl@3", "libevent munge openmpi pmix slurm"},
		{"v2-signed", "", "^hwloc", "pmix slurm"},
		{"v2-unsigned", "", "slurm@24 %gcc@13.4.0", "slurm"},
		{"v3-view", "site/login", "", "munge openssl slurm"},
		{"v3-migrated", "", "zlib %gcc", "zlib"},
	} {
		m, _ := fixture(t, row.fixture)
		inv := read(t, reader{m}, row.view)
		if got := namesOf(selected(t, inv, row.query)); got != row.want {
			t.Errorf("%s %q: %s, want %s", row.fixture, row.query, got, row.want)
		}
	}
}

// Dependents are found through any number of packages, the nearest first, by the types that count.
func TestDependents(t *testing.T) {
	m, _ := fixture(t, "v3-signed")
	inv := read(t, m, "")
	on := []*query.Node{selected(t, inv, "zlib")[0].Node}
	show := func(types query.DepTypes) (all []string) {
		for _, d := range inv.Dependents(on, types) {
			all = append(all, fmt.Sprintf("%d %s by %s", d.Distance, d.Name, d.Through.Name))
		}
		return all
	}
	want := []string{
		"1 hwloc by zlib", "1 munge by zlib", "1 openmpi by zlib", "1 openssl by zlib", "1 pmix by zlib", "1 slurm by zlib", "2 libevent by openssl",
	}
	if diff := cmp.Diff(want, show(query.Link)); diff != "" {
		t.Error(diff)
	}
	if got := show(query.Test); len(got) != 0 {
		t.Errorf("nothing is tested with zlib, and we find %v", got)
	}
}

// What a build takes is read from its document, in either layout; who signed it is in the document.
func TestDocuments(t *testing.T) {
	for name, signed := range map[string]bool{"v3-signed": true, "v3-unsigned": false, "v2-signed": true, "v2-unsigned": false, "v3-migrated": false} {
		m, at := fixture(t, name)
		inv := read(t, reader{m}, "")
		documents, err := Documents(t.Context(), reader{m}, inv.Builds)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents {
			if d.Unusable != nil || d.Signed != signed || (d.Signer != "") != signed || d.Tarball() == nil {
				t.Fatalf("%s: %s: %+v", name, d.Build.Name, d)
			}
			info, err := os.Stat(filepath.Join(at, d.Tarball().Name))
			if err != nil || info.Size() != d.Tarball().Size {
				t.Errorf("%s: %s: %v, %d bytes", name, d.Tarball().Name, err, d.Tarball().Size)
			}
		}
	}
}

// Every listed object is accounted for once.
func TestUsage(t *testing.T) {
	for _, name := range []string{"v3-signed", "v2-signed", "v3-view"} {
		m, at := fixture(t, name)
		stray := []byte("an index that was replaced")
		strayName := filepath.Join(at, layout.V3Blob(blob.DigestOf(stray)))
		if err := os.MkdirAll(filepath.Dir(strayName), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(strayName, stray, 0o644); err != nil {
			t.Fatal(err)
		}
		inv := read(t, m, "")
		u, err := inv.Usage(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Amount{1, int64(len(stray))}); u.Superseded != want {
			t.Errorf("%s: superseded: %+v", name, u.Superseded)
		}
		if u.Unindexed != (Amount{}) || u.Other.Objects == 0 {
			t.Errorf("%s: %+v", name, u)
		}
		packages := GroupBy(u.Documents, func(*Document) []string { return []string{""} })[0].Bytes
		if sum := packages + u.Superseded.Bytes + u.Other.Bytes; sum != u.Bytes {
			t.Errorf("%s: %d bytes in all, and %d by kind", name, u.Bytes, sum)
		}
		walked, err := inv.Usage(t.Context(), reader{m})
		if err != nil || walked.Listed || len(walked.Documents) != len(u.Documents) {
			t.Errorf("%s: without a listing: %v, %+v", name, err, walked)
		}
	}
}

// A package that no index names is not part of any group, and is not called superseded.
func TestUsageOfUnindexedPackages(t *testing.T) {
	m, _ := fixture(t, "v3-signed")
	inv := read(t, m, "")
	inv.Builds = slices.DeleteFunc(inv.Builds, func(b *Build) bool { return b.Name == "slurm" })
	u, err := inv.Usage(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if u.Unindexed.Objects != 3 || u.Superseded.Objects != 0 {
		t.Errorf("unindexed %+v, superseded %+v", u.Unindexed, u.Superseded)
	}
}

// What a document points at that cannot be used belongs to a package all the same.
func TestUsageOfADocumentThatCannotBeUsed(t *testing.T) {
	m, at := fixture(t, "v3-unsigned")
	inv := read(t, m, "")
	name := filepath.Join(at, inv.Builds[0].Documents()[0])
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(text), manifest.TarballType, "application/unknown", 1)
	if err := os.WriteFile(name, []byte(damaged), 0o644); err != nil || damaged == string(text) {
		t.Fatal(err, "it names no tarball")
	}
	u, err := inv.Usage(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if u.Documents[0].Unusable == nil || u.Unindexed.Objects != 3 || u.Superseded.Objects != 0 {
		t.Errorf("%v, unindexed %+v, superseded %+v", u.Documents[0].Unusable, u.Unindexed, u.Superseded)
	}
}

// A denier is a mirror that denies what is not there, as S3 does to those who may not list.
type denier struct{ reader }

func (d denier) Open(ctx context.Context, name string) (*mirror.Object, error) {
	o, err := d.reader.Open(ctx, name)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, &mirror.DeniedError{Action: "GET", Name: name, Detail: "403"}
	}
	return o, err
}

// What is denied is not damage as long as the mirror has an index of another layout.
func TestDeniedIsNotThere(t *testing.T) {
	for name, layouts := range map[string]string{"v3-signed": "v3", "v2-signed": "v2", "v2-unsigned": "v2"} {
		m, _ := fixture(t, name)
		inv, err := Read(t.Context(), denier{reader{m}}, "")
		if err != nil || strings.Join(inv.Layouts, " ") != layouts {
			t.Errorf("%s: %v", name, err)
			continue
		}
		documents, err := Documents(t.Context(), denier{reader{m}}, inv.Builds)
		if err != nil || documents[0].Unusable != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(t.Context(), denier{reader{open(t, t.TempDir())}}, ""); !errors.Is(err, mirror.ErrDenied) {
		t.Error(err)
	}
}

// Views are found by listing.
func TestViews(t *testing.T) {
	m, _ := fixture(t, "v3-view")
	views, err := buildcache.Views(t.Context(), m)
	if diff := cmp.Diff([]string{"site/login"}, views); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{"..", "a/../b", "/a", "a//b"} {
		if _, err := Read(t.Context(), m, bad); err == nil || !strings.Contains(err.Error(), "cannot be the name of a view") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := Read(t.Context(), m, "other"); !errors.Is(err, ErrNoIndex) {
		t.Error(err)
	}
}

// Damage is an error that names it; nothing of it is taken for an empty cache.
func TestDamagedIndices(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	text, err := os.ReadFile(filepath.Join(at, layout.V3Index))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := manifest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	indexAt := filepath.Join(at, layout.V3Blob(parsed.Records[0].Digest))
	raw, err := os.ReadFile(indexAt)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(indexAt, string(raw[:len(raw)-1])+" ")
	var mismatch *blob.MismatchError
	if _, err := Read(t.Context(), m, ""); !errors.As(err, &mismatch) {
		t.Errorf("a changed index: %v", err)
	}
	if err := os.Remove(indexAt); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(t.Context(), m, ""); !errors.Is(err, mirror.ErrNotExist) || errors.Is(err, ErrNoIndex) {
		t.Errorf("a missing index: %v", err)
	}
	write(filepath.Join(at, layout.V3Index), `{"version":3,"data":[]}`)
	if _, err := Read(t.Context(), m, ""); err == nil || errors.Is(err, ErrNoIndex) {
		t.Errorf("a manifest that names nothing: %v", err)
	}
	if _, err := Read(t.Context(), open(t, t.TempDir()), ""); !errors.Is(err, ErrNoIndex) {
		t.Errorf("an empty directory: %v", err)
	}
}
