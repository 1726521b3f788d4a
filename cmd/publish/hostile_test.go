package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// A terminal shows what it gets, and the runner of a workflow takes some lines for commands. So
// whatever a source, a mirror, a server or a daemon holds, what we print has no control characters
// but line breaks and tabs, and no such line.

const evil = "\x1b]0;PWNED\a\x1b[2J\n::error title=pwn::INJECTED\r##[error]x\u202e\u009b31m"

var commandLine = regexp.MustCompile(`(?m)^\s*::|##\[`)

func isHarmless(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && c != '\t' && !unicode.IsPrint(c) }) {
		t.Errorf("%s: a terminal gets\n%q", what, text)
	}
	if commandLine.MatchString(text) {
		t.Errorf("%s: a runner gets a command:\n%s", what, text)
	}
}

// spec is the text of a spec blob.
func specText(name, version, hash, os, target string) []byte {
	text, err := json.Marshal(map[string]any{"buildcache_layout_version": 2, "spec": map[string]any{"_meta": map[string]any{"version": 5}, "nodes": []any{map[string]any{
		"name": name, "version": version, "arch": map[string]any{"platform": "linux", "platform_os": os, "target": target}, "namespace": "builtin",
		"parameters": map[string]any{}, "package_hash": "x", "hash": hash,
	}}}})
	if err != nil {
		panic(err)
	}
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	_, _ = zw.Write(text)
	_ = zw.Close()
	return packed.Bytes()
}

// put stores content as a blob below a mirror, and returns its record.
func put(t *testing.T, mirror, mediaType string, content []byte) map[string]any {
	t.Helper()
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	dir := filepath.Join(mirror, "blobs", "sha256", sum[:2])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, filepath.Join(dir, sum), string(content))
	return map[string]any{"contentLength": len(content), "mediaType": mediaType, "compression": "gzip", "checksumAlgorithm": "sha256", "checksum": sum}
}

// hostile adds a package to a mirror: its manifest is about one package, and its spec about another.
func hostile(t *testing.T, mirror, dir, version, hash string, spec []byte) {
	t.Helper()
	manifest, err := json.Marshal(map[string]any{"version": 3, "data": []any{
		put(t, mirror, "application/vnd.spack.install.v2.tar+gzip", []byte("tarball")), put(t, mirror, "application/vnd.spack.spec.v5+json", spec),
	}})
	if err != nil {
		t.Fatal(err)
	}
	filtered := regexp.MustCompile(`[^A-Za-z0-9_+.-]`)
	at := filepath.Join(mirror, "v3", "manifests", "spec", dir)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, filepath.Join(at, filtered.ReplaceAllString(dir, "_")+"-"+filtered.ReplaceAllString(version, "_")+"-"+hash+".spec.manifest.json"), string(manifest))
}

func TestNothingOfASourceReachesATerminalAsItIs(t *testing.T) {
	src, out := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "mirror")
	hash := func(c string) string { return strings.Repeat(c, 32) }
	hostile(t, src, "good", "1", hash("a"), specText("good", "1", hash("a"), "ubuntu22.04", "x86_64"))
	hostile(t, src, "evil-version", "1"+evil, hash("b"), specText("evil-version", "1"+evil, hash("b"), "ubuntu22.04", "x86_64"))
	hostile(t, src, "evil-os", "1", hash("c"), specText("evil-os", "1", hash("c"), "x"+evil, "x86_64"))
	hostile(t, src, "evil-target", "1", hash("d"), specText("evil-target", "1", hash("d"), "ubuntu22.04", "x"+evil))
	hostile(t, src, "carries", "9", hash("e"), specText("zlib", "1"+evil, hash("e"), "ubuntu22.04", "x86_64"))
	hostile(t, src, "evil"+evil, "1", hash("f"), specText("evil"+evil, "1", hash("f"), "ubuntu22.04", "x86_64"))
	hostile(t, src, "no-json", "1", hash("g"), []byte(evil))
	if err := os.MkdirAll(filepath.Join(src, "dir"+evil, "v3"), 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, filepath.Join(src, "file"+evil+".tar.gz"), "x")
	for _, row := range []struct {
		code int
		args []string
	}{
		{cli.ExitSource, []string{"--dry-run", src, "file://" + out}},
		{cli.ExitSource, []string{src, "file://" + out}},
		{cli.ExitSource, []string{"--files", "*.tar.gz", "--expect-os", "ubuntu*", "--keep-going", src, "file://" + out}},
		{cli.ExitSource, []string{"--keep-going", "--json", src, "file://" + out}},
		{cli.ExitUsage, []string{"--include", "x" + evil, src, "file://" + out}},
		{cli.ExitUsage, []string{"--if-exists", evil, src, "file://" + out}},
		{cli.ExitUsage, []string{src, evil}},
		{cli.ExitUsage, []string{evil}},
		{cli.ExitDone, []string{"verify", "--deep", "file://" + out}},
		{cli.ExitVerification, []string{"verify", "--deep", "file://" + src}},
		{cli.ExitVerification, []string{"verify", "--json", "file://" + src}},
		{cli.ExitDone, []string{"index", "file://" + src}},
	} {
		code, stdout, stderr := execute(t, nil, row.args...)
		if code != row.code {
			t.Errorf("%q ends with %d, want %d: %s%s", row.args, code, row.code, stdout, stderr)
		}
		isHarmless(t, fmt.Sprintf("%q", row.args), stdout)
		isHarmless(t, fmt.Sprintf("%q", row.args), stderr)
		if strings.Contains(stdout, `"version": 1`) && !json.Valid([]byte(stdout)) {
			t.Errorf("%q: no document: %s", row.args, stdout)
		}
	}
	index, err := filepath.Glob(filepath.Join(out, "v3", "manifests", "spec", "*"))
	if err != nil || len(index) != 1 || filepath.Base(index[0]) != "good" {
		t.Errorf("published %q, %v", index, err)
	}
}

// answering answers every request with the same bytes.
func answering(t *testing.T, answer string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = c.Write([]byte(answer))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestNothingOfAServerReachesATerminalAsItIs(t *testing.T) {
	body := "<Error><Code>" + evil + "</Code><Message>" + evil + "</Message></Error>"
	text := strings.NewReplacer("\n", " ", "\r", " ").Replace(evil) // which ends no header
	for _, answer := range []string{
		"HTTP/1.1 418 " + text + "\r\nContent-Length: 0\r\n\r\n",
		fmt.Sprintf("HTTP/1.1 403 %s\r\nContent-Length: %d\r\n\r\n%s", text, len(body), body),
		fmt.Sprintf("HTTP/1.1 400 %s\r\nContent-Length: %d\r\n\r\n%s", text, len(body), body),
		fmt.Sprintf("HTTP/1.1 301 %s\r\nX-Amz-Bucket-Region: eu%s\r\nContent-Length: %d\r\n\r\n%s", text, text, len(body), body),
		"HTTP/1.1 302 Found\r\nLocation: " + text + "\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Encoding: " + text + "\r\nContent-Length: 0\r\n\r\n",
		fmt.Sprintf("HTTP/1.1 200 OK\r\nETag: %s\r\nContent-Length: %d\r\n\r\n%s", text, len(evil), evil),
		evil,
	} {
		where := answering(t, answer)
		t.Setenv("AWS_ACCESS_KEY_ID", "key")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		for _, args := range [][]string{
			{"verify", "--timeout", "400ms", where},
			{"verify", "--timeout", "400ms", "--endpoint-url", where, "--region", "x", "s3://bucket/x"},
			{"--timeout", "400ms", "--endpoint-url", where, "--region", "x", clitest.Spack(t, "v3-signed"), "s3://bucket/x"},
		} {
			code, stdout, stderr := execute(t, nil, args...)
			if code == cli.ExitDone || code == cli.ExitInternal {
				t.Errorf("%q: %q ends with %d: %s%s", answer, args, code, stdout, stderr)
			}
			isHarmless(t, fmt.Sprintf("%q: %q", answer, args), stdout)
			isHarmless(t, fmt.Sprintf("%q: %q", answer, args), stderr)
		}
	}
}

// What answers on the socket may not be our daemon, and its text holds names of sources.
func TestNothingOfADaemonReachesATerminalAsItIs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	told, err := json.Marshal(map[string]any{
		"healthy": false, "problem": evil, "trouble": evil,
		"mirrors": []any{map[string]any{"name": evil, "paused": evil, "running": []any{map[string]any{"step": evil}}}},
		"failed":  []any{map[string]any{"mirror": evil, "package": evil, "reason": evil}}, "stuck": []any{map[string]any{"mirror": evil, "file": evil, "reason": evil}},
		"obligations": []any{map[string]any{"mirror": evil, "reason": evil}}, "jobs": []any{map[string]any{"mirror": evil, "package": evil, "state": evil, "reason": evil}},
	})
	if err != nil {
		t.Fatal(err)
	}
	indexer := bytes.Replace(told, []byte(`{`), []byte(`{"mode":"indexer",`), 1)
	drained, err := json.Marshal(map[string]any{
		"done": true, "failed": []any{map[string]any{"mirror": evil, "package": evil, "reason": evil}},
		"incomplete": []any{map[string]any{"mirror": evil, "file": evil, "reason": evil}}, "blocked": map[string]any{evil: evil}, "not_invalidated": []string{evil},
	})
	if err != nil {
		t.Fatal(err)
	}
	refusal, err := json.Marshal(map[string]any{"error": evil, "message": evil, "hint": evil})
	if err != nil {
		t.Fatal(err)
	}
	var answer func(w http.ResponseWriter)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	for _, row := range []struct {
		document []byte
		status   int
		commands [][]string
	}{
		{told, http.StatusOK, [][]string{{"status"}, {"status", "--json"}, {"push", "x"}, {"push", "--json", "x"}, {"retry"}}},
		{indexer, http.StatusOK, [][]string{{"status"}}},
		{drained, http.StatusOK, [][]string{{"drain", "--wait"}, {"drain", "--wait", "--json"}}},
		{refusal, http.StatusConflict, [][]string{{"status"}, {"push", "x"}, {"drain"}}},
		{[]byte(evil), http.StatusInternalServerError, [][]string{{"status"}, {"push", "x"}, {"drain", "--wait"}}},
	} {
		answer = func(w http.ResponseWriter) {
			w.WriteHeader(row.status)
			_, _ = w.Write(row.document)
		}
		for _, args := range row.commands {
			_, stdout, stderr := execute(t, nil, append(args, "--socket", socket)...)
			isHarmless(t, fmt.Sprintf("%q of %s", args, row.document), stdout)
			isHarmless(t, fmt.Sprintf("%q of %s", args, row.document), stderr)
			if row.status == http.StatusOK && args[0] != "retry" && !strings.Contains(stdout+stderr, "PWNED") {
				t.Errorf("%q shows nothing of what was told: %s%s", args, stdout, stderr)
			}
		}
	}
}
