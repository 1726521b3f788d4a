package publish_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// Without trusted keys too, a document that was changed after it was signed is refused, if the key that signed it is at hand: in the source,
// or in the destination. Otherwise there is a warning.
func TestAChangedDocumentIsRefusedWhereItsKeyIsAtHand(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		changed := publishtest.Copied(t, fixture)
		name := publishtest.DocumentFile(t, changed, "zlib")
		document := publishtest.MustRead(t, name)
		text := bytes.Replace(document, []byte("\n{\n"), []byte("\n{\n\"note\":1,\n"), 1)
		if bytes.Equal(text, document) {
			t.Fatalf("nothing is changed in %s", document)
		}
		publishtest.Must(t, os.WriteFile(name, text, 0o644))
		const reason = "bad signature: it is not of this content"

		out, err := publishtest.PublishTo(t, publishtest.EmptyMirror(t), changed, publishtest.Only("zlib"))
		if err == nil || !refused(out, reason) {
			t.Errorf("%s: with the key in SOURCE: %v, %+v", fixture, err, out)
		}

		keys := "v3/manifests/key"
		if fixture == "v2-signed" {
			keys = "build_cache/_pgp"
		}
		publishtest.Must(t, os.RemoveAll(filepath.Join(changed, keys)))
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("munge"))
		if out, err := publishtest.PublishTo(t, m, changed, publishtest.Only("zlib")); err == nil || !refused(out, reason) {
			t.Errorf("%s: with the key in the destination: %v, %+v", fixture, err, out)
		}

		out = publishtest.MustPublish(t, publishtest.EmptyMirror(t), changed, publishtest.Only("zlib"))
		if len(publishtest.Warnings(out.Findings, "clients cannot check the signatures of 1 package")) != 1 {
			t.Errorf("%s: without the key: %v", fixture, out.Findings)
		}
	}
}

func refused(out *publish.Outcome, reason string) bool {
	for _, f := range out.Findings {
		if f.Severity == buildcache.Error && strings.Contains(f.Reason, reason) {
			return true
		}
	}
	return false
}

// The signature of another content beside a file is refused where the key that made it is at hand, and named where it is not.
func TestASignatureBesideAnotherFile(t *testing.T) {
	k := signtest.Key(t, "release")
	for _, row := range []struct {
		name, signed string
		key          *sign.Key
		refused      bool
		warned       int
	}{
		{"of another file", "yesterday's", k, true, 0},
		{"of this file", "today's", k, false, 0},
		{"of another file, by a key that is not at hand", "yesterday's", nil, false, 1},
	} {
		dir := publishtest.Copied(t, "v3-unsigned")
		signature, err := k.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(row.signed)), nil })
		publishtest.Must(t, err)
		publishtest.Must(t, os.WriteFile(filepath.Join(dir, "a.tar.gz"), []byte("today's"), 0o644))
		publishtest.Must(t, os.WriteFile(filepath.Join(dir, "a.tar.gz.asc"), signature, 0o644))
		o := publishtest.Only("zlib")
		o.Selection.Files, o.Sign.Key = []string{"*.tar.gz"}, row.key
		m := publishtest.EmptyMirror(t)
		out, err := publishtest.PublishTo(t, m, dir, o)
		if _, there := m.Snapshot()["a.tar.gz"]; there == row.refused || (err != nil) != row.refused {
			t.Errorf("%s: published: %t, %v", row.name, there, err)
		}
		if n := len(publishtest.Warnings(out.Findings, "its signature was not checked")); n != row.warned {
			t.Errorf("%s: %d warnings, want %d: %v", row.name, n, row.warned, out.Findings)
		}
	}
}

// A document that is signed is not replaced by one that is not, unless that is said: the same text keeps its signature, and another one is refused.
func TestASignedDocumentIsNotReplacedByAnUnsignedOne(t *testing.T) {
	k := signtest.Key(t, "release")
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		m := publishtest.EmptyMirror(t)
		o := publishtest.Only("zlib")
		o.Sign.Key = k
		publishtest.MustPublish(t, m, publishtest.Original(fixture), o)
		before := m.Snapshot()

		o = publishtest.Only("zlib")
		o.IfExists = publish.Overwrite
		out := publishtest.MustPublish(t, m, publishtest.Original(fixture), o)
		if s := publishtest.Statuses(out)["zlib"]; s != publish.Skipped || len(m.Snapshot()) != len(before) {
			t.Errorf("%s: the same text: %s", fixture, s)
		}
		wantSignedBy(t, m.Snapshot(), k, 1)

		other := publishtest.Copied(t, fixture)
		name := publishtest.DocumentFile(t, other, "zlib")
		document := publishtest.MustRead(t, name)
		publishtest.Must(t, os.WriteFile(name, bytes.Replace(document, []byte("{\n"), []byte("{\n\"note\":1,\n"), 1), 0o644))
		out, err := publishtest.PublishTo(t, m, other, o)
		if err == nil || !refused(out, "the destination holds it signed, and this one is not signed") {
			t.Errorf("%s: another text: %v, %v", fixture, err, out.Findings)
		}
		wantSignedBy(t, m.Snapshot(), k, 1)

		if fixture == "v3-unsigned" {
			o.Downgrade = true
			publishtest.MustPublish(t, m, other, o)
			for name, content := range documentsIn(m.Snapshot()) {
				if k.Verify(content) == nil {
					t.Errorf("%s is as before", name)
				}
			}
		}
	}
}

// Verify finds a document that was changed after it was signed, also where no keys are trusted: the mirror holds the key.
func TestVerifyFindsAChangedDocument(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib"))
		if r := publishtest.MustVerify(t, m, verify.Options{}); len(r.Findings) != 0 {
			t.Errorf("%s: %v", fixture, r.Findings)
		}
		for name, content := range documentsIn(m.Snapshot()) {
			m.Plant(name, bytes.Replace(content, []byte("\n{\n"), []byte("\n{\n\"note\":1,\n"), 1))
		}
		r := publishtest.MustVerify(t, m, verify.Options{})
		if !slices.ContainsFunc(r.Findings, func(f buildcache.Finding) bool {
			return f.Severity == buildcache.Error && strings.Contains(f.Reason, "it is not of this content")
		}) {
			t.Errorf("%s: %v", fixture, r.Findings)
		}
	}
}
