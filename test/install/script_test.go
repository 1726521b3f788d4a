package install

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// install.sh puts a program in place only if its checksum is among the signed ones; otherwise it says why, and
// nothing is changed.
func TestInstallScriptChecksWhatItInstalls(t *testing.T) {
	const program = "#!/bin/sh\necho 1.2.3\n"
	sums := fmt.Sprintf("%x  publish-linux-amd64\n%x  publish-linux-arm64\n", sha256.Sum256([]byte(program)), sha256.Sum256([]byte(program)))
	for name, row := range map[string]struct {
		cosign, gh   string // what they do; empty: they are missing
		program      string
		sums         string
		args         []string
		uname        string
		said, called string
		fails        bool
	}{
		"signed":              {cosign: "exit 0", said: "publish v1.2.3 is in ", called: "--certificate-identity https://github.com/vantagecompute/slurm-factory-publish/.github/workflows/release.yml@refs/tags/v1.2.3 SHA256SUMS"},
		"attested":            {gh: "exit 0", said: "publish v1.2.3 is in ", called: "gh attestation verify publish-linux-amd64 --repo vantagecompute/slurm-factory-publish --signer-workflow vantagecompute/slurm-factory-publish/.github/workflows/release.yml --source-ref refs/tags/v1.2.3"},
		"a given version":     {cosign: "exit 0", args: []string{"--version", "1.2.3"}, said: "publish v1.2.3 is in "},
		"another version":     {cosign: "exit 0", args: []string{"--version", "v9.9.9"}, said: "/download/v9.9.9/publish-linux-amd64 cannot be read", fails: true},
		"not signed":          {cosign: "echo no matching signatures; exit 1", said: "no matching signatures\ninstall.sh: SHA256SUMS of v1.2.3 is not signed by the release workflow: nothing was installed", fails: true},
		"not attested":        {gh: "exit 1", said: "is not attested by the release workflow: nothing was installed", fails: true},
		"nothing to check it": {said: "cosign or gh is needed to check the signature", fails: true},
		"another program":     {cosign: "exit 0", program: "#!/bin/sh\necho evil\n", said: "is not the file that SHA256SUMS names: nothing was installed", fails: true},
		"no checksum":         {cosign: "exit 0", sums: strings.ReplaceAll(sums, "publish", "x"), said: "does not name publish-linux-amd64: nothing was installed", fails: true},
		"another machine":     {cosign: "exit 0", uname: "riscv64", said: "no release for riscv64", fails: true},
		"a misspelt argument": {cosign: "exit 0", args: []string{"--verison", "1"}, said: "unknown argument '--verison'", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			if row.program == "" {
				row.program = program
			}
			if row.sums == "" {
				row.sums = sums
			}
			mux := http.NewServeMux()
			mux.HandleFunc("/latest", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/tag/v1.2.3", http.StatusFound) })
			mux.HandleFunc("/tag/v1.2.3", func(http.ResponseWriter, *http.Request) {})
			for file, text := range map[string]string{"publish-linux-amd64": row.program, "SHA256SUMS": row.sums, "SHA256SUMS.sigstore.json": "{}"} {
				mux.HandleFunc("/download/v1.2.3/"+file, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
			}
			server := httptest.NewServer(mux)
			defer server.Close()

			b := newBare(t)
			for _, tool := range []string{"sh", "curl", "sha256sum", "mktemp", "grep", "mv"} {
				path, err := exec.LookPath(tool)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(path, filepath.Join(b.bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			if row.uname == "" {
				row.uname = "x86_64"
			}
			b.tool(t, "uname", "case $1 in -s) echo Linux ;; *) echo "+row.uname+" ;; esac")
			for tool, does := range map[string]string{"cosign": row.cosign, "gh": row.gh} {
				if does != "" {
					b.tool(t, tool, does)
				}
			}
			dir := filepath.Join(t.TempDir(), "bin")
			cmd := exec.Command("sh", append([]string{filepath.Join(root, "install.sh"), "--dir", dir}, row.args...)...)
			cmd.Env = append(b.env, "PUBLISH_RELEASES="+server.URL, "TMPDIR="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if (err != nil) != row.fails || !strings.Contains(string(out), row.said) {
				t.Errorf("%v\n%s", err, out)
			}
			if called := read(t, filepath.Join(filepath.Dir(b.bin), "log")); !strings.Contains(called, row.called) {
				t.Errorf("called were\n%s", called)
			}
			is, err := os.ReadFile(filepath.Join(dir, "publish"))
			if there := err == nil; there == row.fails || there && string(is) != program {
				t.Errorf("installed: %q, %v", is, err)
			}
		})
	}
}
