package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/archive"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

func create(t *testing.T) (*archive.Writer, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "mirror.tar")
	w, err := archive.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, name
}

func upload(name, content string) mirror.Upload {
	return mirror.Upload{Name: name, Content: blob.Bytes([]byte(content)), Digest: blob.DigestOf([]byte(content))}
}

var contents = map[string]string{
	"v3/layout.json": "{}", "blobs/sha256/00/empty": "", "blobs/sha256/01/large": strings.Repeat("0123456789", 100_000),
	"build_cache/" + strings.Repeat("long-", 40) + ".spack": "x", "block": strings.Repeat("b", 512),
}

// What is stored is read back at once, from the finished file, and as tar unpacks it.
func TestWhatIsStoredIsInTheFile(t *testing.T) {
	w, name := create(t)
	for n, content := range contents {
		for range 2 {
			if err := w.Create(t.Context(), upload(n, content)); err != nil {
				t.Fatal(err)
			}
		}
		if got, _, err := mirror.Read(t.Context(), w, n, 1<<20); err != nil || string(got) != content {
			t.Errorf("%s: %d bytes, %v", n, len(got), err)
		}
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there before it is finished: %v", err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	r, err := archive.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir := t.TempDir()
	if said, err := exec.Command("tar", "-xf", name, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	listed := 0
	for info, err := range r.List(t.Context(), mirror.Range{}) {
		if listed++; err != nil || info.Size != int64(len(contents[info.Name])) {
			t.Errorf("%+v, %v", info, err)
		}
		got, _, err := mirror.Read(t.Context(), r, info.Name, 1<<20)
		unpacked, unpackErr := os.ReadFile(filepath.Join(dir, info.Name))
		if err != nil || unpackErr != nil || string(got) != contents[info.Name] || !bytes.Equal(got, unpacked) {
			t.Errorf("%s: %v, %v", info.Name, err, unpackErr)
		}
	}
	if listed != len(contents) {
		t.Errorf("%d of %d are listed", listed, len(contents))
	}
	if _, err := r.Open(t.Context(), "gone"); !errors.Is(err, mirror.ErrNotExist) {
		t.Error(err)
	}
	if _, err := r.Stat(t.Context(), "gone"); !errors.Is(err, mirror.ErrNotExist) {
		t.Error(err)
	}
}

func TestConditionsHoldInAFile(t *testing.T) {
	w, _ := create(t)
	ctx := t.Context()
	first, err := w.Swap(ctx, upload("index", "one"), mirror.Absent)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Create(ctx, upload("index", "other")); !errors.Is(err, mirror.ErrExist) {
		t.Error(err)
	}
	if _, err := w.Swap(ctx, upload("index", "other"), mirror.Absent); !errors.Is(err, mirror.ErrConflict) {
		t.Error(err)
	}
	second, err := w.Swap(ctx, upload("index", "two"), first)
	if err != nil || second == first {
		t.Error(second, err)
	}
	if _, err := w.Swap(ctx, upload("index", "three"), first); !errors.Is(err, mirror.ErrConflict) {
		t.Error(err)
	}
	if again, err := w.Swap(ctx, upload("index", "two"), first); err != nil || again != second {
		t.Error("the same content is no success:", err)
	}
	if got, _, err := mirror.Read(ctx, w, "index", 100); err != nil || string(got) != "two" {
		t.Errorf("%q, %v", got, err)
	}
}

// An object that cannot be stored leaves no trace, and others follow.
func TestWhatFailsIsTakenBack(t *testing.T) {
	w, name := create(t)
	wrong := upload("a", strings.Repeat("a", 5000))
	wrong.Digest = blob.DigestOf(nil)
	var mismatch *blob.MismatchError
	if err := w.Create(t.Context(), upload("before", "before")); err != nil {
		t.Fatal(err)
	}
	if err := w.Create(t.Context(), wrong); !errors.As(err, &mismatch) {
		t.Error(err)
	}
	if err := w.Create(t.Context(), upload("after", "after")); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	r, err := archive.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n, there := range map[string]bool{"before": true, "a": false, "after": true} {
		got, _, err := mirror.Read(t.Context(), r, n, 100)
		if there != (err == nil) || there && string(got) != n {
			t.Errorf("%s: %q, %v", n, got, err)
		}
	}
}

func TestAnUnfinishedFileIsWrittenAnew(t *testing.T) {
	w, name := create(t)
	if err := w.Create(t.Context(), upload("old", "old")); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Create(name); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two at once: %v", err)
	}
	w.Close() // as when the process is killed
	again, err := archive.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(again.Create(t.Context(), upload("new", "new")), again.Finish(), again.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := archive.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Stat(t.Context(), "old"); !errors.Is(err, mirror.ErrNotExist) {
		t.Error(err)
	}
	discarded, other := create(t)
	if err := discarded.Discard(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(other + "*"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// Files that are no archive of a mirror are refused, whoever made them.
func TestWhatIsNoArchive(t *testing.T) {
	written := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			content := make([]byte, h.Size)
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		return b.Bytes()
	}
	good := written(tar.Header{Name: "./v3/layout.json", Typeflag: tar.TypeReg, Size: 5000, Mode: 0o644}, tar.Header{Name: "v3/", Typeflag: tar.TypeDir})
	for name, content := range map[string][]byte{
		"empty":       {},
		"no tar":      bytes.Repeat([]byte("no tar "), 1000),
		"no entries":  written(),
		"cut off":     good[:2000],
		"a link":      written(tar.Header{Name: "v3/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"a way out":   written(tar.Header{Name: "../x", Typeflag: tar.TypeReg}),
		"a device":    written(tar.Header{Name: "x", Typeflag: tar.TypeChar}),
		"the root":    written(tar.Header{Name: "/etc/passwd", Typeflag: tar.TypeReg}),
		"a hard link": written(tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "y"}),
	} {
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Open(file); !errors.Is(err, archive.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := archive.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if info, err := r.Stat(t.Context(), "v3/layout.json"); err != nil || info.Size != 5000 {
		t.Error(info, err)
	}
	if _, err := archive.Open(t.TempDir()); err == nil {
		t.Error("a directory is read")
	}
}

// A compressed archive is named as one, with the program that has made it.
func TestACompressedArchive(t *testing.T) {
	for program, begins := range map[string]string{
		"gzip": "\x1f\x8b\x08", "bzip2": "BZh91AY&SY", "xz": "\xfd7zXZ\x00", "zstd": "\x28\xb5\x2f\xfd", "lzip": "LZIP\x01", "lzma": "\x5d\x00\x00\x80",
	} {
		file := filepath.Join(t.TempDir(), "compressed.tar")
		if err := os.WriteFile(file, []byte(begins+strings.Repeat("content", 1000)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Open(file); !errors.Is(err, archive.ErrFormat) || !strings.Contains(err.Error(), "it is compressed by "+program) {
			t.Errorf("%s: %v", program, err)
		}
	}
}
