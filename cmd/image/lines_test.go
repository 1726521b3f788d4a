package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\\\n", " ")
}

// Who builds the image with Docker, or the binary with make, gets the binary of the release.
func TestEverybodyBuildsTheSame(t *testing.T) {
	want := strings.Join(goBuild, " ")
	want = strings.Replace(want, "-s -w -buildid=", `"-s -w -buildid="`, 1)
	for _, name := range []string{"Dockerfile", "Makefile"} {
		lines := regexp.MustCompile(`(.*)\bgo (build .*) -o \S+ \./cmd/publish`).FindAllStringSubmatch(read(t, name), -1)
		if len(lines) == 0 {
			t.Errorf("%s builds nothing", name)
		}
		for _, found := range lines {
			if found[2] != want {
				t.Errorf("%s: %q, want %q", name, found[2], want)
			}
			for _, setting := range []string{"GOWORK=off", "CGO_ENABLED=0"} {
				if !strings.Contains(found[1], setting) {
					t.Errorf("%s: no %s in %q", name, setting, found[1])
				}
			}
		}
	}
	s, err := openSource("../..")
	if err != nil {
		t.Fatal(err)
	}
	if v := strings.TrimPrefix(s.toolchain, "go"); !regexp.MustCompile(`(?m)^FROM .*\bgolang:` + regexp.QuoteMeta(v) + `[-@ ]`).MatchString(read(t, "Dockerfile")) {
		t.Errorf("Dockerfile does not build with %s, the toolchain of go.mod", v)
	}
}

func TestDockerfileLabels(t *testing.T) {
	text := read(t, "Dockerfile")
	for k, v := range labels {
		if !strings.Contains(text, k+`="`+v+`"`) {
			t.Errorf("Dockerfile: no label %s=%q", k, v)
		}
	}
}
