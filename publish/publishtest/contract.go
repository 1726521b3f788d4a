package publishtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Tree is the content of a mirror by name.
type Tree map[string][]byte

// Blob adds a blob, and returns its record.
func (f Tree) Blob(mediaType, compression string, content []byte) manifest.Record {
	d := blob.DigestOf(content)
	f[layout.V3Blob(d)] = content
	return manifest.Record{Size: int64(len(content)), MediaType: mediaType, Compression: compression, Digest: d}
}

const tarballType, SpecType = "application/vnd.spack.install.v2.tar+gzip", "application/vnd.spack.spec.v5+json"

// V3 adds a package of layout v3 whatever its spec says. label is the media type of the spec.
func (f Tree) V3(name, version string, hash spec.Hash, label, document string, more ...manifest.Record) string {
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if _, err := zw.Write([]byte(document)); err != nil {
		panic(err)
	}
	if err := zw.Close(); err != nil {
		panic(err)
	}
	m := manifest.Manifest{Records: []manifest.Record{
		f.Blob(tarballType, "gzip", []byte("tarball of "+string(hash))), f.Blob(label, "gzip", packed.Bytes()),
	}}
	m.Records = append(m.Records, more...)
	text, err := m.Encode()
	if err != nil {
		panic(err)
	}
	file := layout.V3Spec(&spec.Node{Name: name, Version: version, Hash: hash})
	f[file] = text
	return file
}

// V2 adds a package of layout v2 that was built by gcc 11.4.0 for a platform.
func (f Tree) V2(name, version string, hash spec.Hash, document string) string {
	tarball := []byte("tarball of " + string(hash))
	built, pkg := "linux-ubuntu22.04-x86_64_v3/gcc-11.4.0", name+"-"+version
	stem := strings.ReplaceAll(built, "/", "-") + "-" + pkg + "-" + string(hash)
	f[layout.V2Root+built+"/"+pkg+"/"+stem+".spack"] = tarball
	sum := fmt.Sprintf(`{"binary_cache_checksum":{"hash_algorithm":"sha256","hash":"%s"},`, blob.DigestOf(tarball))
	file := layout.V2Root + stem + ".spec.json"
	f[file] = []byte(sum + strings.TrimPrefix(document, "{"))
	return file
}

// Dir writes the files below a new directory.
func (f Tree) Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range f {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (f Tree) Mem(t testing.TB) *mirrortest.Mem {
	m := EmptyMirror(t)
	for name, content := range f {
		m.Plant(name, content)
	}
	return m
}

// GoodHash is the hash of the one good package among bad ones.
const GoodHash = spec.Hash("gooooooooooooooooooooooooooooood")

func Good(format int) string {
	compiler := ""
	if format == spec.Format4 {
		compiler = `"compiler":{"name":"gcc","version":"11.4.0"},`
	}
	return fmt.Sprintf(`{"spec":{"_meta":{"version":%d},"nodes":[{"name":"good","version":"1","arch":{"platform":"linux","platform_os":"ubuntu22.04","target":"x86_64_v3"},%s`+
		`"namespace":"builtin","parameters":{"cflags":[]},"hash":"%s"}]},"buildcache_layout_version":2}`, format, compiler, GoodHash)
}
