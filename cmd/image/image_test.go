package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var twoBinaries = map[string][]byte{"amd64": []byte("one"), "arm64": []byte("two")}

func smallImage(t *testing.T) *image {
	t.Helper()
	img, err := newImage("1.2.3", twoBinaries)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// files are the contents below dir, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The digest of a fixed input is a constant: a change of what Go's tar, gzip or JSON write
// changes the image of a released version, and is noticed here.
func TestDigestIsFixed(t *testing.T) {
	const want = "sha256:f0092592fa4100cd1d3f54a524b069bc00ffe123c623844d81222a76d4def2bd"
	if got := smallImage(t).index.Digest; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestSameBinariesMakeTheSameFiles(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "x/y/b")
	for _, dir := range []string{a, b, b} { // the third replaces the second
		if err := smallImage(t).write(dir); err != nil {
			t.Fatal(err)
		}
	}
	fa, fb := files(t, a), files(t, b)
	if len(fa) != 2+1+2*3 || len(fa) != len(fb) {
		t.Errorf("%d and %d files", len(fa), len(fb))
	}
	for name, data := range fa {
		if fb[name] != data {
			t.Errorf("%s differs", name)
		}
	}
}

func TestEverythingCountsInTheDigest(t *testing.T) {
	was := smallImage(t).index.Digest
	for what, make := range map[string]func() (*image, error){
		"version": func() (*image, error) { return newImage("1.2.4", twoBinaries) },
		"arm64": func() (*image, error) {
			return newImage("1.2.3", map[string][]byte{"amd64": []byte("one"), "arm64": []byte("TWO")})
		},
	} {
		img, err := make()
		if err != nil {
			t.Fatal(err)
		}
		if img.index.Digest == was {
			t.Errorf("another %s makes the same image", what)
		}
	}
	if _, err := newImage("1.2.3", map[string][]byte{"amd64": []byte("one")}); err == nil {
		t.Error("an image without arm64 was made")
	}
}

// Every blob that is named is there, with the digest and the size that are told of it.
func TestDescriptorsAreTrue(t *testing.T) {
	img := smallImage(t)
	seen := 0
	var look func(d descriptor)
	look = func(d descriptor) {
		data, ok := img.blobs[d.Digest]
		if !ok || digestOf(data) != d.Digest || int64(len(data)) != d.Size {
			t.Fatalf("%+v: %d bytes", d, len(data))
		}
		seen++
		if !strings.HasSuffix(d.MediaType, "+json") {
			return
		}
		var doc struct {
			Config            *descriptor
			Layers, Manifests []descriptor
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Config != nil && d.MediaType == manifestType {
			look(*doc.Config)
		}
		for _, next := range append(doc.Layers, doc.Manifests...) {
			look(next)
		}
	}
	look(img.index)
	if seen != len(img.blobs) || seen != 7 {
		t.Errorf("%d of %d blobs are referred to", seen, len(img.blobs))
	}
}

// Whatever else is in a directory is not deleted.
func TestOtherDirectoriesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	keep := filepath.Join(dir, "keep")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := smallImage(t).write(dir); err == nil || !strings.Contains(err.Error(), "not an image of ours") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
}
