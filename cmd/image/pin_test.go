package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	one = "sha256:" + strings.Repeat("1", 64)
	two = "sha256:" + strings.Repeat("2", 64)
)

// tree writes a source with these files beside go.mod.
func tree(t *testing.T, version string, more map[string]string) *source {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"go.mod":              "module x\n\ngo 1.26.0\n\ntoolchain go1.26.8\n",
		"cmd/publish/main.go": "package main\n\nconst version = \"" + version + "\"\n",
	}
	for name, text := range more {
		all[name] = text
	}
	for name, text := range all {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func actionOf(version, digest string) string {
	return "name: x\nruns:\n  using: docker\n  image: docker://" + repository + ":" + version + "@" + digest + "\n"
}

func TestSourceIsRead(t *testing.T) {
	s := tree(t, "1.2.3-dev", nil)
	if s.version != "1.2.3-dev" || s.toolchain != "go1.26.8" {
		t.Errorf("%+v", s)
	}
	if _, err := openSource("../.."); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "go.mod"), []byte("module x\n\ngo 1.26.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSource(s.dir); err == nil || !strings.Contains(err.Error(), "no toolchain") {
		t.Errorf("a go.mod without toolchain: %v", err)
	}
}

func TestCheckPin(t *testing.T) {
	for _, c := range []struct {
		source, pinned, digest string
		want                   string // of the error
	}{
		{"1.2.3", "1.2.3", one, ""},
		{"1.2.3", "1.2.3", two, "run make digest"},
		{"1.2.3-dev", "1.2.3-dev", one, ""},
		{"1.2.3-dev", "1.2.3-dev", two, "run make digest"},
		// Between releases the one before may stay.
		{"1.3.0-dev", "1.2.9", two, ""},
		{"2.0.0-dev", "1.10.0", two, ""},
		{"1.10.0-dev", "1.9.0", two, ""},
		// A later one, the same, or one that was never released may not.
		{"1.3.0-dev", "1.3.0", two, "run make digest"},
		{"1.3.0-dev", "1.4.0", two, "run make digest"},
		{"1.3.0-dev", "1.2.9-dev", two, "run make digest"},
		{"1.3.0-dev", "latest", two, "run make digest"},
		// Nor may a release name another.
		{"1.3.0", "1.2.9", two, "run make digest"},
	} {
		err := tree(t, c.source, map[string]string{"action.yml": actionOf(c.pinned, c.digest)}).checkPin(one)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("source %s, pinned %s %.9s: %v", c.source, c.pinned, c.digest, err)
		}
	}
}

func TestCheckPinNeedsOneImage(t *testing.T) {
	for _, action := range []string{
		"runs:\n  image: docker://" + repository + ":1.2.3\n",
		"runs:\n  image: Dockerfile\n",
		actionOf("1.2.3", one) + actionOf("1.2.3", one),
	} {
		s := tree(t, "1.2.3", map[string]string{"action.yml": action})
		if err := s.checkPin(one); err == nil {
			t.Errorf("accepted:\n%s", action)
		}
		if err := s.pin(one); err == nil {
			t.Errorf("written:\n%s", action)
		}
	}
}

func TestPin(t *testing.T) {
	s := tree(t, "1.2.3", map[string]string{"action.yml": "# docs\n" + actionOf("1.2.2", two) + "# end\n"})
	if err := s.checkPin(one); err == nil {
		t.Fatal("a foreign pin was accepted")
	}
	if err := s.pin(one); err != nil {
		t.Fatal(err)
	}
	if err := s.checkPin(one); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(s.actionFile())
	if want := "# docs\n" + actionOf("1.2.3", one) + "# end\n"; err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestCheckRelease(t *testing.T) {
	whole := map[string]string{
		"action.yml":   actionOf("1.2.3", one),
		"CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-11-24\n",
	}
	if err := tree(t, "1.2.3", whole).checkRelease("v1.2.3"); err != nil {
		t.Error(err)
	}
	for tag, want := range map[string][]string{
		"1.2.3":      {"is not vMAJOR.MINOR.PATCH"},
		"v1.2":       {"is not MAJOR.MINOR.PATCH"},
		"v1.2.3-dev": {"is not MAJOR.MINOR.PATCH"},
		"v01.2.3":    {"is not MAJOR.MINOR.PATCH"},
		"v1.2.4":     {"main.go is 1.2.3", "an image of 1.2.3", "no section [1.2.4]"},
	} {
		err := tree(t, "1.2.3", whole).checkRelease(tag)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %s", tag, err, w)
			}
		}
	}
}
