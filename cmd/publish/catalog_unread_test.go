package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// What of a package cannot be read is a warning, and is read as soon as it is there again. A package without a document is not shown.
func TestACatalogTriesAgainWhatItCouldNotRead(t *testing.T) {
	at := licensed(t)
	documents, err := filepath.Glob(filepath.Join(at, "v3/manifests/spec/zlib/*.json"))
	if err != nil || len(documents) != 1 {
		t.Fatal(documents, err)
	}
	text, err := os.ReadFile(documents[0])
	if err != nil {
		t.Fatal(err)
	}
	var pointed struct {
		Data []struct{ MediaType, Checksum string }
	}
	if err := json.Unmarshal(text, &pointed); err != nil {
		t.Fatal(err)
	}
	tarball := ""
	for _, b := range pointed.Data {
		if strings.Contains(b.MediaType, "tar+gzip") {
			tarball = filepath.Join(at, "blobs/sha256", b.Checksum[:2], b.Checksum)
		}
	}
	type page struct {
		Packages  int
		Unchanged bool
		Warnings  []struct{ File, Reason string }
	}
	update := func() page {
		t.Helper()
		code, stdout, stderr := execute(t, nil, "catalog", "--licenses", "--json", "file://"+at)
		var document struct{ Pages []page }
		if err := json.Unmarshal([]byte(stdout), &document); err != nil || code != cli.ExitDone {
			t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
		}
		return document.Pages[0]
	}
	segments := func(text string) bool {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(at, "catalog", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(content), text) {
				return true
			}
		}
		return false
	}
	for _, test := range []struct {
		file    string
		warning string
		fewer   int // packages that are shown meanwhile
	}{
		{tarball, "no licence is shown", 0},
		{documents[0], "its document is not there", 1},
	} {
		for _, dir := range []string{"catalog", "index.html"} {
			if err := os.RemoveAll(filepath.Join(at, dir)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(test.file, test.file+"-away"); err != nil {
			t.Fatal(err)
		}
		first := update()
		if len(first.Warnings) != 1 || !strings.Contains(first.Warnings[0].Reason, test.warning) || first.Packages != 11-test.fewer || segments(`"Zlib"`) {
			t.Errorf("%s: %+v", test.warning, first)
		}
		if again := update(); len(again.Warnings) != 1 || !again.Unchanged || again.Packages != first.Packages {
			t.Errorf("%s: again: %+v", test.warning, again)
		}
		if code, stdout, stderr := execute(t, nil, "catalog", "--licenses", "file://"+at); code != cli.ExitDone || !strings.Contains(stderr, "warning: \"zlib@") {
			t.Errorf("%s: exit %d\n%s%s", test.warning, code, stdout, stderr)
		}
		if err := os.Rename(test.file+"-away", test.file); err != nil {
			t.Fatal(err)
		}
		if there := update(); len(there.Warnings) != 0 || there.Unchanged || there.Packages != 11 || !segments(`"Zlib"`) {
			t.Errorf("%s: there again: %+v", test.warning, there)
		}
		if last := update(); !last.Unchanged || last.Packages != 11 {
			t.Errorf("%s: last: %+v", test.warning, last)
		}
	}
}

// What is added at the top of a site counts, when nothing else is written as well.
func TestACatalogCountsWhatItAddsToTheTop(t *testing.T) {
	at := licensed(t)
	for _, want := range []string{"written", "index.html: 11 packages, 1 object written, "} {
		code, stdout, stderr := execute(t, nil, "catalog", "file://"+at)
		if code != cli.ExitDone || !strings.Contains(stdout, want) || strings.Contains(stdout, ", 0 B") {
			t.Errorf("exit %d\n%s%s", code, stdout, stderr)
		}
		if err := os.Remove(filepath.Join(at, "robots.txt")); err != nil {
			t.Fatal(err)
		}
	}
}
