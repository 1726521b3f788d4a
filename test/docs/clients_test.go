package docs

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var byHand = regexp.MustCompile("(?s)<!-- this runs with gpg -->\n```sh\n(.*?)```")

// The signature of a package is checked by hand with the commands that the page shows, and these fail for a package
// that was changed.
func TestASignatureIsCheckedByHand(t *testing.T) {
	p := newPlace(t)
	p.run(t, "publish ./buildcache file:///srv/mirror")
	mirror := filepath.Join(p.dir, "mirror")
	server := httptest.NewServer(http.FileServer(http.Dir(mirror)))
	defer server.Close()
	m := byHand.FindStringSubmatch(pages(t)["docs/clients.md"])
	if m == nil {
		t.Fatal("the page has no such commands")
	}
	home := t.TempDir()
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	script := "export GNUPGHOME=" + home + "\ntrap 'gpgconf --kill all' EXIT\n" + strings.ReplaceAll(m[1], "https://cache.example.org/noble/spack", server.URL)
	said := p.run(t, script)
	for _, want := range []string{"Good signature", ": OK"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	manifests, err := filepath.Glob(filepath.Join(mirror, "v3/manifests/spec/zlib/*.json"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("%v, %v", manifests, err)
	}
	text, err := os.ReadFile(manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifests[0], []byte(strings.Replace(string(text), `"contentLength":4304`, `"contentLength":4305`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	said = p.run(t, "if ("+script+"); then echo accepted; exit 1; fi")
	if !strings.Contains(said, "BAD signature") || strings.Contains(said, ": OK") {
		t.Errorf("%s", said)
	}
}
