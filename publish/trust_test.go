package publish_test

import (
	"bytes"
	// as S3 lists it
	"fmt"
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
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// What becomes of each document in test/testdata/signed, and which key clients are then offered.
// Why each is refused is in TestSignedDocuments of publish/key.
func TestSignedDocumentsArePublishedOrNot(t *testing.T) {
	published := []string{"ok", "crlf", "trailspace", "evilkey"}
	dirs, err := os.ReadDir(publishtest.Original("signed"))
	publishtest.Must(t, err)
	for _, dir := range dirs {
		t.Run(dir.Name(), func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			out, err := publishtest.PublishTo(t, m, publishtest.Original("signed/"+dir.Name()), publish.Options{Trust: publishtest.Trusting(t, "signed")})
			if !slices.Contains(published, dir.Name()) {
				if err == nil || len(publishtest.Fixed(m)) > 0 {
					t.Errorf("%v, stored %q", err, publishtest.Fixed(m))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			publishtest.WantKeys(t, m.Snapshot(), publishtest.KeyGood) // from the trusted keys, where the source has it not
			if told := publishtest.Warnings(out.Findings, "it is not among the trusted keys, so this key is not published"); (len(told) == 1) != (dir.Name() == "evilkey") {
				t.Errorf("findings: %v", out.Findings)
			}
		})
	}
}

// A key file with a second key in it is refused, and with --keep-going the key that was meant is
// taken from the trusted keys.
func TestAKeySmuggledIntoAKeyFile(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	out, err := publishtest.PublishTo(t, m, publishtest.Original("signed/twokeys"), publish.Options{KeepGoing: true, Trust: publishtest.Trusting(t, "signed")})
	if err == nil || !strings.Contains(fmt.Sprint(out.Findings), "want one") {
		t.Errorf("%v, findings %v", err, out.Findings)
	}
	publishtest.WantKeys(t, m.Snapshot(), publishtest.KeyGood)
	armored, err := publishtest.NewReader().Behind(m.Snapshot(), layout.V3Key(publishtest.KeyGood), manifest.Key)
	publishtest.Must(t, err)
	if p, err := key.ReadPublic(armored); err != nil || p.Fingerprint() != publishtest.KeyGood {
		t.Errorf("published is %v, %v", p, err)
	}
}

// Spack reads the first record of a key's manifest, whatever it is called.
func TestAKeySmuggledIntoAManifest(t *testing.T) {
	dir := publishtest.Copied(t, "signed/evilkey")
	evil := filepath.Join(dir, "v3/manifests/key/8F6D3AD59182B3EED212B7607C6F5ECF36BD1134.key.manifest.json")
	good := publishtest.MustRead(t, publishtest.Original("signed.pub"))
	m, err := manifest.Parse(publishtest.MustRead(t, evil))
	publishtest.Must(t, err)
	m.Records[0].MediaType = "application/octet-stream"
	m.Records = append(m.Records, manifest.Record{Size: int64(len(good)), MediaType: manifest.KeyType, Compression: "none", Digest: blob.DigestOf(good)})
	text, err := m.Encode()
	publishtest.Must(t, err)
	publishtest.Must(t, os.Remove(evil))
	publishtest.Must(t, os.WriteFile(filepath.Join(filepath.Dir(evil), string(publishtest.KeyGood)+".key.manifest.json"), text, 0o644))
	publishtest.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, layout.V3Blob(blob.DigestOf(good)))), 0o755))
	publishtest.Must(t, os.WriteFile(filepath.Join(dir, layout.V3Blob(blob.DigestOf(good))), good, 0o644))
	for _, trust := range []buildcache.Trust{{}, publishtest.Trusting(t, "signed")} {
		to := publishtest.EmptyMirror(t)
		if out, err := publishtest.PublishTo(t, to, dir, publish.Options{Trust: trust}); err == nil || !strings.Contains(fmt.Sprint(out.Findings), "it has 2 records") {
			t.Errorf("%v, findings %v", err, out)
		}
	}
}

// A package outlives the key that signed it.
func TestAPackageOutlivesItsKey(t *testing.T) {
	for _, ring := range []string{"exp", "exp3", "exp4"} {
		trust := publishtest.Trusting(t, "trust/keys/"+ring)
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original("trust/expired"), publish.Options{Trust: trust})
		v := publishtest.MustVerify(t, m, verify.Options{Deep: true, Trust: trust})
		if v.Damaged() || v.Packages != 1 {
			t.Errorf("%s: %+v", ring, v)
		}
		v = publishtest.MustVerify(t, publishtest.Planted(t, "trust/expired"), verify.Options{Trust: trust})
		for _, f := range v.Findings {
			if f.Severity == buildcache.Error && !strings.Contains(f.Reason, "this key is not among the trusted keys") {
				t.Errorf("%s: %v", ring, f) // the mirror has a key that signed nothing
			}
		}
	}
}

// Of a source's keys, only those are published that are trusted, and verify finds the others.
func TestAnUntrustedKeyIsNotPublished(t *testing.T) {
	trust := publishtest.Trusting(t, "trust/keys/ed")
	m := publishtest.EmptyMirror(t)
	out := publishtest.MustPublish(t, m, publishtest.Original("trust/untrusted-key"), publish.Options{Trust: trust})
	publishtest.WantKeys(t, m.Snapshot(), publishtest.KeyEd)
	if len(publishtest.Warnings(out.Findings, "this key is not published")) != 1 {
		t.Errorf("findings: %v", out.Findings)
	}
	if v := publishtest.MustVerify(t, m, verify.Options{Deep: true, Trust: trust}); v.Damaged() {
		t.Errorf("what we published: %v", v.Findings)
	}
	v := publishtest.MustVerify(t, publishtest.Planted(t, "trust/untrusted-key"), verify.Options{Trust: trust})
	if !v.Damaged() || !strings.Contains(fmt.Sprint(v.Findings), "this key is not among the trusted keys") {
		t.Errorf("the source: %v", v.Findings)
	}
}

// What is there already is judged, too: a run that sends nothing says what clients are offered
// and should not trust.
func TestTrustedKeysJudgeWhatIsThere(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publish.Options{})
		two := publish.Options{Trust: buildcache.Trust{Keys: publishtest.VerifyRing(t, "two")}}

		out, err := publishtest.PublishTo(t, m, publishtest.Original(l+"-signed"), two)
		if err == nil || !strings.Contains(fmt.Sprint(out.Findings), "it is there already, but: signature by a key that is not among the trusted keys") {
			t.Errorf("%s: its own packages: %v", l, err)
		}
		before := m.Snapshot()

		// Packages of others, beside one of ours that is there as well.
		o := two
		o.Selection = publishtest.Only("zlib").Selection
		p := publishtest.MustPlan(t, m, publishtest.Original(l+"-unsigned"), o)
		packages := publishtest.MustVerify(t, m, verify.Options{}).Packages
		first := p.Mirrors[0]
		if len(first.Untrusted) < packages-1 || !slices.Contains(first.Untrusted, keyName(l, publishtest.KeyOne)) {
			t.Errorf("%s: %d packages, untrusted are %q", l, packages, first.Untrusted)
		}
		told := publishtest.Warnings(p.Findings, "clients are offered it, but: signature by a key that is not among the trusted keys")
		if len(told) != min(packages, 10) || len(publishtest.Warnings(p.Findings, "this key is not among the trusted keys")) != 1 {
			t.Errorf("%s: findings %v", l, p.Findings)
		}
		if !maps.EqualFunc(before, m.Snapshot(), bytes.Equal) {
			t.Errorf("%s: something was stored", l)
		}

		// What the keys cover is not mentioned.
		o.Trust.Keys = publishtest.VerifyRing(t, "one")
		if p := publishtest.MustPlan(t, m, publishtest.Original(l+"-unsigned"), o); len(p.Mirrors[0].Untrusted) > 0 {
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
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	requests := func(dir string, o publish.Options) int {
		b := mirrortest.Break(m)
		publishtest.MustPlan(t, publishtest.Summed{Store: b, Mem: m}, dir, o)
		return len(b.Calls())
	}
	trusted := publish.Options{Trust: publishtest.Trusting(t, "keys/one")}
	least := requests(publishtest.Original("v3-signed"), publish.Options{})
	if got := requests(publishtest.Original("v3-signed"), trusted); got != least || got > 4 {
		t.Errorf("with everything in the source: %d requests, want %d as without trusted keys", got, least)
	}
	zlib := publishtest.Only("zlib")
	least = requests(publishtest.Original("v3-signed"), zlib)
	zlib.Trust = trusted.Trust
	zlib.Trust.Checked = new(buildcache.Checked)
	others := publishtest.MustVerify(t, m, verify.Options{}).Packages - 1
	if got := requests(publishtest.Original("v3-signed"), zlib); got != least+others {
		t.Errorf("with others' packages: %d requests, want %d and one for each of %d", got, least, others)
	}
	if got := requests(publishtest.Original("v3-signed"), zlib); got != least {
		t.Errorf("again: %d requests, want %d", got, least)
	}
}

// A key's file at the destination that clients cannot use, or that is another key, stays, and the publish says so, also without trusted keys.
func TestDamagedKeysThatAreThereAreNamed(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		for what, content := range map[string][]byte{
			"junk":        []byte("junk"),
			"another key": publishtest.MustRead(t, publishtest.Original("trust/keys/rsa.pub")),
		} {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
			m.Plant(keyName(l, publishtest.KeyOne), content)
			p := publishtest.MustPlan(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
			told := publishtest.Warnings(p.Findings, "that the destination holds cannot be read: ")
			if len(told) != 1 || told[0].File != keyName(l, publishtest.KeyOne) || len(p.Findings) != 1 {
				t.Errorf("%s: %s: %v", l, what, p.Findings)
			}
		}
	}
}

// What the document of a key points at may be damaged as well.
func TestDamagedContentOfAKeyThatIsThereIsNamed(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publishtest.Only("zlib"))
	objects, err := buildcache.V3.ReadKey(t.Context(), m, publishtest.KeyOne)
	if err != nil {
		t.Fatal(err)
	}
	m.Plant(objects[0].Name, []byte("junk"))
	for _, ring := range []*key.Ring{nil, publishtest.VerifyRing(t, "one")} {
		o := publishtest.Only("zlib")
		o.Trust.Keys = ring
		p := publishtest.MustPlan(t, m, publishtest.Original("v3-signed"), o)
		if len(p.Findings) != 1 || !strings.Contains(p.Findings[0].Reason, "put it right with") || p.Findings[0].File != keyName("v3", publishtest.KeyOne) {
			t.Errorf("trusted keys %v: %v", ring != nil, p.Findings)
		}
	}
}

// A key's file at the destination under the name of a trusted key must hold that key alone, and an index of keys must not
// tell of others where none is trusted.
func TestTrustedKeysJudgeKeysThatAreThere(t *testing.T) {
	one, evil := publishtest.MustRead(t, publishtest.Original("keys/one.pub")), publishtest.MustRead(t, publishtest.Original("trust/keys/rsa.pub"))
	name := layout.V2Key(publishtest.KeyOne)
	o := publishtest.Only("zlib")
	o.Trust = buildcache.Trust{Keys: publishtest.VerifyRing(t, "one")}
	for _, row := range []struct {
		name, file string
		content    []byte
		source     string
		want       string
	}{
		{"the key itself", name, one, "v2-signed", ""},
		{"another key", name, evil, "v2-signed", "this key is offered to clients, but: it holds the key 9C57047F"},
		{"another key behind it", name, slices.Concat(one, evil), "v2-signed", "this key is offered to clients, but: public key: it holds 2 armored blocks"},
		{"an index of keys that have other names", layout.V2KeyIndex, []byte(`{"keys":{"evil":{}}}`), "v2-unsigned", "it offers keys to clients, and none of them is trusted"},
		{"an empty index of keys", layout.V2KeyIndex, []byte(`{"keys":{}}`), "v2-unsigned", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(row.source), publishtest.Only("zlib"))
			m.Plant(row.file, row.content)
			if row.want != "" && row.file == name {
				m.Uproot(layout.V2KeyIndex)
			}
			p := publishtest.MustPlan(t, publishtest.Summed{Store: m, Mem: m}, publishtest.Original(row.source), o)
			if len(p.Mirrors[0].KeyIndex) > 0 {
				t.Errorf("clients would be told of keys: %v", p.Mirrors[0].KeyIndex)
			}
			told := publishtest.Warnings(p.Findings, row.want)
			if row.want == "" && len(p.Findings) > 0 || row.want != "" && (len(told) != 1 || told[0].File != row.file || !slices.Contains(p.Mirrors[0].Untrusted, row.file)) {
				t.Errorf("untrusted %q, findings %v", p.Mirrors[0].Untrusted, p.Findings)
			}
		})
	}
}

// A rebuild names only trusted keys, and fails before it touches anything if a package is not trusted.
func TestRebuildNamesTrustedKeys(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("trust/untrusted-key"), publish.Options{Trust: publishtest.Trusting(t, "trust/keys/ed")})
	rsa := publishtest.MustRead(t, publishtest.Original("trust/keys/rsa.pub"))
	ring, err := key.ReadRing(rsa)
	publishtest.Must(t, err)
	publishtest.Must(t, m.PlantFS(os.DirFS(publishtest.Original("trust/untrusted-key"))))
	if _, there := publishtest.KeysIn(t, m.Snapshot()); !slices.Contains(there, ring.Fingerprints()[0]) {
		t.Fatalf("there are %v", there)
	}
	if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
		t.Fatal(err)
	}
	if named, _ := publishtest.KeysIn(t, m.Snapshot()); len(named) != 2 {
		t.Errorf("without trusted keys all are named: %v", named)
	}
	rebuilt, err := reindex.Rebuild(t.Context(), m, publishtest.Trusting(t, "trust/keys/ed"))
	if err != nil || len(publishtest.Warnings(rebuilt[0].Findings, "this key is not offered to clients: this key is not among the trusted keys")) != 1 {
		t.Fatalf("%v, findings %v", err, rebuilt)
	}
	if named, _ := publishtest.KeysIn(t, m.Snapshot()); !slices.Equal(named, []key.Fingerprint{publishtest.KeyEd}) {
		t.Errorf("named are %v", named)
	}

	// One whose file holds another key is not named either.
	m = publishtest.Planted(t, "v2-signed")
	m.Uproot(layout.V2KeyIndex)
	m.Plant(layout.V2Key(publishtest.KeyEd), rsa)
	rebuilt, err = reindex.Rebuild(t.Context(), m, buildcache.Trust{})
	publishtest.Must(t, err)
	if told := publishtest.Warnings(rebuilt[0].Findings, "this key is not offered to clients: it holds the key"); len(told) != 1 || told[0].File != layout.V2Key(publishtest.KeyEd) {
		t.Errorf("findings %v", rebuilt[0].Findings)
	}
	if named, _ := publishtest.KeysIn(t, m.Snapshot()); !slices.Equal(named, []key.Fingerprint{publishtest.KeyOne}) {
		t.Errorf("named are %v", named)
	}
}

// Healing tells clients of no key that is not trusted.
func TestHealingTellsOfTrustedKeys(t *testing.T) {
	for trust, want := range map[string]bool{"trust/keys/rsa": true, "keys/one": false} {
		m := publishtest.Planted(t, "trust/untrusted-key")
		m.Uproot(layout.V3KeyIndex)
		healed, err := reindex.Heal(t.Context(), m, publishtest.Trusting(t, trust), reindex.Changes{Names: slices.Collect(maps.Keys(m.Snapshot()))})
		publishtest.Must(t, err)
		if named, _ := publishtest.KeysIn(t, m.Snapshot()); (len(named) == 1) != want {
			t.Errorf("%s: named are %v", trust, named)
		}
		if told := publishtest.Warnings(healed[0].Findings, "this key is not among the trusted keys"); (len(told) == 0) != want {
			t.Errorf("%s: findings %v", trust, healed[0].Findings)
		}
	}
}
