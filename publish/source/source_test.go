package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// Whatever is wrong with a file of the source: the finding names it and says why, nothing
// that clients would see is written, and with KeepGoing the rest is published and the bad
// is not.
func TestBadSourceIsNeverPublished(t *testing.T) {
	for _, row := range []struct {
		name     string
		fixtures []string
		trust    buildcache.Trust
		damage   func(t *testing.T, dir string)
		reason   string
	}{
		{"manifest truncated", []string{"v3-signed", "v3-unsigned", "v2-signed", "v2-unsigned"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.Must(t, os.Truncate(publishtest.DocumentFile(t, dir, "munge"), 100))
		}, ""},
		{"manifest empty", []string{"v3-signed", "v2-unsigned"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.Must(t, os.Truncate(publishtest.DocumentFile(t, dir, "munge"), 0))
		}, ""},
		{"manifest of another package", []string{"v3-signed", "v2-signed"}, buildcache.Trust{Keys: publishtest.VerifyRing(t, "one")}, func(t *testing.T, dir string) {
			publishtest.Must(t, os.WriteFile(publishtest.DocumentFile(t, dir, "munge"), publishtest.MustRead(t, publishtest.DocumentFile(t, dir, "hwloc")), 0o644))
		}, "was it renamed?"},
		{"spec document truncated", []string{"v3-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			s := publishtest.ContentOf(t, dir)
			name, _ := filepath.Rel(dir, publishtest.DocumentFile(t, dir, "munge"))
			publishtest.Must(t, os.Truncate(filepath.Join(dir, publishtest.PointsAt(t, s, name)[1]), 20))
		}, "bytes"},
		{"tarball truncated", []string{"v3-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.Must(t, os.Truncate(publishtest.ContentFile(t, dir, "munge"), 20))
		}, "has 20 bytes, want"},
		{"tarball missing", []string{"v3-signed", "v2-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.Must(t, os.Remove(publishtest.ContentFile(t, dir, "munge")))
		}, "no such object"},
		{"tarball is a named pipe", []string{"v3-signed", "v2-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.ReplaceFile(t, publishtest.ContentFile(t, dir, "munge"), publishtest.Fifo)
		}, "it is a named pipe, not a regular file"},
		{"manifest is a named pipe", []string{"v3-signed", "v2-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.ReplaceFile(t, publishtest.DocumentFile(t, dir, "munge"), publishtest.Fifo)
		}, "it is a named pipe, not a regular file"},
		{"tarball is a directory", []string{"v3-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.ReplaceFile(t, publishtest.ContentFile(t, dir, "munge"), func(name string) error { return os.Mkdir(name, 0o755) })
		}, "it is a directory, not a regular file"},
		{"tarball leads out of SOURCE", []string{"v3-signed", "v2-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.ReplaceFile(t, publishtest.ContentFile(t, dir, "munge"), publishtest.LeadingOut)
		}, "symbolic link that leads out of SOURCE"},
		{"manifest leads out of SOURCE", []string{"v3-signed", "v2-signed"}, buildcache.Trust{}, func(t *testing.T, dir string) {
			publishtest.ReplaceFile(t, publishtest.DocumentFile(t, dir, "munge"), publishtest.LeadingOut)
		}, "symbolic link that leads out of SOURCE"},
		{"signed text edited", []string{"v3-signed", "v2-signed"}, buildcache.Trust{Keys: publishtest.VerifyRing(t, "one")}, func(t *testing.T, dir string) {
			name := publishtest.DocumentFile(t, dir, "munge")
			publishtest.Must(t, os.WriteFile(name, bytes.Replace(publishtest.MustRead(t, name), []byte(`"version"`), []byte(`"more":1,"version"`), 1), 0o644))
		}, "bad signature"},
		{"signature removed", []string{"v3-signed"}, buildcache.Trust{RequireSigned: true}, func(t *testing.T, dir string) {
			publishtest.Must(t, os.WriteFile(publishtest.DocumentFile(t, dir, "munge"), publishtest.MustRead(t, publishtest.DocumentFile(t, publishtest.Original("v3-unsigned"), "munge")), 0o644))
		}, "it is not signed"},
	} {
		for _, fixture := range row.fixtures {
			for _, keep := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s, keep going %t", fixture, row.name, keep), func(t *testing.T) {
					dir := publishtest.Copied(t, fixture)
					row.damage(t, dir)
					m := publishtest.EmptyMirror(t)
					out, err := publishtest.PublishTo(t, m, dir, publish.Options{KeepGoing: keep, Trust: row.trust})
					var found *buildcache.FindingsError
					if !errors.As(err, &found) {
						t.Fatalf("error is %v", err)
					}
					i := slices.IndexFunc(out.Findings, func(f buildcache.Finding) bool { return strings.Contains(f.File, "munge") })
					if i < 0 || !strings.Contains(out.Findings[i].Reason, row.reason) {
						t.Errorf("findings: %v", out.Findings)
					}
					if !keep {
						if len(m.Stored()) != 0 {
							t.Errorf("stored: %q", m.Stored())
						}
						return
					}
					var got []string
					for _, o := range publishtest.IndexOf(t, m.Snapshot(), publishtest.LayoutOf(fixture)).Offered() {
						name, _, _ := strings.Cut(o, "/")
						got = append(got, name)
					}
					want := []string{"compiler-wrapper", "gcc", "gcc-runtime", "hwloc", "libevent", "openssl", "pmix", "zlib"} // openmpi depends on slurm
					slices.Sort(got)                                                                                           // by names alone
					if publishtest.LayoutOf(fixture) == "v2" {
						want = []string{"gcc", "gcc-runtime", "hwloc", "libevent", "openssl", "pmix", "zlib"}
					}
					if !slices.Equal(got, want) {
						t.Errorf("offered: %q, want %q", got, want)
					}
					for name := range m.Snapshot() {
						if publishtest.IsDocument(name) && (strings.Contains(name, "munge-") || strings.Contains(name, "slurm-")) {
							t.Errorf("reachable: %s", name)
						}
					}
				})
			}
		}
	}
}

// Everybody else's key is refused, whatever it signed.
func TestUntrustedSignatureIsRefused(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		m := publishtest.EmptyMirror(t)
		out, err := publishtest.PublishTo(t, m, publishtest.Original(fixture), publish.Options{KeepGoing: true, Trust: buildcache.Trust{RequireSigned: true, Keys: publishtest.VerifyRing(t, "two")}})
		if err == nil || len(out.Findings) < 9 || len(publishtest.Fixed(m)) > 0 && slices.ContainsFunc(publishtest.Fixed(m), publishtest.IsDocument) {
			t.Errorf("%s: %v, stored %q", fixture, err, publishtest.Fixed(m))
		}
		if _, ok := m.Snapshot()[publishtest.PointerOf(publishtest.LayoutOf(fixture))]; ok {
			t.Errorf("%s: there is an index", fixture)
		}
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{Trust: buildcache.Trust{RequireSigned: true, Keys: publishtest.VerifyRing(t, "one")}})
	}
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		m := publishtest.EmptyMirror(t)
		_, err := publishtest.PublishTo(t, m, publishtest.Original(fixture), publish.Options{KeepGoing: true, Trust: buildcache.Trust{RequireSigned: true}})
		if err == nil || slices.ContainsFunc(publishtest.Fixed(m), publishtest.IsDocument) {
			t.Errorf("%s: %v, stored %q", fixture, err, publishtest.Fixed(m))
		}
	}
}

// All that is wrong is said in one run, of whatever kind it is.
func TestAllFindingsAtOnce(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	publishtest.Must(t, os.Truncate(publishtest.DocumentFile(t, dir, "munge"), 100))
	publishtest.Must(t, os.Truncate(publishtest.ContentFile(t, dir, "zlib"), 20))
	publishtest.ReplaceFile(t, publishtest.ContentFile(t, dir, "hwloc"), publishtest.Fifo)
	publishtest.FlipFile(t, publishtest.ContentFile(t, dir, "compiler-wrapper"))
	publishtest.Must(t, os.WriteFile(filepath.Join(dir, "v3/manifests/spec/zlib/notes.spec.manifest.json"), []byte("{}"), 0o644))
	m := publishtest.EmptyMirror(t)
	out, err := publishtest.PublishTo(t, m, dir, publish.Options{})
	if err == nil || len(m.Stored()) != 0 {
		t.Errorf("%v, stored %q", err, m.Stored())
	}
	all := fmt.Sprint(out.Findings)
	flipped, _ := filepath.Rel(dir, publishtest.ContentFile(t, dir, "compiler-wrapper"))
	for _, want := range []string{"munge-0.5.16", "has 20 bytes", "named pipe", "notes.spec.manifest.json", flipped} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing is said of %s in %s", want, all)
		}
	}
}

// Odd names are shown so that they cannot be mistaken, and are refused, not sent.
// Of one package as well: an unsigned one whose spec is lost and whose tarball is short.
func TestAllFindingsOfAPackage(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	p := publishtest.MustPlan(t, publishtest.EmptyMirror(t), dir, publishtest.Only("zlib"))
	tarball, lost := p.Mirrors[0].Packages[0].Blobs[0].Name, p.Mirrors[0].Packages[0].Blobs[1].Name
	publishtest.Must(t, os.Truncate(filepath.Join(dir, tarball), 10))
	publishtest.Must(t, os.Remove(filepath.Join(dir, lost)))
	o := publishtest.Only("zlib")
	o.Trust.RequireSigned = true
	p = publishtest.MustPlan(t, publishtest.EmptyMirror(t), dir, o)
	if len(p.Findings) != 3 {
		t.Errorf("%d findings, want 3: %v", len(p.Findings), p.Findings)
	}
	for _, part := range []string{"not signed", tarball + " has 10 bytes", lost} {
		if !slices.ContainsFunc(p.Findings, func(f buildcache.Finding) bool { return strings.Contains(f.Reason, part) }) {
			t.Errorf("%q is not said in %v", part, p.Findings)
		}
	}
}

func TestOddNamesAreFindings(t *testing.T) {
	for _, row := range []struct {
		name  string
		place string // a copy of zlib's manifest is put there
		want  string
	}{
		{"newline in a file", "v3/manifests/spec/zlib/zlib-1.3\n.1-hyibvwkwwrofa62pgbz2cra6xzfh7vst.spec.manifest.json", `1.3\n.1-`},
		{"percent in a file", "v3/manifests/spec/zlib/zlib-1.3%2e1-hyibvwkwwrofa62pgbz2cra6xzfh7vst.spec.manifest.json", `1.3%2e1-`},
		{"newline in a directory", "v3/manifests/spec/z\nlib/z_lib-1.3.1-hyibvwkwwrofa62pgbz2cra6xzfh7vst.spec.manifest.json", `z\nlib/`},
		{"newline in the path of a mirror", "a\nb/v3/manifests/spec/zlib/zlib-1.3.1-hyibvwkwwrofa62pgbz2cra6xzfh7vst.spec.manifest.json", `a\nb`},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := publishtest.Copied(t, "v3-unsigned")
			at := filepath.Join(dir, row.place)
			publishtest.Must(t, os.MkdirAll(filepath.Dir(at), 0o755))
			publishtest.Must(t, os.WriteFile(at, publishtest.MustRead(t, publishtest.DocumentFile(t, dir, "zlib")), 0o644))
			m := publishtest.EmptyMirror(t)
			_, err := publishtest.PublishTo(t, m, dir, publish.Options{})
			var found *buildcache.FindingsError
			if !errors.As(err, &found) || !strings.Contains(err.Error(), row.want) || strings.Count(err.Error(), "\n") != len(found.Findings) {
				t.Errorf("error is %v", err)
			}
			if len(m.Stored()) != 0 {
				t.Errorf("stored: %q", m.Stored())
			}
		})
	}
}

// A document under a wrong name harms neither the right one nor what depends on it.
func TestStrayDocumentHarmsNobody(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	stray := strings.Replace(publishtest.DocumentFile(t, dir, "zlib"), "zlib-1.3.1", "zlib-9.9", 1)
	publishtest.Must(t, os.WriteFile(stray, publishtest.MustRead(t, publishtest.DocumentFile(t, dir, "zlib")), 0o644))
	m := publishtest.EmptyMirror(t)
	if _, err := publishtest.PublishTo(t, m, dir, publish.Options{KeepGoing: true}); err == nil {
		t.Error("no error")
	}
	publishtest.WantIndex(t, m.Snapshot(), "v3", publishtest.IndexOf(t, publishtest.ContentOf(t, publishtest.Original("v3-unsigned")), "v3"))
	stray, _ = filepath.Rel(dir, stray)
	if _, ok := m.Snapshot()[stray]; ok {
		t.Error("it was published")
	}
}

// A percent sign in the path of a mirror is just a character.
func TestPercentIsACharacter(t *testing.T) {
	dir := t.TempDir()
	publishtest.Must(t, os.CopyFS(filepath.Join(dir, "100%41"), os.DirFS(publishtest.Original("v3-unsigned"))))
	src := publishtest.SourceOf(t, dir, source.Selection{})
	if len(src.Mirrors) != 1 || src.Mirrors[0].Path != "100%41" {
		t.Errorf("mirrors: %+v", src.Mirrors)
	}
}

// What holds nothing to publish is an error that says what is missing.
func TestNothingToPublish(t *testing.T) {
	for _, row := range []struct {
		name string
		make func(dir string) error
		sel  source.Selection
		want string
	}{
		{"empty directory", func(string) error { return nil }, source.Selection{}, "holds no Spack mirror"},
		{"mirror without packages", func(dir string) error { return os.MkdirAll(dir+"/v3/manifests/spec", 0o755) }, source.Selection{}, "holds no package"},
		{"v2 mirror without packages", func(dir string) error { return os.MkdirAll(dir+"/build_cache", 0o755) }, source.Selection{}, "holds no package"},
		{"nothing selected", func(dir string) error { return os.CopyFS(dir, os.DirFS(publishtest.Original("v3-signed"))) }, source.Selection{Include: []string{"nosuch"}}, "no package in"},
	} {
		dir := t.TempDir()
		publishtest.Must(t, row.make(dir))
		_, err := source.Open(t.Context(), dir, row.sel)
		if !errors.Is(err, source.ErrNothing) || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if _, err := source.Open(t.Context(), filepath.Join(t.TempDir(), "nosuch"), source.Selection{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// Root may read everything, so this test runs itself as somebody else.
const unreadableEnv = "PUBLISH_TEST_UNREADABLE"

// What may not be read is a finding like any other, and found before anything is sent.
func TestUnreadableIsAFinding(t *testing.T) {
	if dir, ok := os.LookupEnv(unreadableEnv); ok {
		readUnreadable(t, dir)
		return
	}
	for _, what := range []string{"directory", "spec", "tarball", "manifest", "key"} {
		dir := publishtest.Copied(t, "v3-signed")
		for parent := dir; parent != "/" && parent != os.TempDir(); parent = filepath.Dir(parent) {
			publishtest.Must(t, os.Chmod(parent, 0o755)) // else somebody else cannot even come here
		}
		s := publishtest.ContentOf(t, dir)
		manifest := publishtest.DocumentFile(t, dir, "munge")
		rel, _ := filepath.Rel(dir, manifest)
		closed := map[string]string{
			"directory": filepath.Dir(manifest), "manifest": manifest, "tarball": publishtest.ContentFile(t, dir, "munge"),
			"spec": filepath.Join(dir, publishtest.PointsAt(t, s, rel)[1]), "key": filepath.Join(dir, "v3/manifests/key"),
		}[what]
		mode := os.FileMode(0o755)
		publishtest.Must(t, os.Chmod(closed, 0))
		cmd := exec.CommandContext(t.Context(), selfCopy(t), "-test.run=^TestUnreadableIsAFinding$", "-test.v")
		cmd.Env = append(os.Environ(), unreadableEnv+"="+dir)
		cmd.Dir = "/"
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("permission denied")) {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
		publishtest.Must(t, os.Chmod(closed, mode)) // so that it can be removed
	}
}

// selfCopy is this program where everybody may run it.
func selfCopy(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	publishtest.Must(t, err)
	dir, err := os.MkdirTemp("", "self")
	publishtest.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	publishtest.Must(t, os.Chmod(dir, 0o755))
	name := filepath.Join(dir, "test")
	publishtest.Must(t, os.WriteFile(name, publishtest.MustRead(t, self), 0o755))
	return name
}

func readUnreadable(t *testing.T, dir string) {
	m := publishtest.EmptyMirror(t)
	out, err := publishtest.PublishTo(t, m, dir, publish.Options{})
	var found *buildcache.FindingsError
	if !errors.As(err, &found) {
		t.Fatalf("error is %v", err)
	}
	for _, f := range out.Findings {
		t.Log(f)
	}
	if len(m.Stored()) != 0 {
		t.Errorf("stored: %q", m.Stored())
	}
}

// Opening a source stops when it is told to.
func TestOpenStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Open(ctx, publishtest.Original("v3-signed"), source.Selection{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// A directory that is nested endlessly is named, and costs no time; what is beside it is published with KeepGoing.
func TestADeepSourceIsNamed(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	for _, at := range []string{"elsewhere", "v3/manifests/spec/deep"} {
		name := filepath.Join(dir, at, strings.Repeat("d/", 1500))
		publishtest.Must(t, os.MkdirAll(name, 0o777))
	}
	src, err := source.Open(t.Context(), dir, source.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if len(src.Mirrors) != 1 || len(src.Mirrors[0].Packages) != 11 {
		t.Errorf("%d mirrors", len(src.Mirrors))
	}
	if len(src.Findings) != 2 {
		t.Fatalf("findings %v", src.Findings)
	}
	for _, f := range src.Findings {
		if f.Severity != buildcache.Error || !strings.Contains(f.Reason, "nested more than 100 deep") || len(f.File) > 300 {
			t.Errorf("%v", f)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if src, err := source.Open(ctx, dir, source.Selection{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", src, err)
	}
}
