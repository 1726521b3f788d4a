package key_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// hostile are the signed documents in test/testdata/signed, each in a mirror of its own, and
// why they are refused with signed.pub as the only trusted key. Those with an empty reason are read
// by Spack and accepted by gpg; their mirrors may have something else wrong with them.
var hostile = map[string]string{
	"ok":         "",
	"crlf":       "", // line ends are not signed
	"trailspace": "", // and neither are blanks before them
	"evilkey":    "", // the key beside it is another matter: TestSignedDocumentsArePublishedOrNot
	"twokeys":    "",
	"cr":         "carriage return",
	"dash":       "begins with a dash",
	"evilsigned": "not among the trusted keys",
	"expired":    "not among the trusted keys",
	"fakehash":   "says Hash: MD5, and the signature was made with SHA512",
	"greedy":     "want one",
	"hdr":        "want one Hash header",
	"nbsp":       "want one Hash header",
	"nested":     "want one",
	"nohash":     "want one Hash header",
	"prefix":     "not signed",
	"sha1":       "SHA-1, which is too weak",
	"tamper":     "bad signature",
	"trail":      "want one",
	"trail2":     "nothing around it",
	"twohash":    "want one Hash header",
	"vt":         "then an empty line",
}

func TestSignedDocuments(t *testing.T) {
	trusted, err := key.ReadRing(read(t, "signed.pub"))
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := os.ReadDir(testdata + "signed")
	if err != nil || len(dirs) != len(hostile) {
		t.Fatalf("%d documents, %v; the table has %d", len(dirs), err, len(hostile))
	}
	for _, dir := range dirs {
		t.Run(dir.Name(), func(t *testing.T) {
			document := read(t, filepath.Join("signed", dir.Name(), "v3/manifests/spec/zlib/*.json"))
			reason, ok := hostile[dir.Name()]
			if !ok {
				t.Fatal("it is not in the table")
			}
			signer, err := trusted.Verify(document)
			switch {
			case reason == "" && (err != nil || signer != trusted.Fingerprints()[0]):
				t.Errorf("signed by %q, %v", signer, err)
			case reason != "" && (err == nil || !strings.Contains(err.Error(), reason)):
				t.Errorf("got %v, want %q", err, reason)
			}
		})
	}
}
