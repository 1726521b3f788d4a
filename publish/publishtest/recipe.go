package publishtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
)

// AddRecipe puts a recipe into the tarball of a package of an unsigned mirror of layout v3, where Spack has it.
func AddRecipe(t testing.TB, dir, pkg, recipe string) {
	t.Helper()
	document := DocumentFile(t, dir, pkg)
	m, err := manifest.Parse(MustRead(t, document))
	Must(t, err)
	tarball := filepath.Join(dir, layout.V3Blob(m.Records[0].Digest))
	packed := withRecipe(t, MustRead(t, tarball), pkg, recipe)
	digest := blob.DigestOf(packed)
	text := strings.Replace(string(MustRead(t, document)), m.Records[0].Digest.String(), digest.String(), 1)
	text = strings.Replace(text, fmt.Sprintf(`"contentLength":%d`, m.Records[0].Size), fmt.Sprintf(`"contentLength":%d`, len(packed)), 1)
	name := filepath.Join(dir, layout.V3Blob(digest))
	Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	Must(t, os.WriteFile(name, packed, 0o644))
	Must(t, os.WriteFile(document, []byte(text), 0o644))
}

// withRecipe packs a tarball again, with a recipe after the first of Spack's own files.
func withRecipe(t testing.TB, packed []byte, pkg, recipe string) []byte {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	Must(t, err)
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tr, tw := tar.NewReader(zr), tar.NewWriter(zw)
	for done := false; ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		Must(t, err)
		Must(t, tw.WriteHeader(h))
		_, err = io.Copy(tw, tr)
		Must(t, err)
		if prefix, _, own := strings.Cut(h.Name, "/.spack/"); own && !done && h.Typeflag == tar.TypeReg {
			done = true
			name := prefix + "/.spack/repos/spack_repo/builtin/packages/" + strings.ReplaceAll(pkg, "-", "_") + "/package.py"
			Must(t, tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(recipe))}))
			_, err = tw.Write([]byte(recipe))
			Must(t, err)
		}
	}
	Must(t, tw.Close())
	Must(t, zw.Close())
	return out.Bytes()
}
