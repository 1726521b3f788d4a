package publish_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

func files(patterns ...string) publish.Options {
	return publish.Options{Selection: source.Selection{Files: patterns}}
}

// Whoever sees the artifact can check it, and the second time nothing is sent.
func TestFilesComeAfterWhatBelongsToThem(t *testing.T) {
	s := publishtest.NewSigner(t)
	dir := publishtest.Release(t, s)
	m := publishtest.EmptyMirror(t)
	o := files("dist/*.tar.gz", "dist/slurm*")
	o.Trust = buildcache.Trust{RequireSigned: true, Keys: s.Ring}
	publishtest.MustPublish(t, m, dir, o)
	if got, want := m.Stored(), []string{publishtest.Artifact + ".asc", publishtest.Artifact + ".sha256", publishtest.Artifact}; !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
	for _, name := range m.Stored() {
		if !bytes.Equal(m.Snapshot()[name], publishtest.MustRead(t, filepath.Join(dir, name))) {
			t.Errorf("%s has other content", name)
		}
	}
	m.Forget()
	p := publishtest.MustPlan(t, m, dir, o)
	if p.Changes() || p.Files[0].Status != publish.Unchanged {
		t.Errorf("plan: %+v", p.Files[0])
	}
	publishtest.MustPublish(t, m, dir, o)
	if len(m.Mutations()) != 0 {
		t.Errorf("the second time: %v", m.Mutations())
	}
}

// A mirror and plain files are published together, and files last.
func TestFilesBesideAMirror(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	publishtest.Must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("notes"), 0o644))
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, dir, files("*.txt"))
	if stored := m.Stored(); stored[len(stored)-1] != "notes.txt" {
		t.Errorf("last is %s", stored[len(stored)-1])
	}
}

// What is wrong with a file, or with what belongs to it, keeps all of it back.
func TestBadFilesAreRefused(t *testing.T) {
	s := publishtest.NewSigner(t)
	for _, row := range []struct {
		name    string
		damage  func(t *testing.T, name string)
		trust   buildcache.Trust
		pattern string
		want    string // the finding: where, and a part of the reason
	}{
		{"checksum differs", func(t *testing.T, name string) { publishtest.FlipFile(t, name) }, buildcache.Trust{}, "", publishtest.Artifact + ".sha256: it says"},
		{"signature over other content", func(t *testing.T, name string) { publishtest.FlipFile(t, name); publishtest.Sum(t, name) }, buildcache.Trust{Keys: s.Ring}, "", publishtest.Artifact + ": bad signature"},
		{"signed by another", func(t *testing.T, name string) { publishtest.NewSigner(t).Sign(t, name) }, buildcache.Trust{Keys: s.Ring}, "", publishtest.Artifact + ": signature by a key that is not among the trusted keys"},
		{"signature truncated", func(t *testing.T, name string) { publishtest.Must(t, os.Truncate(name+".asc", 60)) }, buildcache.Trust{Keys: s.Ring}, "", publishtest.Artifact + ": "},
		{"a signature that is huge", func(t *testing.T, name string) { publishtest.Must(t, os.Truncate(name+".asc", 1<<40)) }, buildcache.Trust{Keys: s.Ring}, "", publishtest.Artifact + ".asc: it has 1099511627776 bytes"},
		{"a checksum that is huge", func(t *testing.T, name string) { publishtest.Must(t, os.Truncate(name+".sha256", 1<<40)) }, buildcache.Trust{}, "", publishtest.Artifact + ".sha256: it has 1099511627776 bytes"},
		{"not signed", func(t *testing.T, name string) { publishtest.Must(t, os.Remove(name+".asc")) }, buildcache.Trust{RequireSigned: true}, "", publishtest.Artifact + ": it has no signature"},
		{"no match", func(*testing.T, string) {}, buildcache.Trust{}, "dist/*.zip", "dist/*.zip: no file in SOURCE matches"},
		{"named pipe", func(t *testing.T, name string) { publishtest.ReplaceFile(t, name, publishtest.Fifo) }, buildcache.Trust{}, "", publishtest.Artifact + ": it is a named pipe"},
		{"leads out", func(t *testing.T, name string) { publishtest.ReplaceFile(t, name, publishtest.LeadingOut) }, buildcache.Trust{}, "", publishtest.Artifact + ": it is a symbolic link"},
		{"signature leads out", func(t *testing.T, name string) { publishtest.ReplaceFile(t, name+".asc", publishtest.LeadingOut) }, buildcache.Trust{}, "", publishtest.Artifact + ".asc: it is a symbolic link"},
		{"newline", func(t *testing.T, name string) {
			publishtest.Must(t, os.Rename(name, filepath.Dir(name)+"/a\nb.tar.gz"))
		}, buildcache.Trust{}, "", "dist/a\nb.tar.gz: a file cannot have control characters"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := publishtest.Release(t, s)
			row.damage(t, filepath.Join(dir, publishtest.Artifact))
			pattern := row.pattern
			if pattern == "" {
				pattern = "dist/*.tar.gz"
			}
			o := files(pattern)
			o.Trust = row.trust
			for _, o.KeepGoing = range []bool{false, true} {
				m := publishtest.EmptyMirror(t)
				out, err := publishtest.PublishTo(t, m, dir, o)
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

// A file that changes after it was planned is rejected by name. The others are stored, and so is the file the next time.
func TestAFileThatChangesWhileItIsSentIsRejected(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	write := func(name, content string) {
		publishtest.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	write("a.txt", "as it was")
	write("b.txt", "as it stays")
	m := publishtest.EmptyMirror(t)
	plan := publishtest.MustPlan(t, m, dir, files("*.txt"))
	write("a.txt", "other content")
	out, err := plan.Apply(t.Context(), publishtest.Ignored{})
	var findings *buildcache.FindingsError
	if !errors.As(err, &findings) || len(out.Findings) != 1 || out.Findings[0].File != "a.txt" {
		t.Fatalf("%v, findings %v", err, out.Findings)
	}
	if out.Files[0].Status != publish.Rejected || out.Files[1].Status != publish.New {
		t.Errorf("files: %v", out.Files)
	}
	if stored := m.Stored(); slices.Contains(stored, "a.txt") || !slices.Contains(stored, "b.txt") {
		t.Errorf("stored %q", stored)
	}
	publishtest.MustPublish(t, m, dir, files("*.txt"))
	if got := string(m.Snapshot()["a.txt"]); got != "other content" {
		t.Errorf("a.txt is %q", got)
	}
}

// Another file of the name is kept, replaced or refused, and never gets the signature of ours.
func TestFilesIfExists(t *testing.T) {
	s := publishtest.NewSigner(t)
	for _, row := range []struct {
		mode   publish.IfExists
		want   publish.Status
		failed bool
	}{
		{publish.Skip, publish.Skipped, false},
		{publish.Overwrite, publish.Replaced, false},
		{publish.Refuse, publish.Rejected, true},
	} {
		dir := publishtest.Release(t, s)
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, dir, files("dist/*"))
		before := m.Snapshot()
		name := filepath.Join(dir, publishtest.Artifact)
		publishtest.FlipFile(t, name)
		s.Sign(t, name)
		publishtest.Sum(t, name)
		o := files("dist/*")
		o.IfExists = row.mode
		p := publishtest.MustPlan(t, m, dir, o)
		if p.Files[0].Status != row.want {
			t.Errorf("%s: status is %s", row.mode, p.Files[0].Status)
		}
		out, err := p.Apply(t.Context(), publishtest.Ignored{})
		if (err != nil) != row.failed {
			t.Errorf("%s: %v", row.mode, err)
		}
		for _, name := range []string{publishtest.Artifact, publishtest.Artifact + ".asc", publishtest.Artifact + ".sha256"} {
			content := before[name]
			if row.mode == publish.Overwrite {
				content = publishtest.MustRead(t, filepath.Join(dir, name))
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
	s := publishtest.NewSigner(t)
	for what, damage := range map[string]func(name string) error{
		"cut":  func(name string) error { return os.Truncate(name, 10) },
		"gone": os.Remove,
	} {
		dir := publishtest.Release(t, s)
		m := publishtest.EmptyMirror(t)
		p := publishtest.MustPlan(t, m, dir, files("dist/*"))
		publishtest.Must(t, damage(filepath.Join(dir, publishtest.Artifact)))
		if _, err := p.Apply(t.Context(), publishtest.Ignored{}); err == nil {
			t.Errorf("%s: no error", what)
		}
		if _, ok := m.Snapshot()[publishtest.Artifact]; ok {
			t.Errorf("%s: it is there", what)
		}
	}
}
