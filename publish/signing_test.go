package publish_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

func signing(k *sign.Key) publish.Options {
	return publish.Options{IfExists: publish.Skip, Sign: publish.Signing{Key: k}}
}

// documentsIn are the documents of packages, by name.
func documentsIn(s map[string][]byte) map[string][]byte {
	documents := make(map[string][]byte)
	for name, content := range s {
		if publishtest.IsDocument(name) {
			documents[name] = content
		}
	}
	return documents
}

func wantSignedBy(t testing.TB, s map[string][]byte, k *sign.Key, n int) {
	t.Helper()
	documents := documentsIn(s)
	if len(documents) != n {
		t.Errorf("%d documents, want %d", len(documents), n)
	}
	for name, content := range documents {
		if err := k.Verify(content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, layout.V2Root) != strings.HasSuffix(name, ".spec.json.sig") {
			t.Errorf("%s: a client does not look for a signature there", name)
		}
	}
}

// What is not signed is signed on its way, the public key goes with it, and all else is as without signing. The second run
// writes nothing, and of a store that lists MD5s it reads no document.
func TestPackagesAreSignedAsTheyArePublished(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		t.Run(fixture, func(t *testing.T) {
			k := signtest.Key(t, "release")
			m, plain := publishtest.EmptyMirror(t), publishtest.EmptyMirror(t)
			o := signing(k)
			o.Trust.RequireSigned = true
			publishtest.MustPublish(t, publishtest.Summed{Store: m, Mem: m}, publishtest.Original(fixture), o)
			publishtest.MustPublish(t, plain, publishtest.Original(fixture), publish.Options{})
			wantSignedBy(t, m.Snapshot(), k, len(documentsIn(plain.Snapshot())))
			publishtest.WantKeys(t, m.Snapshot(), k.Fingerprint())
			publishtest.WantIndex(t, m.Snapshot(), publishtest.LayoutOf(fixture), publishtest.IndexOf(t, plain.Snapshot(), publishtest.LayoutOf(fixture)))
			publishtest.Must(t, publishtest.NewReader().Look(m.Snapshot()))

			m.Forget()
			out := publishtest.MustPublish(t, publishtest.Summed{Store: m, Mem: m}, publishtest.Original(fixture), o)
			if out.Objects != 0 || len(out.Findings) != 0 {
				t.Errorf("the second run: %+v", out)
			}
			for _, c := range m.Calls() {
				if c.Op == mirrortest.Open && publishtest.IsDocument(c.Name) {
					t.Errorf("unneeded: %s", c)
				}
			}
			if out := publishtest.MustPublish(t, m, publishtest.Original(fixture), o); out.Objects != 0 {
				t.Errorf("the second run, where no MD5 is listed: %+v", out)
			}
		})
	}
}

// A package that is there without a signature is signed in place, and one that is there signed by another key stays.
func TestWhatIsThereUnsignedIsSigned(t *testing.T) {
	k, other := signtest.Key(t, "release"), signtest.Key(t, "other")
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publish.Options{})
	n := len(documentsIn(m.Snapshot()))
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), signing(k))
	wantSignedBy(t, m.Snapshot(), k, n)
	before := m.Snapshot()
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), signing(other))
	for name, content := range documentsIn(m.Snapshot()) {
		if string(content) != string(before[name]) {
			t.Errorf("%s was replaced", name)
		}
	}
	publishtest.WantKeys(t, m.Snapshot(), k.Fingerprint())
}

// Of what fails a check nothing is signed, nor what depends on it.
func TestOnlyWhatPassedEveryCheckIsSigned(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	s := &signtest.Counter{Signer: signtest.Key(t, "release").Signer()}
	k, err := sign.New(s)
	publishtest.Must(t, err)
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*/*"))
	publishtest.Must(t, err)
	for _, name := range blobs { // same size, other content
		content := publishtest.MustRead(t, name)
		content[len(content)/2] ^= 1
		publishtest.Must(t, os.WriteFile(name, content, 0o644))
	}
	m := publishtest.EmptyMirror(t)
	if _, err := publishtest.PublishTo(t, m, dir, signing(k)); err == nil {
		t.Error("damage was published")
	}
	o := signing(k)
	o.Selection.OS = []string{"other"}
	if _, err := publishtest.PublishTo(t, m, publishtest.Original("v3-unsigned"), o); err == nil {
		t.Error("packages for another system were published")
	}
	if n := s.Signed.Load(); n != 0 || len(documentsIn(m.Snapshot())) != 0 {
		t.Errorf("%d signatures, documents %v", n, documentsIn(m.Snapshot()))
	}
}

// A signer that fails half-way leaves nothing that a client can reach.
func TestASignerThatFailsPublishesNothing(t *testing.T) {
	broken := errors.New("the token was pulled")
	k, err := sign.New(&signtest.Counter{Signer: signtest.Key(t, "release").Signer(), Fail: 2, Err: broken})
	publishtest.Must(t, err)
	m := publishtest.EmptyMirror(t)
	if _, err := publishtest.PublishTo(t, m, publishtest.Original("v3-unsigned"), signing(k)); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if names := publishtest.Fixed(m); len(names) > 0 {
		t.Errorf("it stored %q", names)
	}
}

// The signature of a build key, once it was checked, is replaced by that of the release key, which alone is offered to clients.
func TestResignReplacesTheKeyOfTheBuild(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		for _, there := range []bool{false, true} {
			k := signtest.Key(t, "release")
			m := publishtest.EmptyMirror(t)
			want := []key.Fingerprint{k.Fingerprint()}
			if there {
				publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{})
				want = append(want, publishtest.KeyOne) // nothing is deleted
			}
			o := signing(k)
			o.Sign.Resign = true
			if _, err := publishtest.PublishTo(t, m, publishtest.Original(fixture), o); err == nil || !strings.Contains(err.Error(), "trusted keys") {
				t.Errorf("without trusted keys: %v", err)
			}
			o.Trust = publishtest.Trusting(t, "keys/two")
			if _, err := publishtest.PublishTo(t, m, publishtest.Original(fixture), o); err == nil {
				t.Error("signatures by a key that is not trusted were replaced")
			}
			o.Trust = publishtest.Trusting(t, "keys/one")
			publishtest.MustPublish(t, m, publishtest.Original(fixture), o)
			wantSignedBy(t, m.Snapshot(), k, len(documentsIn(publishtest.ContentOf(t, publishtest.Original(fixture)))))
			publishtest.WantKeys(t, m.Snapshot(), want...)
			publishtest.Must(t, publishtest.NewReader().Look(m.Snapshot()))
			if out := publishtest.MustPublish(t, m, publishtest.Original(fixture), o); out.Objects != 0 {
				t.Errorf("%s: the second run: %+v", fixture, out)
			}
		}
	}
}

// meeting is a store in which nobody reads a document alone.
type meeting struct {
	mirror.Store
	first sync.Once
	two   chan struct{}
}

func (m *meeting) Open(ctx context.Context, name string) (*mirror.Object, error) {
	if !buildcache.LooksLikeDocument(name) {
		return m.Store.Open(ctx, name)
	}
	alone := false
	m.first.Do(func() { alone = true })
	if !alone {
		select {
		case m.two <- struct{}{}:
		default:
		}
		return m.Store.Open(ctx, name)
	}
	select {
	case <-m.two:
		return m.Store.Open(ctx, name)
	case <-time.After(10 * time.Second):
		return nil, errors.New("it was read alone")
	}
}

// What the destination holds is read side by side: one round trip for each of 10,000 packages would take minutes.
func TestDocumentsThatAreThereAreReadSideBySide(t *testing.T) {
	k, m := signtest.Key(t, "release"), publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	o := signing(k)
	o.Sign.Resign, o.Trust = true, publishtest.Trusting(t, "keys/one")
	publishtest.MustPlan(t, &meeting{Store: m, two: make(chan struct{}, 1)}, publishtest.Original("v3-unsigned"), o)
}

// A signature that only the destination has is replaced once it was checked, and its key is named. One that was not accepted stays, unless the
// document is to be replaced in any case.
func TestResignChecksWhatTheDestinationHolds(t *testing.T) {
	for _, layout := range []string{"v3", "v2"} {
		for _, row := range []struct {
			trusted  string
			exists   publish.IfExists
			replaced bool
			was      string
		}{
			{"keys/one", publish.Skip, true, string(publishtest.KeyOne)},
			{"keys/one", publish.Overwrite, true, string(publishtest.KeyOne)},
			{"keys/two", publish.Skip, false, ""},
			{"keys/two", publish.Overwrite, true, ""},
		} {
			k, m := signtest.Key(t, "release"), publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, m, publishtest.Original(layout+"-signed"), publish.Options{})
			before := m.Snapshot()
			o := signing(k)
			o.Sign.Resign, o.IfExists, o.Trust = true, row.exists, publishtest.Trusting(t, row.trusted)
			out, err := publishtest.PublishTo(t, m, publishtest.Original(layout+"-unsigned"), o)
			if !row.replaced {
				refused := slices.DeleteFunc(out.Findings, func(f buildcache.Finding) bool {
					return f.Severity != buildcache.Error || !strings.Contains(f.Reason, "not replaced, unless if-exists is overwrite: signature by a key that is not among the trusted keys")
				})
				if err == nil || len(refused) != len(documentsIn(before)) || mirrortest.Diff(before, m.Snapshot()) != "" {
					t.Errorf("%s: %+v: %v, refused %v: %s", layout, row, err, refused, mirrortest.Diff(before, m.Snapshot()))
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSignedBy(t, m.Snapshot(), k, len(documentsIn(before)))
			for _, p := range out.Mirrors[0].Packages {
				if p.Replaces() != row.was {
					t.Errorf("%s: %+v: %s: it was signed by %q", layout, row, p.ID(), p.Replaces())
				}
			}
			for _, p := range publishtest.MustPublish(t, m, publishtest.Original(layout+"-unsigned"), o).Mirrors[0].Packages {
				if p.Status != publish.Unchanged || p.Replaces() != "" {
					t.Errorf("%s: %+v: the second run: %s: %s, in place of %q", layout, row, p.ID(), p.Status, p.Replaces())
				}
			}
		}
	}
}

// A document that another publisher replaces meanwhile is not overwritten.
func TestResignReplacesOnlyWhatItSaw(t *testing.T) {
	k, other := signtest.Key(t, "release"), signtest.Key(t, "other")
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	n := len(documentsIn(m.Snapshot()))
	o := signing(k)
	o.Sign.Resign, o.Trust = true, publishtest.Trusting(t, "keys/one")
	plan := publishtest.MustPlan(t, m, publishtest.Original("v3-signed"), o)
	o.Sign.Key = other
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), o)
	if _, err := plan.Apply(t.Context(), publishtest.Ignored{}); err != nil {
		t.Fatal(err)
	}
	wantSignedBy(t, m.Snapshot(), other, n)
}

// A plain file gets a signature and a checksum if it has none.
func TestFilesAreSigned(t *testing.T) {
	dir := publishtest.Release(t, publishtest.NewSigner(t))
	publishtest.Must(t, os.Remove(filepath.Join(dir, publishtest.Artifact+".asc")))
	publishtest.Must(t, os.Remove(filepath.Join(dir, publishtest.Artifact+".sha256")))
	k := signtest.Key(t, "release")
	armored, err := k.Public().Armored()
	publishtest.Must(t, err)
	ring, err := key.ReadRing(armored)
	publishtest.Must(t, err)
	m := publishtest.EmptyMirror(t)
	o := signing(k)
	o.Selection.Files, o.Trust.RequireSigned = []string{"dist/*"}, true
	publishtest.MustPublish(t, m, dir, o)
	s := m.Snapshot()
	if _, err := ring.VerifyDetached(strings.NewReader(string(s[publishtest.Artifact])), s[publishtest.Artifact+".asc"]); err != nil {
		t.Error(err)
	}
	if got := string(s[publishtest.Artifact+".sha256"]); !strings.HasSuffix(got, "  "+filepath.Base(publishtest.Artifact)+"\n") {
		t.Errorf(".sha256 is %q", got)
	}
	if out := publishtest.MustPublish(t, m, dir, o); out.Objects != 0 {
		t.Errorf("the second run: %+v", out)
	}
	publishtest.Must(t, os.WriteFile(filepath.Join(dir, publishtest.Artifact), []byte("other"), 0o644))
	if out := publishtest.MustPublish(t, m, dir, o); out.Objects != 0 || len(publishtest.Warnings(out.Findings, "stays")) == 0 {
		t.Errorf("another file of that name: %+v", out)
	}
	o.IfExists = publish.Overwrite
	publishtest.MustPublish(t, m, dir, o)
	s = m.Snapshot()
	if _, err := ring.VerifyDetached(strings.NewReader(string(s[publishtest.Artifact])), s[publishtest.Artifact+".asc"]); err != nil || string(s[publishtest.Artifact]) != "other" {
		t.Error(err)
	}
}

// A text that gpg and Spack would read differently is refused before anything is sent.
func TestADocumentThatCannotBeSigned(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	names, err := filepath.Glob(filepath.Join(dir, "v3/manifests/spec/zlib/*"))
	publishtest.Must(t, err)
	text := publishtest.MustRead(t, names[0])
	publishtest.Must(t, os.WriteFile(names[0], []byte(strings.Replace(string(text), "{", `{"x":"`+strings.Repeat("x", 20_000)+`",`, 1)), 0o644))
	m := publishtest.EmptyMirror(t)
	_, err = publishtest.PublishTo(t, m, dir, signing(signtest.Key(t, "release")))
	if err == nil || !strings.Contains(err.Error(), "cannot be signed") || len(m.Snapshot()) > 0 {
		t.Errorf("%v, stored %v", err, publishtest.Fixed(m))
	}
}

// A key that has signed packages is reported from 60 days before it expires, and no damage.
func TestVerifyWarnsBeforeAKeyExpires(t *testing.T) {
	for days, want := range map[int]string{0: "", 61: "", 59: "it expires on "} {
		k, err := sign.ReadKey(signtest.Private(t, "release", time.Duration(days)*24*time.Hour), nil, time.Now())
		publishtest.Must(t, err)
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), signing(k))
		v := publishtest.MustVerify(t, m, verify.Options{})
		if v.Damaged() || len(v.Findings) > 1 || (len(v.Findings) == 1) != (want != "") || want != "" && !strings.Contains(v.Findings[0].Reason, want) {
			t.Errorf("%d days: %v", days, v.Findings)
		}
	}
}

// With resign, the signature of a plain file by another key is replaced, where SOURCE has it and where DESTINATION alone has it. Without, it stays.
func TestResignReplacesTheSignaturesOfFiles(t *testing.T) {
	for _, inSource := range []bool{true, false} {
		s, k := publishtest.NewSigner(t), signtest.Key(t, "release")
		dir, m := publishtest.Release(t, s), publishtest.EmptyMirror(t)
		o := publish.Options{IfExists: publish.Skip}
		o.Selection.Files = []string{"dist/*"}
		publishtest.MustPublish(t, m, dir, o)
		if !inSource {
			publishtest.Must(t, os.Remove(filepath.Join(dir, publishtest.Artifact+".asc")))
		}
		o.Trust.Keys, o.Sign.Key = s.Ring, k
		by := func() key.Fingerprint {
			content := m.Snapshot()
			f, err := s.Ring.With(k.Public()).VerifyDetached(bytes.NewReader(content[publishtest.Artifact]), content[publishtest.Artifact+".asc"])
			if err != nil {
				t.Error(err)
			}
			return f
		}
		publishtest.MustPublish(t, m, dir, o)
		if by() == k.Fingerprint() {
			t.Errorf("in SOURCE: %t: it was signed again without being asked to", inSource)
		}
		o.Sign.Resign = true
		was := string(by())
		if out := publishtest.MustPublish(t, m, dir, o); by() != k.Fingerprint() || out.Objects != 1 || out.Files[0].WasBy != was {
			t.Errorf("in SOURCE: %t: signed by %s, %d objects, in place of %q", inSource, by(), out.Objects, out.Files[0].WasBy)
		}
		if out := publishtest.MustPublish(t, m, dir, o); by() != k.Fingerprint() || out.Objects != 0 || out.Files[0].WasBy != "" {
			t.Errorf("in SOURCE: %t: the second run: signed by %s, %d objects, in place of %q", inSource, by(), out.Objects, out.Files[0].WasBy)
		}
	}
}

// Trusted keys judge the signature that the destination holds of a file, whether one is made or not: one that they do not accept is reported, and
// replaced only with if-exists overwrite.
func TestTheSignatureOfAFileThatIsThereIsJudged(t *testing.T) {
	s, k := publishtest.NewSigner(t), signtest.Key(t, "release")
	dir := publishtest.Release(t, s)
	o := publish.Options{IfExists: publish.Skip}
	o.Selection.Files = []string{"dist/*"}
	for name, there := range map[string][]byte{
		"by an untrusted key": nil,
		"cut off":             []byte("-----BEGIN PGP SIGNATURE-----\n\niQ"),
		"of something else":   publishtest.MustRead(t, filepath.Join(dir, publishtest.Artifact+".sha256")),
		"too large":           bytes.Repeat([]byte("x"), 1<<20),
	} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, dir, o)
		if there != nil {
			m.Plant(publishtest.Artifact+".asc", there)
		}
		unsigned := publishtest.Release(t, s)
		publishtest.Must(t, os.Remove(filepath.Join(unsigned, publishtest.Artifact+".asc")))
		before := m.Snapshot()
		judging := o
		judging.Trust.Keys = new(key.Ring).With(k.Public())
		for _, judging.Sign.Key = range []*sign.Key{nil, k} {
			out := publishtest.MustPublish(t, m, unsigned, judging)
			if w := publishtest.Warnings(out.Findings, "clients are offered it, but: "); len(w) != 1 || w[0].File != publishtest.Artifact+".asc" || mirrortest.Diff(before, m.Snapshot()) != "" {
				t.Errorf("%s: signing %t: %v, %s", name, judging.Sign.Key != nil, out.Findings, mirrortest.Diff(before, m.Snapshot()))
			}
		}
		judging.Sign.Resign = true
		out, err := publishtest.PublishTo(t, m, unsigned, judging)
		if err == nil || out.Files[0].Status != publish.Rejected || mirrortest.Diff(before, m.Snapshot()) != "" {
			t.Errorf("%s: resign: %v, %+v, %s", name, err, out, mirrortest.Diff(before, m.Snapshot()))
		}
		judging.IfExists = publish.Overwrite
		if out := publishtest.MustPublish(t, m, unsigned, judging); out.Objects != 1 || out.Files[0].WasBy != "" || len(publishtest.Warnings(out.Findings, "")) > 0 {
			t.Errorf("%s: overwrite: %+v", name, out)
		}
		if _, err := judging.Trust.Keys.VerifyDetached(bytes.NewReader(before[publishtest.Artifact]), m.Snapshot()[publishtest.Artifact+".asc"]); err != nil {
			t.Errorf("%s: overwritten: %v", name, err)
		}
	}
}
