package action

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms/kmstest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// passphrase is a canary: it must turn up nowhere.
const passphrase = "correct-horse-CANARY-staple"

// A step signs with a key from its inputs, shows neither key nor passphrase, and tells clients how to trust the key. The second
// step sends nothing and needs no more requests than one without a key.
func TestTheActionSigns(t *testing.T) {
	private, public := signtest.Protected(t, passphrase, "ed25519")
	s := newStage(t, "v3-unsigned")
	s.with["sign-key"], s.with["sign-passphrase"] = private, passphrase
	s.with["public-url"], s.with["report-file"] = s.site.URL+"/noble/spack", "report.json"
	got := s.run(t, t.Context())
	got.ends(t, cli.ExitDone, map[string]string{"result": "published", "failure-class": ""})
	if !strings.Contains(got.summary, "spack buildcache keys --install --trust") {
		t.Errorf("the summary does not tell clients how to trust the key:\n%s", got.summary)
	}
	if !strings.Contains(got.report, `"signing_key": "`) {
		t.Errorf("the report does not name the key: %s", got.report)
	}
	checkShown(t, private, got)

	requests := len(s.bucket.Log())
	got = s.run(t, t.Context())
	got.ends(t, cli.ExitDone, map[string]string{"result": "unchanged", "objects-uploaded": "0"})
	with := len(s.bucket.Log()) - requests
	delete(s.with, "sign-key")
	delete(s.with, "sign-passphrase")
	s.with["require-signed"] = "false"
	requests = len(s.bucket.Log())
	s.run(t, t.Context()).ends(t, cli.ExitDone, map[string]string{"result": "unchanged"})
	if without := len(s.bucket.Log()) - requests; with > without {
		t.Errorf("%d requests with a key, %d without", with, without)
	}

	ring, err := key.ReadRing([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob(filepath.Join(s.dir, "buildcache/v3/manifests/spec/*/*"))
	if err != nil || len(documents) < 5 {
		t.Fatal(documents, err)
	}
	for _, name := range documents {
		rel, _ := filepath.Rel(filepath.Join(s.dir, "buildcache"), name)
		content, _ := s.bucket.Object("noble/spack/" + filepath.ToSlash(rel))
		if _, err := ring.Verify(content); err != nil {
			t.Errorf("%s: %v", rel, err)
		}
	}

	s.with["sign-key"], s.with["sign-passphrase"] = private, "another-CANARY-passphrase"
	got = s.run(t, t.Context())
	got.ends(t, cli.ExitUsage, map[string]string{"result": "failed", "failure-class": "config"})
	if text := shownOf(got); !strings.Contains(text, "passphrase is wrong") || strings.Contains(text, "another-CANARY") {
		t.Errorf("a wrong passphrase: %s", text)
	}
	checkShown(t, private, got)
}

// shownOf is all that a step has shown, but for what it has told the runner to mask.
func shownOf(got stepped) string {
	var b strings.Builder
	for line := range strings.Lines(got.log) {
		if !strings.HasPrefix(line, "::add-mask::") {
			b.WriteString(line)
		}
	}
	return b.String() + got.stderr + got.summary + got.report + fmt.Sprint(got.outputs)
}

func checkShown(t testing.TB, private string, got stepped) {
	t.Helper()
	signtest.WantNoSecret(t, passphrase, private, "the step", shownOf(got))
	for _, secret := range signtest.Secrets(passphrase, private)[1:] {
		if !strings.Contains(got.log, "::add-mask::"+secret+"\n") {
			t.Errorf("a line of the key is not masked")
		}
	}
}

// A step signs with a key in KMS as the role that it publishes with, whose session policy lets it.
// The name of the key is no secret.
func TestTheActionSignsWithAKeyInKMS(t *testing.T) {
	s := newStage(t, "v3-unsigned")
	k := kmstest.Start(t)
	k.Add(t, "RSA_2048", "release")
	guarded := httptest.NewServer(s.cloud.Guard(k))
	t.Cleanup(guarded.Close)
	t.Setenv("AWS_ENDPOINT_URL_KMS", guarded.URL)
	const name = "awskms:///arn:aws:kms:" + kmstest.Region + ":" + kmstest.Account + ":alias/release" // in another region than the bucket
	s.with["sign-key"], s.with["sign-public-key"] = name, k.Certificate(t, "release")
	s.with["public-url"] = s.site.URL + "/noble/spack"
	got := s.run(t, t.Context())
	got.ends(t, cli.ExitDone, map[string]string{"result": "published", "failure-class": ""})
	if k.Asked("Sign") == 0 || strings.Contains(got.log, "::add-mask::awskms") {
		t.Errorf("%d signatures: %s", k.Asked("Sign"), got.log)
	}
	signed := k.Asked("Sign")
	s.run(t, t.Context()).ends(t, cli.ExitDone, map[string]string{"result": "unchanged", "objects-uploaded": "0"})
	if k.Asked("Sign") != signed {
		t.Error("a second run signs again")
	}
	k.Deny("kms:Sign")
	s.source(t, "more", "v2-unsigned")
	s.with["path"] = "more"
	got = s.run(t, t.Context())
	got.ends(t, cli.ExitCredentials, map[string]string{"result": "failed"})
	if !strings.Contains(got.log, "kms:Sign on "+name) {
		t.Errorf("denied: %s", got.log)
	}
}

// A secret that is not there gives an empty input. With a passphrase, or where packages must be signed, that is an error: nothing is published
// unsigned in its place.
func TestASecretOfTheSigningKeyThatIsNotThere(t *testing.T) {
	for name, row := range map[string]struct {
		with map[string]string
		code int
		want string
	}{
		"a passphrase without its key": {map[string]string{"sign-key": "", "sign-passphrase": passphrase, "require-signed": "false"}, cli.ExitUsage, "input sign-key: a passphrase is given, but no private key"},
		"neither, as by default":       {map[string]string{"sign-key": "", "sign-passphrase": ""}, cli.ExitSource, "sign-key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, "v3-unsigned")
			for input, value := range row.with {
				s.with[input] = value
			}
			got := s.run(t, t.Context())
			got.ends(t, row.code, map[string]string{"result": "failed"})
			if !strings.Contains(got.log, row.want) || strings.Contains(shownOf(got), passphrase) {
				t.Errorf("want %q: %s", row.want, got.log)
			}
			if _, ok := s.bucket.Object("noble/spack/v3/layout.json"); ok {
				t.Error("something was published")
			}
		})
	}
}
