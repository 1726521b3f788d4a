package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// onlyReader is a mirror that cannot be listed.
type onlyReader struct{ mirror.Reader }

// Nothing is wrong with what Spack writes, however closely it is looked at.
func TestVerifyClean(t *testing.T) {
	for _, row := range []struct {
		fixtures []string
		layouts  []string
		packages int
		keys     int
		signed   bool
	}{
		{[]string{"v3-signed"}, []string{"v3"}, 0, 1, true},
		{[]string{"v3-unsigned"}, []string{"v3"}, 0, 0, false},
		{[]string{"v3-view"}, []string{"v3"}, 0, 1, true},
		{[]string{"v2-signed"}, []string{"v2"}, 0, 1, true},
		{[]string{"v2-unsigned"}, []string{"v2"}, 0, 0, false},
		{[]string{"v3-signed", "v2-signed"}, []string{"v3", "v2"}, 0, 1, true},
	} {
		t.Run(strings.Join(row.fixtures, "+"), func(t *testing.T) {
			m := publishtest.Planted(t, row.fixtures...)
			for name := range m.Snapshot() {
				if _, ok := layout.ParseV3Spec(name); ok {
					row.packages++
				} else if _, ok := layout.ParseV2Spec(name); ok {
					row.packages++
				}
			}
			o := verify.Options{Deep: true}
			if row.signed {
				o.Trust = buildcache.Trust{RequireSigned: true, Keys: publishtest.VerifyRing(t, "one")}
			}
			last := 0
			o.Checked = func(n, of int) {
				if n < last || n > of {
					t.Errorf("checked %d of %d after %d", n, of, last)
				}
				last = n
			}
			got := publishtest.MustVerify(t, m, o)
			var bytes int64
			for _, content := range m.Snapshot() {
				bytes += int64(len(content))
			}
			want := &verify.Report{
				Layouts: row.layouts, Packages: row.packages, Keys: row.keys,
				Objects: len(m.Snapshot()), Bytes: bytes, Orphans: got.Orphans, Findings: []buildcache.Finding{},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("listed (-want +got):\n%s", diff)
			}
			if len(m.Mutations()) > 0 {
				t.Errorf("it wrote: %v", m.Mutations())
			}
			last = 0
			walked := publishtest.MustVerify(t, onlyReader{m}, o)
			want.Objects, want.Bytes, want.Orphans = walked.Objects, walked.Bytes, 0
			if diff := cmp.Diff(want, walked); diff != "" {
				t.Errorf("walked (-want +got):\n%s", diff)
			}
			if walked.Objects == 0 || walked.Objects > got.Objects {
				t.Errorf("walked %d of %d objects", walked.Objects, got.Objects)
			}
			if last == 0 {
				t.Error("no progress was told")
			}
		})
	}
}

// A deep check reads every blob once; the other reads no tarball.
func TestVerifyReadsOnce(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		for _, deep := range []bool{false, true} {
			m := publishtest.Planted(t, fixture)
			publishtest.MustVerify(t, m, verify.Options{Deep: deep})
			opened := make(map[string]int)
			for _, c := range m.Calls() {
				switch c.Op {
				case mirrortest.Open:
					opened[c.Name]++
				case mirrortest.Stat:
					t.Errorf("%s: asked for %s, which was listed", fixture, c.Name)
				}
			}
			for name := range m.Snapshot() {
				tarball := strings.HasSuffix(name, ".spack") || isVerifyTarball(t, m, name)
				if n := opened[name]; n > 1 || deep && n == 0 && name != layout.V3Layout || !deep && n > 0 && tarball {
					t.Errorf("%s, deep %t: %s was read %d times", fixture, deep, name, n)
				}
			}
		}
	}
}

func isVerifyTarball(t testing.TB, m *mirrortest.Mem, name string) bool {
	for doc, content := range m.Snapshot() {
		if _, ok := layout.ParseV3Spec(doc); ok && name == publishtest.VerifyRecord(t, content, manifest.Tarball) {
			return true
		}
	}
	return false
}

// Every kind of damage is found, whatever else is in order, and nothing else is.
func TestVerifyDamage(t *testing.T) {
	deep := verify.Options{Deep: true}
	signed := verify.Options{Trust: buildcache.Trust{RequireSigned: true}}
	for _, row := range []struct {
		name    string
		fixture string
		options verify.Options
		damage  func(s publishtest.Subject)
		// want are the findings: where, and a part of the reason. A file of that name may
		// be a placeholder: {pkg} is the document of a package before the damage.
		want []string
		// walked are those of a mirror that cannot be listed; nil if they are the same.
		walked []string
	}{
		{"tarball flipped", "v3-signed", deep, func(s publishtest.Subject) { s.Flip(s.Tarball("zlib")) },
			[]string{"error {zlib}: content has sha256"}, nil},
		{"tarball flipped, not deep", "v3-signed", verify.Options{}, func(s publishtest.Subject) { s.Flip(s.Tarball("zlib")) },
			[]string{}, nil},
		{"v2 tarball flipped", "v2-signed", deep, func(s publishtest.Subject) { s.Flip(s.Tarball("zlib")) },
			[]string{"error {zlib}: content has sha256"}, nil},
		{"tarball cut", "v3-signed", verify.Options{}, func(s publishtest.Subject) { s.Cut(s.Tarball("zlib")) },
			[]string{"error {zlib}: bytes, want"}, nil},
		{"tarball cut, deep", "v3-signed", deep, func(s publishtest.Subject) { s.Cut(s.Tarball("zlib")) },
			[]string{"error {zlib}: bytes, want"}, nil},
		{"tarball gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(s.Tarball("zlib")) },
			[]string{"error {zlib}: is not there"}, nil},
		{"v2 tarball gone", "v2-unsigned", deep, func(s publishtest.Subject) { s.Uproot(s.Tarball("zlib")) },
			[]string{"error {zlib}: is not there"}, nil},
		{"spec blob gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(s.Blob(s.Find("zlib"), manifest.Spec)) },
			[]string{"error {zlib}: is not there"}, nil},
		{"spec blob flipped", "v3-signed", verify.Options{}, func(s publishtest.Subject) { s.Flip(s.Blob(s.Find("zlib"), manifest.Spec)) },
			[]string{"error {zlib}: content has sha256"}, nil},
		{"orphan flipped", "v3-unsigned", deep, func(s publishtest.Subject) {
			s.Plant(layout.V3Blob(blob.DigestOf([]byte("good"))), []byte("evil"))
		}, []string{"error " + layout.V3Blob(blob.DigestOf([]byte("good"))) + ": nothing points at it yet"}, []string{}},
		{"orphan", "v3-unsigned", deep, func(s publishtest.Subject) {
			s.Plant(layout.V3Blob(blob.DigestOf([]byte("good"))), []byte("good"))
		}, []string{}, nil},
		{"manifest gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(s.Find("zlib")) },
			[]string{"error {zlib}: offers zlib@1.3.1"}, nil},
		{"v2 document gone", "v2-signed", deep, func(s publishtest.Subject) { s.Uproot(s.Find("zlib")) },
			[]string{"error {zlib}: offers zlib@1.3.1"}, nil},
		{"manifest cut", "v3-unsigned", deep, func(s publishtest.Subject) { s.Cut(s.Find("zlib")) },
			[]string{"error {zlib}: manifest:"}, nil},
		{"signed manifest cut", "v3-signed", deep, func(s publishtest.Subject) { s.Plant(s.Find("zlib"), s.Read(s.Find("zlib"))[:100]) },
			[]string{"error {zlib}: Spack cannot read it"}, nil},
		{"manifest of another package", "v3-signed", verify.Options{}, func(s publishtest.Subject) {
			s.Plant(s.Find("zlib"), s.Read(s.Find("munge")))
		}, []string{"error {zlib}: it carries munge@0.5.16"}, nil},
		{"v2 document of another package", "v2-signed", verify.Options{}, func(s publishtest.Subject) {
			s.Plant(s.Find("zlib"), s.Read(s.Find("munge")))
		}, []string{"error {zlib}: it carries munge@0.5.16"}, nil},
		{"manifest renamed", "v3-signed", verify.Options{}, func(s publishtest.Subject) {
			s.Move(s.Find("zlib"), strings.ReplaceAll(s.Find("zlib"), "1.3.1", "9.9"))
		}, []string{"error {zlib}: offers zlib@1.3.1", "error {zlib:9.9}: was it renamed?"}, []string{"error {zlib}: offers zlib@1.3.1"}},
		{"manifest in another directory", "v3-signed", verify.Options{}, func(s publishtest.Subject) {
			s.Plant(strings.Replace(s.Find("zlib"), "spec/zlib/", "spec/munge/", 1), s.Read(s.Find("zlib")))
		}, []string{"error {munge/zlib}: not a name"}, []string{}},
		{"other signer", "v3-signed", verify.Options{Trust: buildcache.Trust{Keys: publishtest.VerifyRing(t, "two")}}, func(s publishtest.Subject) {
			for _, pkg := range []string{"gcc", "gcc-runtime", "compiler-wrapper"} {
				s.Plant(s.Find(pkg), s.Read(s.Find(pkg)))
			}
		}, []string{"error v3/manifests/key/*: this key is not among the trusted keys", "every error: not among the trusted keys"}, nil},
		{"signed text edited", "v3-signed", verify.Options{Trust: buildcache.Trust{Keys: publishtest.VerifyRing(t, "one")}}, func(s publishtest.Subject) {
			s.Plant(s.Find("zlib"), bytes.Replace(s.Read(s.Find("zlib")), []byte(`"data"`), []byte(`"more":1,"data"`), 1))
		}, []string{"error {zlib}: bad signature"}, nil},
		{"one unsigned", "v3-signed", signed, func(s publishtest.Subject) {
			text, err := key.Text(s.Read(s.Find("zlib")))
			if err != nil {
				s.T.Fatal(err)
			}
			s.Plant(s.Find("zlib"), text)
		}, []string{"error {zlib}: it is not signed"}, nil},
		{"v2 unsigned", "v2-unsigned", signed, func(publishtest.Subject) {}, []string{"every error: it is not signed"}, nil},
		{"index gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(layout.V3Index) },
			[]string{"error " + layout.V3Index + ": there is no index"}, []string{"no mirror"}},
		{"v2 index gone", "v2-signed", deep, func(s publishtest.Subject) { s.Uproot(layout.V2Index) },
			[]string{"error " + layout.V2Index + ": there is no index"}, []string{"no mirror"}},
		{"index gone, view left", "v3-view", deep, func(s publishtest.Subject) { s.Uproot(layout.V3Index) },
			[]string{"warning " + layout.V3Index + ": that of the views"}, []string{"no mirror"}},
		{"index manifest cut", "v3-signed", deep, func(s publishtest.Subject) { s.Cut(layout.V3Index) },
			[]string{"error " + layout.V3Index + ": manifest"}, nil},
		{"index blob gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(s.Blob(layout.V3Index, manifest.Index)) },
			[]string{"error " + layout.V3Index + ": no such object"}, nil},
		{"index blob flipped", "v3-signed", verify.Options{}, func(s publishtest.Subject) { s.Flip(s.Blob(layout.V3Index, manifest.Index)) },
			[]string{"error " + layout.V3Index + ": content has sha256"}, nil},
		{"index corrupt", "v3-signed", deep, func(s publishtest.Subject) { s.Point(layout.V3Index, manifest.IndexType(index.V8), []byte("{}")) },
			[]string{"error " + layout.V3Index + ": index is corrupt"}, nil},
		{"index of a newer Spack", "v3-signed", deep, func(s publishtest.Subject) {
			s.Point(layout.V3Index, manifest.IndexType(index.V8), []byte(`{"database":{"version":"9","installs":{}}}`))
		}, []string{"error " + layout.V3Index + ": written by a newer Spack"}, nil},
		{"v2 index cut", "v2-signed", deep, func(s publishtest.Subject) {
			s.Cut(layout.V2Index)
			s.Plant(layout.V2IndexHash, []byte(blob.DigestOf(s.Read(layout.V2Index)).String()))
		}, []string{"error " + layout.V2Index + ": index is corrupt"}, nil},
		{"wrong length in the index manifest", "v3-signed", deep, func(s publishtest.Subject) {
			size := fmt.Sprint(len(s.Read(s.Blob(layout.V3Index, manifest.Index))))
			s.Plant(layout.V3Index, bytes.Replace(s.Read(layout.V3Index), []byte(size), []byte("17"), 1))
		}, []string{"error " + layout.V3Index + ": bytes, want 17"}, nil},
		{"not indexed", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { _, r := in.Of("slurm"); r["in_buildcache"] = false })
		}, []string{"error {slurm}: it is not in the index"}, []string{}},
		{"not offered, and nothing depends on it", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { _, r := in.Of("openmpi"); r["in_buildcache"] = false })
		}, []string{"error {openmpi}: it is not in the index"}, []string{"warning " + layout.V3Index + ": record of openmpi/"}},
		{"record that lacks a dependency", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) {
				_, r := in.Of("openmpi")
				node := r["spec"].(map[string]any)
				node["dependencies"] = slices.DeleteFunc(node["dependencies"].([]any), func(d any) bool {
					if d.(map[string]any)["name"] != "zlib" && d.(map[string]any)["name"] != "hwloc" {
						return false
					}
					on := in[d.(map[string]any)["hash"].(string)]
					on["ref_count"] = on["ref_count"].(float64) - 1
					return true
				})
			})
		}, []string{"error " + layout.V3Index + ": has other dependencies"}, nil},
		{"no record", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { in.Remove("openmpi") })
		}, []string{"error {openmpi}: it is not in the index"}, []string{}},
		{"package gone, record left", "v3-signed", deep, func(s publishtest.Subject) {
			s.Uproot(s.Find("openmpi"))
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { _, r := in.Of("openmpi"); r["in_buildcache"] = false })
		}, []string{"warning " + layout.V3Index + ": record of openmpi/"}, nil},
		{"v2 not indexed", "v2-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V2Index, func(in publishtest.Installs) { _, r := in.Of("zlib"); r["in_buildcache"] = false })
		}, []string{"error {zlib}: it is not in the index"}, []string{}},
		{"one offered that is not there", "v3-unsigned", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { _, r := in.Of("glibc"); r["in_buildcache"] = true })
		}, []string{"error {glibc}: offers glibc"}, nil},
		{"dependency without a record", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { h, _ := in.Of("glibc"); delete(in, h) })
		}, []string{"error+ " + layout.V3Index + ": which has no record"}, nil},
		{"wrong ref_count", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { _, r := in.Of("zlib"); r["ref_count"] = 77 })
		}, []string{"error " + layout.V3Index + ": ref_count of zlib/"}, nil},
		{"record that nothing needs", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) {
				h := strings.Repeat("a", 32)
				in[h] = map[string]any{"ref_count": 0, "in_buildcache": false, "spec": map[string]any{"name": "old", "version": "1", "hash": h}}
			})
		}, []string{"warning " + layout.V3Index + ": record of old/aaaaaaa: no package"}, nil},
		{"record of another package", "v3-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) {
				_, r := in.Of("zlib")
				r["spec"].(map[string]any)["hash"] = strings.Repeat("b", 32)
			})
		}, []string{"error " + layout.V3Index + ": it is about /bbbbbbb"}, nil},
		{"record that differs", "v2-signed", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V2Index, func(in publishtest.Installs) {
				_, r := in.Of("zlib")
				r["spec"].(map[string]any)["namespace"] = "other"
			})
		}, []string{"warning " + layout.V2Index + ": record of zlib@1.3.1"}, nil},
		{"name that leads out of the mirror", "v3-unsigned", deep, func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) {
				_, r := in.Of("zlib")
				r["spec"].(map[string]any)["name"] = "../../../etc"
			})
		}, []string{"error v3/manifests/spec/../../../etc/*: offers ../../../etc", "error " + layout.V3Index + ": says that it is ../../../etc"},
			[]string{"error v3/manifests/spec/../../../etc/*: no object can have that name"}},
		{"key index gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(layout.V3KeyIndex) },
			[]string{"error " + layout.V3KeyIndex + ": do not learn of 1 keys"}, []string{"warning v3/manifests/key: cannot check the signatures of 11 packages"}},
		{"v2 key index gone", "v2-signed", deep, func(s publishtest.Subject) { s.Uproot(layout.V2KeyIndex) },
			[]string{"error " + layout.V2KeyIndex + ": do not learn of 1 keys"}, []string{"warning build_cache/_pgp: cannot check the signatures of 9 packages"}},
		{"key index corrupt", "v2-signed", deep, func(s publishtest.Subject) { s.Plant(layout.V2KeyIndex, []byte("{")) },
			[]string{"error " + layout.V2KeyIndex + ": key index:"}, nil},
		{"key index blob gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(s.Blob(layout.V3KeyIndex, manifest.KeyIndex)) },
			[]string{"error " + layout.V3KeyIndex + ": no such object"}, nil},
		{"key not named", "v2-signed", deep, func(s publishtest.Subject) { s.Plant(layout.V2KeyIndex, []byte(`{"keys":{}}`)) },
			[]string{"error " + layout.V2KeyIndex + ": does not name the key"}, []string{"warning build_cache/_pgp: cannot check the signatures of 9 packages"}},
		{"no key named, none there", "v2-unsigned", deep, func(s publishtest.Subject) { s.Plant(layout.V2KeyIndex, []byte(`{"keys":{}}`)) },
			[]string{}, nil},
		{"key gone", "v3-signed", deep, func(s publishtest.Subject) {
			s.Uproot(layout.V3Key(publishtest.VerifyRing(s.T, "one").Fingerprints()[0]))
		},
			[]string{"error " + layout.V3KeyIndex + ": it names the key"}, nil},
		{"key blob flipped", "v3-signed", verify.Options{}, func(s publishtest.Subject) {
			s.Flip(s.Blob(layout.V3Key(publishtest.VerifyRing(s.T, "one").Fingerprints()[0]), manifest.Key))
		}, []string{"error " + layout.V3Key(publishtest.VerifyRing(t, "one").Fingerprints()[0]) + ": content has sha256"}, nil},
		{"other key under its name", "v2-signed", deep, func(s publishtest.Subject) {
			armored, err := os.ReadFile(publishtest.Testdata() + "keys/two.pub")
			if err != nil {
				s.T.Fatal(err)
			}
			s.Plant(layout.V2Key(publishtest.VerifyRing(s.T, "one").Fingerprints()[0]), armored)
		}, []string{"error " + layout.V2Key(publishtest.VerifyRing(t, "one").Fingerprints()[0]) + ": it holds the key"}, nil},
		{"view manifest cut", "v3-view", deep, func(s publishtest.Subject) { s.Cut(publishtest.VerifyView) },
			[]string{"error " + publishtest.VerifyView + ": manifest"}, []string{}},
		{"view blob gone", "v3-view", deep, func(s publishtest.Subject) { s.Uproot(s.Blob(publishtest.VerifyView, manifest.Index)) },
			[]string{"error " + publishtest.VerifyView + ": no such object"}, []string{}},
		{"wrong ref_count in a view", "v3-view", deep, func(s publishtest.Subject) {
			s.Reindex(publishtest.VerifyView, func(in publishtest.Installs) { _, r := in.Of("zlib"); r["ref_count"] = 77 })
		}, []string{"error " + publishtest.VerifyView + ": ref_count of zlib/"}, []string{}},
		{"view offers what is not there", "v3-view", deep, func(s publishtest.Subject) {
			s.Reindex(publishtest.VerifyView, func(in publishtest.Installs) { _, r := in.Of("glibc"); r["in_buildcache"] = true })
		}, []string{"error {glibc}: " + publishtest.VerifyView + " offers glibc"}, []string{}},
		{"v2 hash of another index", "v2-signed", deep, func(s publishtest.Subject) { s.Plant(layout.V2IndexHash, bytes.Repeat([]byte("0"), 64)) },
			[]string{"error " + layout.V2IndexHash + ": clients may fail"}, nil},
		{"v2 hash gone", "v2-signed", deep, func(s publishtest.Subject) { s.Uproot(layout.V2IndexHash) },
			[]string{"error " + layout.V2IndexHash + ": no such object"}, nil},
		{"layout.json gone", "v3-signed", deep, func(s publishtest.Subject) { s.Uproot(layout.V3Layout) },
			[]string{"warning " + layout.V3Layout + ": it is not there"}, nil},
		{"leftover", "v3-signed", deep, func(s publishtest.Subject) {
			if err := s.Abandon(context.Background(), layout.V3Blob(blob.DigestOf(nil))); err != nil {
				s.T.Fatal(err)
			}
			if err := s.Abandon(context.Background(), "noble/"+layout.V3Index); err != nil {
				s.T.Fatal(err) // another mirror's
			}
		}, []string{"warning " + layout.V3Blob(blob.DigestOf(nil)) + ": is not finished"}, []string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := publishtest.SubjectOf(t, publishtest.Planted(t, row.fixture))
			want := verifyExpand(s, row.want)
			walked := verifyExpand(s, row.walked)
			if row.walked == nil {
				walked = want
			}
			row.damage(s)
			wantFindings(t, "listed", s.Mem, row.options, want)
			wantFindings(t, "walked", onlyReader{s.Mem}, row.options, walked)
			if len(s.Mutations()) > 0 {
				t.Errorf("it wrote: %v", s.Mutations())
			}
		})
	}
}

// verifyExpand puts names of documents in for {package}.
func verifyExpand(s publishtest.Subject, want []string) []string {
	s.T.Helper()
	out := []string{}
	for _, w := range want {
		before, rest, ok := strings.Cut(w, "{")
		if ok {
			pkg, after, _ := strings.Cut(rest, "}")
			var name string
			switch pkg {
			case "zlib:9.9":
				name = strings.ReplaceAll(s.Find("zlib"), "1.3.1", "9.9")
			case "munge/zlib":
				name = strings.Replace(s.Find("zlib"), "spec/zlib/", "spec/munge/", 1)
			case "glibc":
				name = "v3/manifests/spec/glibc/*"
			default:
				name = s.Find(pkg)
			}
			w = before + name + after
		}
		out = append(out, w)
	}
	return out
}

// wantFindings compares findings with "severity file: part of the reason". With a + there
// may be more than one of them, "every error" is one for each package, and a file may be a pattern.
func wantFindings(t *testing.T, how string, r mirror.Reader, o verify.Options, want []string) {
	t.Helper()
	got, err := verify.Mirror(t.Context(), r, o)
	if slices.Equal(want, []string{"no mirror"}) {
		if err == nil || !strings.Contains(err.Error(), buildcache.ErrNoMirror.Error()) {
			t.Errorf("%s: got %v, %v", how, got, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	if !slices.IsSortedFunc(got.Findings, func(a, b buildcache.Finding) int { return strings.Compare(a.File, b.File) }) {
		t.Errorf("%s: findings are not sorted", how)
	}
	left := slices.Clone(got.Findings)
	errs := 0
	for _, w := range want {
		head, reason, _ := strings.Cut(w, ": ")
		severity, file, _ := strings.Cut(head, " ")
		severity, several := strings.CutSuffix(severity, "+")
		if head == "every error" {
			severity, file, several = "error", "*", true
		}
		n := 0
		left = slices.DeleteFunc(left, func(f buildcache.Finding) bool {
			ok, err := path.Match(file, f.File)
			if err != nil {
				t.Fatal(err)
			}
			ok = (ok || file == "*") && string(f.Severity) == severity && strings.Contains(f.Reason, reason) && (several || n == 0)
			if ok {
				n++
			}
			return ok
		})
		if n == 0 {
			t.Errorf("%s: want %s", how, w)
		}
		if head == "every error" && n != got.Packages {
			t.Errorf("%s: %d findings for %d packages", how, n, got.Packages)
		}
		if severity == "error" {
			errs += n
		}
	}
	for _, f := range left {
		t.Errorf("%s: did not want %s %s", how, f.Severity, f)
	}
	if got.Damaged() != (errs > 0) {
		t.Errorf("%s: damaged is %t, with %d errors", how, got.Damaged(), errs)
	}
	again, err := verify.Mirror(t.Context(), r, o)
	if diff := cmp.Diff(got, again); diff != "" || err != nil {
		t.Errorf("%s: the second time: %v\n%s", how, err, diff)
	}
}

// What "run publish index" is the advice for is well afterwards.
func TestVerifyAfterRebuild(t *testing.T) {
	for name, damage := range map[string]func(s publishtest.Subject){
		"index gone":      func(s publishtest.Subject) { s.Uproot(layout.V3Index) },
		"index cut":       func(s publishtest.Subject) { s.Cut(layout.V3Index) },
		"index blob gone": func(s publishtest.Subject) { s.Uproot(s.Blob(layout.V3Index, manifest.Index)) },
		"no record": func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { in.Remove("openmpi") })
		},
		"ref_count": func(s publishtest.Subject) {
			s.Reindex(layout.V3Index, func(in publishtest.Installs) { _, r := in.Of("zlib"); r["ref_count"] = 77 })
		},
		"key index": func(s publishtest.Subject) { s.Uproot(layout.V3KeyIndex) },
	} {
		t.Run(name, func(t *testing.T) {
			s := publishtest.SubjectOf(t, publishtest.Planted(t, "v3-signed"))
			damage(s)
			if !publishtest.MustVerify(t, s.Mem, verify.Options{}).Damaged() {
				t.Fatal("it is not damaged")
			}
			if _, err := reindex.Rebuild(t.Context(), s.Mem, buildcache.Trust{}); err != nil {
				t.Fatal(err)
			}
			wantFindings(t, "rebuilt", s.Mem, verify.Options{Deep: true}, []string{})
		})
	}
}

// Clients read through HTTP, and so do we.
func TestVerifyURL(t *testing.T) {
	for _, fixture := range []string{"v3-view", "v2-signed"} {
		server := httptest.NewServer(http.FileServerFS(os.DirFS(publishtest.Testdata() + fixture)))
		defer server.Close()
		m, err := web.Open(server.URL, web.Options{Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		v := publishtest.MustVerify(t, m, verify.Options{Deep: true, Trust: buildcache.Trust{RequireSigned: true, Keys: publishtest.VerifyRing(t, "one")}})
		if len(v.Findings) > 0 || v.Packages == 0 || v.Keys != 1 {
			t.Errorf("%s: %+v", fixture, v)
		}
	}
}

// A publisher at work is no damage: what it had not finished when the index was read is
// looked at again.
func TestVerifyDuringPublish(t *testing.T) {
	for _, pointer := range []string{layout.V3Index, layout.V2Index} {
		fixture := "v3-signed"
		if pointer == layout.V2Index {
			fixture = "v2-signed"
		}
		s := publishtest.SubjectOf(t, publishtest.Planted(t, fixture))
		whole := s.Snapshot()
		zlib := s.Tarball("zlib")
		s.Uproot(zlib)
		s.Reindex(pointer, func(in publishtest.Installs) { _, r := in.Of("zlib"); r["in_buildcache"] = false })
		b := mirrortest.Break(s.Mem)
		listed := 0
		b.AfterEach(func(c mirrortest.Call) {
			// The listing has seen the document, but neither its tarball nor the new index.
			if c.Op == mirrortest.List {
				listed++
			}
			if c.Op == mirrortest.Open && listed > 0 {
				for _, name := range []string{zlib, layout.V2IndexHash, pointer} {
					if content, ok := whole[name]; ok {
						s.Plant(name, content)
					}
				}
				listed = 0
			}
		})
		v := publishtest.MustVerify(t, b, verify.Options{Deep: true})
		for _, f := range v.Findings {
			if f.Severity == buildcache.Error {
				t.Errorf("%s: %s", fixture, f)
			}
		}
	}
}

// A mirror that cannot be reached is no damaged mirror.
func TestVerifyUnreachable(t *testing.T) {
	denied := &mirror.DeniedError{Action: "s3:GetObject", Name: "it", Detail: "injected"}
	region := &mirror.RegionError{Bucket: "cache", Asked: "us-east-1", Region: "eu-west-1"}
	fault := mirror.Faultf("it answers GetObject without Content-Length")
	untrusted := &mirror.CertificateError{}
	for _, row := range []struct {
		name   string
		fault  mirrortest.Fault
		walked bool
		want   error
	}{
		{"credentials", mirrortest.Fail("v3/manifests/spec/zlib", mirror.ErrCredentials), false, mirror.ErrCredentials},
		{"credentials, walked", mirrortest.Fail("v3/manifests/spec/zlib", mirror.ErrCredentials), true, mirror.ErrCredentials},
		{"no bucket", mirrortest.Fail("", mirror.ErrNoBucket), false, mirror.ErrNoBucket},
		{"region", mirrortest.Fail("", region), false, region},
		{"fault", mirrortest.Fail("", fault), false, mirror.ErrFault},
		{"fault at one package", mirrortest.Fail("v3/manifests/spec/zlib", fault), false, mirror.ErrFault},
		{"fault at one package, walked", mirrortest.Fail("v3/manifests/spec/zlib", fault), true, mirror.ErrFault},
		{"fault at the blobs", mirrortest.Fail("blobs/", fault), false, mirror.ErrFault},
		{"fault at the keys", mirrortest.Fail("v3/manifests/key/", fault), true, mirror.ErrFault},
		{"fault of the listing", mirrortest.On(mirrortest.List, mirrortest.Fail("", fault)), false, mirror.ErrFault},
		{"certificate", mirrortest.Fail("v3/manifests/spec/zlib", untrusted), true, untrusted},
		{"index denied", mirrortest.Fail(layout.V3Index, denied), false, mirror.ErrDenied},
		{"listing denied", mirrortest.On(mirrortest.List, mirrortest.Fail("", denied)), false, mirror.ErrDenied},
		{"listing cut", mirrortest.On(mirrortest.List, mirrortest.Cut("blobs/", 3)), false, mirrortest.ErrInjected},
		{"index out of reach", mirrortest.Fail(layout.V3Index, mirrortest.ErrInjected), false, mirrortest.ErrInjected},
		{"all denied, walked", mirrortest.Fail("", denied), true, mirror.ErrDenied},
		{"all packages out of reach", mirrortest.Fail("v3/manifests/spec/", mirrortest.ErrInjected), true, mirrortest.ErrInjected},
	} {
		s := publishtest.SubjectOf(t, publishtest.Planted(t, "v3-signed"))
		s.Reindex(layout.V3Index, func(in publishtest.Installs) {
			for i := range 40 {
				h := strings.Repeat("a", 30) + string([]byte{byte('a' + i/20), byte('a' + i%20)})
				in[h] = map[string]any{"ref_count": 0, "in_buildcache": true, "spec": map[string]any{"name": "n" + h, "version": "1", "hash": h}}
			}
		})
		var r mirror.Reader = mirrortest.Break(s.Mem, row.fault)
		if row.walked {
			r = onlyReader{r}
		}
		if v, err := verify.Mirror(t.Context(), r, verify.Options{}); !errors.Is(err, row.want) || v != nil {
			t.Errorf("%s: got %v, %v", row.name, v, err)
		}
	}
}

// Where clients may not list, what is absent is denied: here, the other layout.
func TestVerifyWhereAbsentIsDenied(t *testing.T) {
	denied := &mirror.DeniedError{Action: "GET", Name: "it", Detail: "403"}
	wantFindings(t, "v3", onlyReader{mirrortest.Break(publishtest.Planted(t, "v3-unsigned"), mirrortest.Fail("build_cache/", denied), mirrortest.Fail("v3/manifests/key/", denied))},
		verify.Options{}, []string{})
	m := publishtest.Planted(t, "v3-unsigned")
	zlib := publishtest.SubjectOf(t, m).Find("zlib")
	wantFindings(t, "gone", onlyReader{mirrortest.Break(m, mirrortest.Fail(zlib, denied))}, verify.Options{},
		[]string{"error " + zlib + ": offers zlib@1.3.1"})
}

func TestVerifyBodyCut(t *testing.T) {
	m := publishtest.Planted(t, "v3-unsigned")
	s := publishtest.SubjectOf(t, m)
	zlib := s.Tarball("zlib")
	wantFindings(t, "cut", mirrortest.Break(m, mirrortest.Cut(zlib, 10)), verify.Options{Deep: true},
		[]string{"error " + s.Find("zlib") + ": read " + zlib})
}

func TestVerifyLeftoversDenied(t *testing.T) {
	m := mirrortest.Break(publishtest.Planted(t, "v3-unsigned"), mirrortest.On(mirrortest.Leftovers, mirrortest.Fail("", mirror.ErrDenied)))
	wantFindings(t, "denied", m, verify.Options{}, []string{"warning : were not looked for"})
}

func TestVerifyNothing(t *testing.T) {
	m := mirrortest.NewMem(t)
	m.Plant("dist/slurm.tar.gz", []byte("x"))
	m.Plant(layout.V3Blob(blob.DigestOf([]byte("x"))), []byte("x"))
	for _, r := range []mirror.Reader{m, onlyReader{m}} {
		if v, err := verify.Mirror(t.Context(), r, verify.Options{}); !errors.Is(err, buildcache.ErrNoMirror) {
			t.Errorf("got %v, %v", v, err)
		}
	}
	// A publisher that died before its first package leaves a mirror without any.
	m.Plant(layout.V3Layout, []byte(`{"signing": "gpg"}`))
	wantFindings(t, "empty", m, verify.Options{Deep: true}, []string{"warning " + layout.V3Index + ": no package"})
}

func TestVerifyStops(t *testing.T) {
	for _, fault := range []mirrortest.Fault{
		mirrortest.Stall("blobs/"), mirrortest.Stall("v3/manifests/spec/"), mirrortest.Stall("v3/manifests/key/"), mirrortest.Stall(layout.V3Index),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		v, err := verify.Mirror(ctx, mirrortest.Break(publishtest.Planted(t, "v3-signed"), fault), verify.Options{Deep: true})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", v, err)
		}
	}
}
