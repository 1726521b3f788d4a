package publish_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// A signer signs files, for tests.
type signer struct {
	entity *openpgp.Entity
	ring   *key.Ring
}

func newSigner(t testing.TB) signer {
	t.Helper()
	e, err := openpgp.NewEntity("release", "", "release@example.org", nil)
	must(t, err)
	var public bytes.Buffer
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	must(t, err)
	must(t, e.Serialize(w))
	must(t, w.Close())
	ring, err := key.ReadRing(public.Bytes())
	must(t, err)
	return signer{e, ring}
}

func (s signer) sign(t testing.TB, name string) {
	t.Helper()
	var out bytes.Buffer
	must(t, openpgp.ArmoredDetachSign(&out, s.entity, bytes.NewReader(mustRead(t, name)), nil))
	must(t, os.WriteFile(name+".asc", out.Bytes(), 0o644))
}

const artifact = "dist/slurm-25.11-noble-amd64-software.tar.gz"

// release is a directory with an artifact, its signature and its checksum.
func release(t testing.TB, s signer) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, artifact)
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, bytes.Repeat([]byte("software"), 1000), 0o644))
	s.sign(t, name)
	sum(t, name)
	return dir
}

func sum(t testing.TB, name string) {
	t.Helper()
	must(t, os.WriteFile(name+".sha256", fmt.Appendf(nil, "%s  %s\n", blob.DigestOf(mustRead(t, name)), filepath.Base(name)), 0o644))
}

func files(patterns ...string) publish.Options {
	return publish.Options{Selection: source.Selection{Files: patterns}}
}

// Whoever sees the artifact can check it, and the second time nothing is sent.
func TestFilesComeAfterWhatBelongsToThem(t *testing.T) {
	s := newSigner(t)
	dir := release(t, s)
	m := emptyMirror(t)
	o := files("dist/*.tar.gz", "dist/slurm*")
	o.Trust = buildcache.Trust{RequireSigned: true, Keys: s.ring}
	mustPublish(t, m, dir, o)
	if got, want := m.Stored(), []string{artifact + ".asc", artifact + ".sha256", artifact}; !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
	for _, name := range m.Stored() {
		if !bytes.Equal(m.Snapshot()[name], mustRead(t, filepath.Join(dir, name))) {
			t.Errorf("%s has other content", name)
		}
	}
	m.Forget()
	p := mustPlan(t, m, dir, o)
	if p.Changes() || p.Files[0].Status != publish.Unchanged {
		t.Errorf("plan: %+v", p.Files[0])
	}
	mustPublish(t, m, dir, o)
	if len(m.Mutations()) != 0 {
		t.Errorf("the second time: %v", m.Mutations())
	}
}

// A mirror and plain files are published together, and files last.
func TestFilesBesideAMirror(t *testing.T) {
	dir := copied(t, "v3-unsigned")
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("notes"), 0o644))
	m := emptyMirror(t)
	mustPublish(t, m, dir, files("*.txt"))
	if stored := m.Stored(); stored[len(stored)-1] != "notes.txt" {
		t.Errorf("last is %s", stored[len(stored)-1])
	}
}

// What is wrong with a file, or with what belongs to it, keeps all of it back.
func TestBadFilesAreRefused(t *testing.T) {
	s := newSigner(t)
	for _, row := range []struct {
		name    string
		damage  func(t *testing.T, name string)
		trust   buildcache.Trust
		pattern string
		want    string // the finding: where, and a part of the reason
	}{
		{"checksum differs", func(t *testing.T, name string) { flipFile(t, name) }, buildcache.Trust{}, "", artifact + ".sha256: it says"},
		{"signature over other content", func(t *testing.T, name string) { flipFile(t, name); sum(t, name) }, buildcache.Trust{Keys: s.ring}, "", artifact + ": bad signature"},
		{"signed by another", func(t *testing.T, name string) { newSigner(t).sign(t, name) }, buildcache.Trust{Keys: s.ring}, "", artifact + ": signature by a key that is not among the trusted keys"},
		{"signature truncated", func(t *testing.T, name string) { must(t, os.Truncate(name+".asc", 60)) }, buildcache.Trust{Keys: s.ring}, "", artifact + ": "},
		{"a signature that is huge", func(t *testing.T, name string) { must(t, os.Truncate(name+".asc", 1<<40)) }, buildcache.Trust{Keys: s.ring}, "", artifact + ".asc: it has 1099511627776 bytes"},
		{"a checksum that is huge", func(t *testing.T, name string) { must(t, os.Truncate(name+".sha256", 1<<40)) }, buildcache.Trust{}, "", artifact + ".sha256: it has 1099511627776 bytes"},
		{"not signed", func(t *testing.T, name string) { must(t, os.Remove(name+".asc")) }, buildcache.Trust{RequireSigned: true}, "", artifact + ": it has no signature"},
		{"no match", func(*testing.T, string) {}, buildcache.Trust{}, "dist/*.zip", "dist/*.zip: no file in SOURCE matches"},
		{"named pipe", func(t *testing.T, name string) { replaceFile(t, name, fifo) }, buildcache.Trust{}, "", artifact + ": it is a named pipe"},
		{"leads out", func(t *testing.T, name string) { replaceFile(t, name, leadingOut) }, buildcache.Trust{}, "", artifact + ": it is a symbolic link"},
		{"signature leads out", func(t *testing.T, name string) { replaceFile(t, name+".asc", leadingOut) }, buildcache.Trust{}, "", artifact + ".asc: it is a symbolic link"},
		{"newline", func(t *testing.T, name string) { must(t, os.Rename(name, filepath.Dir(name)+"/a\nb.tar.gz")) }, buildcache.Trust{}, "", "dist/a\nb.tar.gz: a file cannot have control characters"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := release(t, s)
			row.damage(t, filepath.Join(dir, artifact))
			pattern := row.pattern
			if pattern == "" {
				pattern = "dist/*.tar.gz"
			}
			o := files(pattern)
			o.Trust = row.trust
			for _, o.KeepGoing = range []bool{false, true} {
				m := emptyMirror(t)
				out, err := publishTo(t, m, dir, o)
				if err == nil || len(m.Stored()) != 0 {
					t.Fatalf("%v, stored %q", err, m.Stored())
				}
				if len(out.Findings) != 1 || !strings.HasPrefix(out.Findings[0].File+": "+out.Findings[0].Reason, row.want) {
					t.Errorf("findings: %v", out.Findings)
				}
			}
		})
	}
}

// Another file of the name is kept, replaced or refused, and never gets the signature of ours.
func TestFilesIfExists(t *testing.T) {
	s := newSigner(t)
	for _, row := range []struct {
		mode   publish.IfExists
		want   publish.Status
		failed bool
	}{
		{publish.Skip, publish.Skipped, false},
		{publish.Overwrite, publish.Replaced, false},
		{publish.Refuse, publish.Rejected, true},
	} {
		dir := release(t, s)
		m := emptyMirror(t)
		mustPublish(t, m, dir, files("dist/*"))
		before := m.Snapshot()
		name := filepath.Join(dir, artifact)
		flipFile(t, name)
		s.sign(t, name)
		sum(t, name)
		o := files("dist/*")
		o.IfExists = row.mode
		p := mustPlan(t, m, dir, o)
		if p.Files[0].Status != row.want {
			t.Errorf("%s: status is %s", row.mode, p.Files[0].Status)
		}
		out, err := p.Apply(t.Context(), ignored{})
		if (err != nil) != row.failed {
			t.Errorf("%s: %v", row.mode, err)
		}
		for _, name := range []string{artifact, artifact + ".asc", artifact + ".sha256"} {
			content := before[name]
			if row.mode == publish.Overwrite {
				content = mustRead(t, filepath.Join(dir, name))
				if !slices.Contains(out.Stale, name) {
					t.Errorf("%s: caches are not told of %s", row.mode, name)
				}
			}
			if !bytes.Equal(m.Snapshot()[name], content) {
				t.Errorf("%s: %s has other content", row.mode, name)
			}
		}
	}
}

// A file that changes after it was checked is not published.
func TestFileThatChangesIsNotPublished(t *testing.T) {
	s := newSigner(t)
	for what, damage := range map[string]func(name string) error{
		"cut":  func(name string) error { return os.Truncate(name, 10) },
		"gone": os.Remove,
	} {
		dir := release(t, s)
		m := emptyMirror(t)
		p := mustPlan(t, m, dir, files("dist/*"))
		must(t, damage(filepath.Join(dir, artifact)))
		if _, err := p.Apply(t.Context(), ignored{}); err == nil {
			t.Errorf("%s: no error", what)
		}
		if _, ok := m.Snapshot()[artifact]; ok {
			t.Errorf("%s: it is there", what)
		}
	}
}
