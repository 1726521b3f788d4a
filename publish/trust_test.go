package publish_test

import (
	"bytes"
	"context"
	"crypto/md5" // as S3 lists it
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

const (
	keyOne  = key.Fingerprint("E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5") // signed the fixtures
	keyGood = key.Fingerprint("49A2B952A248E4F41A9B402974A94FA39F9B86F5") // of signed.pub
	keyEd   = key.Fingerprint("2FBB934417628971AFC51D883E3A1C6A9D27F61E") // of trust/keys/ed.pub
)

func trusting(t testing.TB, files ...string) buildcache.Trust {
	t.Helper()
	var armored []byte
	for _, f := range files {
		armored = append(armored, mustRead(t, original(f+".pub"))...)
	}
	ring, err := key.ReadRing(armored)
	must(t, err)
	return buildcache.Trust{RequireSigned: true, Keys: ring}
}

// keysIn are the keys that clients are offered: named in the index of keys, or there at all.
func keysIn(t testing.TB, s map[string][]byte) (named, there []key.Fingerprint) {
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
		index, err = newReader().behind(s, layout.V3KeyIndex, manifest.KeyIndex)
		must(t, err)
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

func wantKeys(t testing.TB, s map[string][]byte, want ...key.Fingerprint) {
	t.Helper()
	slices.Sort(want)
	if named, there := keysIn(t, s); !slices.Equal(named, want) || !slices.Equal(there, want) {
		t.Errorf("clients are told of the keys %v, there are %v, want %v", named, there, want)
	}
}

func warnings(findings []buildcache.Finding, reason string) (found []buildcache.Finding) {
	for _, f := range findings {
		if f.Severity == buildcache.Warning && strings.Contains(f.Reason, reason) {
			found = append(found, f)
		}
	}
	return found
}

// What becomes of each document in test/testdata/signed, and which key clients are then offered.
// Why each is refused is in TestSignedDocuments of publish/key.
func TestSignedDocumentsArePublishedOrNot(t *testing.T) {
	published := []string{"ok", "crlf", "trailspace", "evilkey"}
	dirs, err := os.ReadDir(original("signed"))
	must(t, err)
	for _, dir := range dirs {
		t.Run(dir.Name(), func(t *testing.T) {
			m := emptyMirror(t)
			out, err := publishTo(t, m, original("signed/"+dir.Name()), publish.Options{Trust: trusting(t, "signed")})
			if !slices.Contains(published, dir.Name()) {
				if err == nil || len(fixed(m)) > 0 {
					t.Errorf("%v, stored %q", err, fixed(m))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantKeys(t, m.Snapshot(), keyGood) // from the trusted keys, where the source has it not
			if told := warnings(out.Findings, "it is not among the trusted keys, so this key is not published"); (len(told) == 1) != (dir.Name() == "evilkey") {
				t.Errorf("findings: %v", out.Findings)
			}
		})
	}
}

// A key file with a second key in it is refused, and with --keep-going the key that was meant is
// taken from the trusted keys.
func TestAKeySmuggledIntoAKeyFile(t *testing.T) {
	m := emptyMirror(t)
	out, err := publishTo(t, m, original("signed/twokeys"), publish.Options{KeepGoing: true, Trust: trusting(t, "signed")})
	if err == nil || !strings.Contains(fmt.Sprint(out.Findings), "want one") {
		t.Errorf("%v, findings %v", err, out.Findings)
	}
	wantKeys(t, m.Snapshot(), keyGood)
	armored, err := newReader().behind(m.Snapshot(), layout.V3Key(keyGood), manifest.Key)
	must(t, err)
	if p, err := key.ReadPublic(armored); err != nil || p.Fingerprint() != keyGood {
		t.Errorf("published is %v, %v", p, err)
	}
}

// Spack reads the first record of a key's manifest, whatever it is called.
func TestAKeySmuggledIntoAManifest(t *testing.T) {
	dir := copied(t, "signed/evilkey")
	evil := filepath.Join(dir, "v3/manifests/key/8F6D3AD59182B3EED212B7607C6F5ECF36BD1134.key.manifest.json")
	good := mustRead(t, original("signed.pub"))
	m, err := manifest.Parse(mustRead(t, evil))
	must(t, err)
	m.Records[0].MediaType = "application/octet-stream"
	m.Records = append(m.Records, manifest.Record{Size: int64(len(good)), MediaType: manifest.KeyType, Compression: "none", Digest: blob.DigestOf(good)})
	text, err := m.Encode()
	must(t, err)
	must(t, os.Remove(evil))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(evil), string(keyGood)+".key.manifest.json"), text, 0o644))
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, layout.V3Blob(blob.DigestOf(good)))), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, layout.V3Blob(blob.DigestOf(good))), good, 0o644))
	for _, trust := range []buildcache.Trust{{}, trusting(t, "signed")} {
		to := emptyMirror(t)
		if out, err := publishTo(t, to, dir, publish.Options{Trust: trust}); err == nil || !strings.Contains(fmt.Sprint(out.Findings), "it has 2 records") {
			t.Errorf("%v, findings %v", err, out)
		}
	}
}

// A package outlives the key that signed it.
func TestAPackageOutlivesItsKey(t *testing.T) {
	for _, ring := range []string{"exp", "exp3", "exp4"} {
		trust := trusting(t, "trust/keys/"+ring)
		m := emptyMirror(t)
		mustPublish(t, m, original("trust/expired"), publish.Options{Trust: trust})
		v := mustVerify(t, m, verify.Options{Deep: true, Trust: trust})
		if v.Damaged() || v.Packages != 1 {
			t.Errorf("%s: %+v", ring, v)
		}
		v = mustVerify(t, planted(t, "trust/expired"), verify.Options{Trust: trust})
		for _, f := range v.Findings {
			if f.Severity == buildcache.Error && !strings.Contains(f.Reason, "this key is not among the trusted keys") {
				t.Errorf("%s: %v", ring, f) // the mirror has a key that signed nothing
			}
		}
	}
}

// Of a source's keys, only those are published that are trusted, and verify finds the others.
func TestAnUntrustedKeyIsNotPublished(t *testing.T) {
	trust := trusting(t, "trust/keys/ed")
	m := emptyMirror(t)
	out := mustPublish(t, m, original("trust/untrusted-key"), publish.Options{Trust: trust})
	wantKeys(t, m.Snapshot(), keyEd)
	if len(warnings(out.Findings, "this key is not published")) != 1 {
		t.Errorf("findings: %v", out.Findings)
	}
	if v := mustVerify(t, m, verify.Options{Deep: true, Trust: trust}); v.Damaged() {
		t.Errorf("what we published: %v", v.Findings)
	}
	v := mustVerify(t, planted(t, "trust/untrusted-key"), verify.Options{Trust: trust})
	if !v.Damaged() || !strings.Contains(fmt.Sprint(v.Findings), "this key is not among the trusted keys") {
		t.Errorf("the source: %v", v.Findings)
	}
}

// What is there already is judged, too: a run that sends nothing says what clients are offered
// and should not trust.
func TestTrustedKeysJudgeWhatIsThere(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := emptyMirror(t)
		mustPublish(t, m, original(l+"-signed"), publish.Options{})
		two := publish.Options{Trust: buildcache.Trust{Keys: verifyRing(t, "two")}}

		out, err := publishTo(t, m, original(l+"-signed"), two)
		if err == nil || !strings.Contains(fmt.Sprint(out.Findings), "the destination offers it already, but: signature by a key that is not among the trusted keys") {
			t.Errorf("%s: its own packages: %v", l, err)
		}
		before := m.Snapshot()

		// Packages of others, beside one of ours that is there as well.
		o := two
		o.Selection = only("zlib").Selection
		p := mustPlan(t, m, original(l+"-unsigned"), o)
		packages := mustVerify(t, m, verify.Options{}).Packages
		first := p.Mirrors[0]
		if len(first.Untrusted) < packages-1 || !slices.Contains(first.Untrusted, keyName(l, keyOne)) {
			t.Errorf("%s: %d packages, untrusted are %q", l, packages, first.Untrusted)
		}
		told := warnings(p.Findings, "clients are offered it, but: signature by a key that is not among the trusted keys")
		if len(told) != min(packages, 10) || len(warnings(p.Findings, "this key is not among the trusted keys")) != 1 {
			t.Errorf("%s: findings %v", l, p.Findings)
		}
		if !maps.EqualFunc(before, m.Snapshot(), bytes.Equal) {
			t.Errorf("%s: something was stored", l)
		}

		// What the keys cover is not mentioned.
		o.Trust.Keys = verifyRing(t, "one")
		if p := mustPlan(t, m, original(l+"-unsigned"), o); len(p.Mirrors[0].Untrusted) > 0 {
			t.Errorf("%s: untrusted are %q", l, p.Mirrors[0].Untrusted)
		}
	}
}

func keyName(l string, f key.Fingerprint) string {
	if l == "v2" {
		return layout.V2Key(f)
	}
	return layout.V3Key(f)
}

// Judging costs requests only with trusted keys, only for documents whose signer the source does not
// tell, and in a process that goes on only once each.
func TestJudgingIsCheap(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("v3-signed"), publish.Options{})
	requests := func(dir string, o publish.Options) int {
		b := mirrortest.Break(m)
		mustPlan(t, summed{b, m}, dir, o)
		return len(b.Calls())
	}
	trusted := publish.Options{Trust: trusting(t, "keys/one")}
	least := requests(original("v3-signed"), publish.Options{})
	if got := requests(original("v3-signed"), trusted); got != least || got > 4 {
		t.Errorf("with everything in the source: %d requests, want %d as without trusted keys", got, least)
	}
	zlib := only("zlib")
	least = requests(original("v3-signed"), zlib)
	zlib.Trust = trusted.Trust
	zlib.Trust.Judged = new(buildcache.Judged)
	others := mustVerify(t, m, verify.Options{}).Packages - 1
	if got := requests(original("v3-signed"), zlib); got != least+others {
		t.Errorf("with others' packages: %d requests, want %d and one for each of %d", got, least, others)
	}
	if got := requests(original("v3-signed"), zlib); got != least {
		t.Errorf("again: %d requests, want %d", got, least)
	}
}

// summed lists MD5s, as S3 does.
type summed struct {
	mirror.Store
	m *mirrortest.Mem
}

func (s summed) List(ctx context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	content := s.m.Snapshot()
	return func(yield func(mirror.Info, error) bool) {
		for info, err := range s.Store.List(ctx, r) {
			info.MD5 = fmt.Sprintf("%x", md5.Sum(content[info.Name]))
			if !yield(info, err) {
				return
			}
		}
	}
}

// A key's file at the destination under the name of a trusted key must hold that key alone, and an index of keys must not
// tell of others where none is trusted.
func TestTrustedKeysJudgeKeysThatAreThere(t *testing.T) {
	one, evil := mustRead(t, original("keys/one.pub")), mustRead(t, original("trust/keys/rsa.pub"))
	name := layout.V2Key(keyOne)
	o := only("zlib")
	o.Trust = buildcache.Trust{Keys: verifyRing(t, "one")}
	for _, row := range []struct {
		name, file string
		content    []byte
		source     string
		want       string
	}{
		{"the key itself", name, one, "v2-signed", ""},
		{"another key", name, evil, "v2-signed", "this key is offered to clients, but: it holds the key 9C57047F"},
		{"another key behind it", name, slices.Concat(one, evil), "v2-signed", "this key is offered to clients, but: public key: it holds 2 armored blocks"},
		{"an index of keys that have other names", layout.V2KeyIndex, []byte(`{"keys":{"evil":{}}}`), "v2-unsigned", "it tells clients of keys, and there is none that is trusted"},
		{"an empty index of keys", layout.V2KeyIndex, []byte(`{"keys":{}}`), "v2-unsigned", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := emptyMirror(t)
			mustPublish(t, m, original(row.source), only("zlib"))
			m.Plant(row.file, row.content)
			if row.want != "" && row.file == name {
				m.Uproot(layout.V2KeyIndex)
			}
			p := mustPlan(t, summed{m, m}, original(row.source), o)
			if len(p.Mirrors[0].KeyIndex) > 0 {
				t.Errorf("clients would be told of keys: %v", p.Mirrors[0].KeyIndex)
			}
			told := warnings(p.Findings, row.want)
			if row.want == "" && len(p.Findings) > 0 || row.want != "" && (len(told) != 1 || told[0].File != row.file || !slices.Contains(p.Mirrors[0].Untrusted, row.file)) {
				t.Errorf("untrusted %q, findings %v", p.Mirrors[0].Untrusted, p.Findings)
			}
		})
	}
}

// A rebuild names only trusted keys, and fails before it touches anything if a package is not trusted.
func TestRebuildNamesTrustedKeys(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("trust/untrusted-key"), publish.Options{Trust: trusting(t, "trust/keys/ed")})
	rsa := mustRead(t, original("trust/keys/rsa.pub"))
	ring, err := key.ReadRing(rsa)
	must(t, err)
	must(t, m.PlantFS(os.DirFS(original("trust/untrusted-key"))))
	if _, there := keysIn(t, m.Snapshot()); !slices.Contains(there, ring.Fingerprints()[0]) {
		t.Fatalf("there are %v", there)
	}
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
		t.Fatal(err)
	}
	if named, _ := keysIn(t, m.Snapshot()); len(named) != 2 {
		t.Errorf("without trusted keys all are named: %v", named)
	}
	rebuilt, err := reindex.Rebuild(t.Context(), m, trusting(t, "trust/keys/ed"))
	if err != nil || len(warnings(rebuilt[0].Findings, "clients are not told of this key: this key is not among the trusted keys")) != 1 {
		t.Fatalf("%v, findings %v", err, rebuilt)
	}
	if named, _ := keysIn(t, m.Snapshot()); !slices.Equal(named, []key.Fingerprint{keyEd}) {
		t.Errorf("named are %v", named)
	}

	// One whose file holds another key is not named either.
	m = planted(t, "v2-signed")
	m.Uproot(layout.V2KeyIndex)
	m.Plant(layout.V2Key(keyEd), rsa)
	rebuilt, err = reindex.Rebuild(t.Context(), m, buildcache.Trust{})
	must(t, err)
	if told := warnings(rebuilt[0].Findings, "clients are not told of this key: it holds the key"); len(told) != 1 || told[0].File != layout.V2Key(keyEd) {
		t.Errorf("findings %v", rebuilt[0].Findings)
	}
	if named, _ := keysIn(t, m.Snapshot()); !slices.Equal(named, []key.Fingerprint{keyOne}) {
		t.Errorf("named are %v", named)
	}
}

// Healing tells clients of no key that is not trusted.
func TestHealingTellsOfTrustedKeys(t *testing.T) {
	for trust, want := range map[string]bool{"trust/keys/rsa": true, "keys/one": false} {
		m := planted(t, "trust/untrusted-key")
		m.Uproot(layout.V3KeyIndex)
		healed, err := reindex.Heal(t.Context(), m, trusting(t, trust), reindex.Changes{Names: slices.Collect(maps.Keys(m.Snapshot()))})
		must(t, err)
		if named, _ := keysIn(t, m.Snapshot()); (len(named) == 1) != want {
			t.Errorf("%s: named are %v", trust, named)
		}
		if told := warnings(healed[0].Findings, "this key is not among the trusted keys"); (len(told) == 0) != want {
			t.Errorf("%s: findings %v", trust, healed[0].Findings)
		}
	}
}
