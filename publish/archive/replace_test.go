package archive_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/archive"
)

// export writes a file as an export does.
func export(t *testing.T, name string) {
	t.Helper()
	w, err := archive.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Create(t.Context(), upload("v3/manifests/index/index.manifest.json", "{}")); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
}

// byHand is a tar file with the content of a mirror, which another program has written.
func byHand(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "v3/layout.json", Mode: 0o644, Uname: "spack"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// An export replaces an earlier export, and nothing else.
func TestWhatAnExportReplaces(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	export(t, "base.tar")
	export(t, "earlier.tar")
	export(t, "part.tar.partial")
	byHand(t, "hand.tar")
	whole, err := os.ReadFile("base.tar")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile("thesis.txt", []byte("a thesis"), 0o600), os.WriteFile("empty.tar", nil, 0o600), os.WriteFile("cut.tar", whole[:513], 0o600),
		os.Mkdir("directory", 0o700), os.Symlink("earlier.tar", "link.tar"), os.Symlink("nowhere", "dangling.tar"), os.Link("base.tar", "again.tar"),
		os.Symlink("base.tar", "base-link.tar"), syscall.Mkfifo("pipe", 0o600), os.Symlink("earlier.tar", "x.tar.partial"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"new.tar": "", filepath.Join(dir, "new.tar"): "", "earlier.tar": "", "earlier.tar.partial": "",
		"base.tar": "the earlier export base.tar", filepath.Join(dir, "base.tar"): "the earlier export base.tar", "again.tar": "the earlier export base.tar",
		"thesis.txt": "remove this one", "empty.tar": "remove this one", "cut.tar": "remove this one", "hand.tar": "remove this one",
		"directory": "is a directory", ".": "is a directory", "link.tar": "is a symbolic link", "dangling.tar": "is a symbolic link", "pipe": "is a pipe", os.DevNull: "is a device",
		"x.tar": "is a symbolic link", "part.tar": "the earlier export part.tar.partial",
		"s3://bucket/x.tar": "not an address", "file:///x.tar": "not an address",
		"": "a directory that exists", "missing/x.tar": "a directory that exists", "thesis.txt/x.tar": "a directory that exists", "new.tar/": "a directory that exists",
	} {
		err := archive.Replaceable(name, []string{"base.tar", "part.tar.partial"})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	if err := archive.Replaceable("base.tar", []string{"base-link.tar"}); err == nil {
		t.Error("the file of --base is replaced if a symbolic link leads to it")
	}
}
