package reader

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
)

// Where things are in layout v3.
const (
	indexV3  = "v3/manifests/index/index.manifest.json"
	keysV3   = "v3/manifests/key/keys.manifest.json"
	layoutV3 = "v3/layout.json"
)

// V3 reads a mirror of layout v3 through its default index.
func V3(src Source) *Mirror { return v3(src, indexV3) }

// View reads a mirror of layout v3 through the index of a view.
func View(src Source, view string) *Mirror {
	return v3(src, "v3/manifests/index/"+view+"/index.manifest.json")
}

func v3(src Source, index string) *Mirror {
	w := begin(src)
	w.indexV3(index)
	w.keysV3()
	for _, name := range w.list() {
		switch {
		case strings.HasPrefix(name, "v3/manifests/spec/") && strings.HasSuffix(name, ".spec.manifest.json"):
			w.specV3(name, "the list")
		case strings.HasPrefix(name, "v3/manifests/key/") && strings.HasSuffix(name, ".key.manifest.json"):
			w.keyV3(name, "the list")
		case strings.HasPrefix(name, "v3/manifests/index/") && strings.HasSuffix(name, "/index.manifest.json"):
			w.blobOf(name, "the list", "db")
		}
	}
	return &w.Mirror
}

func (w *walk) indexV3(name string) {
	content, ok := w.optional(name)
	if !ok {
		return
	}
	content, ok = w.blob(name, content, "db")
	if !ok {
		return
	}
	db, err := parseDatabase(content)
	if err != nil {
		w.broken(name, "its blob: %v", err)
		return
	}
	w.Index = db
	w.check(name, db)
	for _, hash := range db.hashes() {
		r := db[hash]
		if !r.InBuildcache {
			continue
		}
		spec := path.Join("v3/manifests/spec", r.node.Name, stem(r.node.Name, r.node.Version, hash)+".spec.manifest.json")
		if w.specV3(spec, "the index") {
			w.Specs[hash] = true
		}
	}
	if _, ok := w.optional(layoutV3); !ok {
		w.odd(layoutV3, "is missing beside an index")
	}
}

// specV3 does what an install does, and what indexing does.
func (w *walk) specV3(name, by string) (installable bool) {
	if ok, seen := w.done[name]; seen {
		return ok
	}
	defer func() { w.done[name] = installable }()
	content, ok := w.required(name, by)
	if !ok {
		return false
	}
	if by == "the list" && tombstone(content) {
		return false // to Spack it is not available
	}
	_, tarball := w.blob(name, content, "install")
	packed, ok := w.blob(name, content, "spec")
	if !ok {
		return false
	}
	root, err := rootOf(packed)
	if err != nil {
		w.broken(name, "its spec blob: %v", err)
		return false
	}
	if want := stem(root.Name, root.Version, root.Hash) + ".spec.manifest.json"; path.Base(name) != want {
		w.broken(name, "carries the spec of %s", want)
		return false
	}
	return tarball
}

// rootOf returns the root node of a spec blob.
func rootOf(packed []byte) (node, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return node{}, err
	}
	content, err := io.ReadAll(z)
	if err != nil {
		return node{}, err
	}
	return parseSpec(content)
}

func parseSpec(content []byte) (node, error) {
	var doc struct {
		Spec struct {
			Nodes []node
		}
		Layout int `json:"buildcache_layout_version"`
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return node{}, err
	}
	if len(doc.Spec.Nodes) == 0 {
		return node{}, fmt.Errorf("spec without nodes")
	}
	if doc.Layout > 3 {
		return node{}, fmt.Errorf("buildcache_layout_version %d", doc.Layout)
	}
	return doc.Spec.Nodes[0], nil
}

func (w *walk) keysV3() {
	content, ok := w.optional(keysV3)
	if !ok {
		return
	}
	content, ok = w.blob(keysV3, content, "keyindex")
	if !ok {
		return
	}
	for _, fpr := range w.keyIndex(keysV3, content) {
		w.keyV3("v3/manifests/key/"+fpr+".key.manifest.json", "the key index")
	}
}

func (w *walk) keyV3(name, by string) {
	if content, ok := w.blobOf(name, by, "pgp"); ok {
		w.key(name, content)
	}
}

// kinds are the media types that a client asks for, without the version numbers that
// newer Spacks count up.
var kinds = map[string][2]string{
	"install":  {"application/vnd.spack.install.v", ".tar+gzip"},
	"spec":     {"application/vnd.spack.spec.v", "+json"},
	"db":       {"application/vnd.spack.db.v", "+json"},
	"keyindex": {"application/vnd.spack.keyindex.v", "+json"},
	"pgp":      {"application/pgp-keys", ""},
}

type record struct {
	Length      *int64  `json:"contentLength"`
	MediaType   *string `json:"mediaType"`
	Compression *string `json:"compression"`
	Algorithm   *string `json:"checksumAlgorithm"`
	Checksum    *string `json:"checksum"`
}

// blobOf returns the blob of a kind that the manifest of that name points at.
func (w *walk) blobOf(name, by, kind string) ([]byte, bool) {
	content, ok := w.required(name, by)
	if !ok {
		return nil, false
	}
	return w.blob(name, content, kind)
}

// blob returns the first blob of a kind that a manifest points at.
func (w *walk) blob(name string, manifest []byte, kind string) ([]byte, bool) {
	r, err := find(manifest, kind)
	if err != nil {
		w.broken(name, "%v", err)
		return nil, false
	}
	sum := *r.Checksum
	content, ok := w.required("blobs/sha256/"+sum[:2]+"/"+sum, name)
	if !ok {
		return nil, false
	}
	if got := digest(content); got != sum {
		w.broken(name, "its %s blob %s hashes to %s", kind, sum, got)
		return nil, false
	}
	if int64(len(content)) != *r.Length {
		w.broken(name, "its %s blob has %d bytes, not %d", kind, len(content), *r.Length)
		return nil, false
	}
	return content, true
}

// tombstone reports whether a manifest names nothing.
func tombstone(manifest []byte) bool {
	var doc struct{ Data []json.RawMessage }
	return json.Unmarshal(manifest, &doc) == nil && doc.Data != nil && len(doc.Data) == 0
}

func find(manifest []byte, kind string) (record, error) {
	text, err := plain(manifest)
	if err != nil {
		return record{}, err
	}
	var doc struct {
		Version int
		Data    []record
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return record{}, err
	}
	if doc.Version != 3 {
		return record{}, fmt.Errorf("manifest of version %d", doc.Version)
	}
	for _, r := range doc.Data {
		if r.Length == nil || r.MediaType == nil || r.Compression == nil || r.Algorithm == nil || r.Checksum == nil {
			return record{}, fmt.Errorf("incomplete record")
		}
		if k := kinds[kind]; !strings.HasPrefix(*r.MediaType, k[0]) || !strings.HasSuffix(*r.MediaType, k[1]) {
			continue
		}
		if *r.Algorithm != "sha256" || len(*r.Checksum) != 64 {
			return record{}, fmt.Errorf("checksum %s:%s", *r.Algorithm, *r.Checksum)
		}
		return r, nil
	}
	return record{}, fmt.Errorf("no %s in the manifest", kind)
}
