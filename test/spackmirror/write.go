package spackmirror

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
)

// Write writes the mirror that holds members into dir, index included. What dir
// holds already stays, except the index.
func (u *Universe) Write(dir string, members []int) error {
	if err := u.each(members, func(i int) error { return u.writeSpec(dir, i) }); err != nil {
		return err
	}
	return u.writeIndex(dir, members)
}

// WriteIndex writes only the index of the mirror that holds members.
func (u *Universe) WriteIndex(dir string, members []int) error { return u.writeIndex(dir, members) }

// each calls do for all members, in parallel.
func (u *Universe) each(members []int, do func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil {
				m := int(next.Add(1)) - 1
				if m >= len(members) {
					return
				}
				errs[w] = do(members[m])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// document is a spec file: the root and all that it needs.
type document struct {
	Spec struct {
		Meta struct {
			Version int `json:"version"`
		} `json:"_meta"`
		Nodes []*node `json:"nodes"`
	} `json:"spec"`
	Layout   int       `json:"buildcache_layout_version"`
	Checksum *checksum `json:"binary_cache_checksum,omitempty"` // layout v2
}

type checksum struct {
	Algorithm string `json:"hash_algorithm"`
	Hash      string `json:"hash"`
}

func (u *Universe) document(i int) *document {
	var d document
	d.Spec.Meta.Version = map[Layout]int{V2: 4, V3: 5}[u.Layout]
	d.Spec.Nodes = append([]*node{u.specs[i]}, u.need[i]...)
	d.Layout = 2 // in both layouts
	return &d
}

func (u *Universe) writeSpec(dir string, i int) error {
	if u.Layout == V2 {
		return u.writeSpecV2(dir, i)
	}
	return u.writeSpecV3(dir, i)
}

func (u *Universe) writeSpecV2(dir string, i int) error {
	n := u.specs[i]
	whole := fmt.Sprintf("linux-ubuntu22.04-x86_64_v3-gcc-13.4.0-%s-%s-%s", n.Name, n.Version, n.Hash)
	cache := filepath.Join(dir, "build_cache")
	tarball, err := temporary(dir, func(w io.Writer) error { return u.tarball(w, i) })
	if err != nil {
		return err
	}
	below := filepath.Join(cache, "linux-ubuntu22.04-x86_64_v3", "gcc-13.4.0", n.Name+"-"+n.Version)
	if err := tarball.rename(filepath.Join(below, whole+".spack")); err != nil {
		return err
	}
	d := u.document(i)
	d.Checksum = &checksum{"sha256", tarball.digest}
	return write(filepath.Join(cache, whole+".spec.json"), indent0(d))
}

func (u *Universe) writeSpecV3(dir string, i int) error {
	n := u.specs[i]
	tarball, err := blob(dir, func(w io.Writer) error { return u.tarball(w, i) })
	if err != nil {
		return err
	}
	spec, err := blob(dir, func(w io.Writer) error {
		z := gzip.NewWriter(w)
		z.Write(compact(u.document(i)))
		return z.Close()
	})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%s-%s.spec.manifest.json", n.Name, n.Version, n.Hash)
	return write(filepath.Join(dir, "v3/manifests/spec", n.Name, name), manifest(
		tarball.record("application/vnd.spack.install.v2.tar+gzip", "gzip"),
		spec.record("application/vnd.spack.spec.v5+json", "gzip"),
	))
}

// tarball writes what an install prefix packs into: always the same bytes for the
// same spec and size.
func (u *Universe) tarball(w io.Writer, i int) error {
	n, size := u.specs[i], u.Tarball(i)
	z, err := gzip.NewWriterLevel(w, level(size))
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	prefix := fmt.Sprintf("opt/spack/%s-%s-%s", n.Name, n.Version, n.Hash)
	for _, d := range []string{"opt", "opt/spack", prefix, prefix + "/.spack", prefix + "/share"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := t.WriteHeader(&tar.Header{Name: prefix + "/share/data", Mode: 0o644, Size: int64(size)}); err != nil {
		return err
	}
	random := rand.NewChaCha8(sha256.Sum256([]byte(n.Hash)))
	if _, err := io.CopyN(t, random, int64(size)); err != nil {
		return err
	}
	about := []byte("{relative_prefix: " + path.Base(prefix) + ", hash_to_prefix: {" + n.Hash + ": " + path.Base(prefix) + "}}\n")
	if err := t.WriteHeader(&tar.Header{Name: prefix + "/.spack/binary_distribution", Mode: 0o644, Size: int64(len(about))}); err != nil {
		return err
	}
	t.Write(about)
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// level spares the time to compress what is random anyway.
func level(size int) int {
	if size > 64<<10 {
		return gzip.NoCompression
	}
	return gzip.DefaultCompression
}

// database is an index.
type database struct {
	Database struct {
		Version  string             `json:"version"`
		Installs map[string]*record `json:"installs"`
	} `json:"database"`
}

type record struct {
	Spec         *node `json:"spec"`
	RefCount     int   `json:"ref_count"`
	InBuildcache bool  `json:"in_buildcache"`
}

func (u *Universe) index(members []int) *database {
	var db database
	db.Database.Version = map[Layout]string{V2: "7", V3: "8"}[u.Layout]
	installs := map[string]*record{}
	db.Database.Installs = installs
	for _, i := range members {
		for _, n := range append([]*node{u.specs[i]}, u.need[i]...) {
			if installs[n.Hash] == nil {
				installs[n.Hash] = &record{Spec: n}
			}
		}
		installs[u.specs[i].Hash].InBuildcache = true
	}
	for _, r := range installs {
		for _, d := range r.Spec.Dependencies {
			installs[d.Hash].RefCount++
		}
	}
	return &db
}

func (u *Universe) writeIndex(dir string, members []int) error {
	content := compact(u.index(members))
	if u.Layout == V2 {
		sum := sha256.Sum256(content)
		if err := write(filepath.Join(dir, "build_cache/index.json"), content); err != nil {
			return err
		}
		return write(filepath.Join(dir, "build_cache/index.json.hash"), []byte(hex.EncodeToString(sum[:])))
	}
	if err := write(filepath.Join(dir, "v3/layout.json"), []byte(`{"signing": "gpg"}`)); err != nil {
		return err
	}
	b, err := blob(dir, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, "v3/manifests/index/index.manifest.json"), manifest(b.record("application/vnd.spack.db.v8+json", "none")))
}

// manifestRecord is what a manifest says of a blob.
type manifestRecord struct {
	Length      int64  `json:"contentLength"`
	MediaType   string `json:"mediaType"`
	Compression string `json:"compression"`
	Algorithm   string `json:"checksumAlgorithm"`
	Checksum    string `json:"checksum"`
}

func manifest(records ...manifestRecord) []byte {
	return indent0(struct {
		Version int              `json:"version"`
		Data    []manifestRecord `json:"data"`
	}{3, records})
}

// stored is a file that was written.
type stored struct {
	path, digest string
	size         int64
}

func (s *stored) record(mediaType, compression string) manifestRecord {
	return manifestRecord{s.size, mediaType, compression, "sha256", s.digest}
}

func (s *stored) rename(to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	defer func() { s.path = to }()
	return os.Rename(s.path, to)
}

// blob writes content under the name that follows from it.
func blob(dir string, content func(io.Writer) error) (*stored, error) {
	s, err := temporary(dir, content)
	if err != nil {
		return nil, err
	}
	return s, s.rename(filepath.Join(dir, "blobs/sha256", s.digest[:2], s.digest))
}

func temporary(dir string, content func(io.Writer) error) (*stored, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".writing-")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	var size counter
	if err := content(io.MultiWriter(f, h, &size)); err != nil {
		return nil, err
	}
	return &stored{f.Name(), hex.EncodeToString(h.Sum(nil)), int64(size)}, f.Chmod(0o644)
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// write writes a small file, unless it is there with that content: then its time stays.
func write(path string, content []byte) error {
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// Kilobytes is a size for Universe.Tarball that varies between half and twice k.
func Kilobytes(k int) func(i int) int {
	return func(i int) int { return (k << 10) * (2 + i%7) / 4 }
}
