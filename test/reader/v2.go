package reader

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Where things are in layout v2.
const (
	dirV2   = "build_cache"
	indexV2 = dirV2 + "/index.json"
	hashV2  = dirV2 + "/index.json.hash"
	keysV2  = dirV2 + "/_pgp/index.json"
)

// V2 reads a mirror of layout v2.
func V2(src Source) *Mirror {
	w := begin(src)
	w.indexV2()
	w.keysV2()
	for _, name := range w.list() {
		if path.Dir(name) != dirV2 {
			continue
		}
		if stem, ok := strings.CutSuffix(strings.TrimSuffix(name, ".sig"), ".spec.json"); ok {
			w.specV2(stem, "the list")
		}
	}
	return &w.Mirror
}

func (w *walk) indexV2() {
	content, ok := w.optional(indexV2)
	if !ok {
		return
	}
	db, err := parseDatabase(content)
	if err != nil {
		w.broken(indexV2, "%v", err)
		return
	}
	w.Index = db
	w.check(indexV2, db)
	if sum, ok := w.optional(hashV2); !ok {
		w.odd(hashV2, "is missing beside an index")
	} else if string(sum) != digest(content) {
		w.odd(hashV2, "is not that of index.json") // costs a client a download, no more
	}
	for _, hash := range db.hashes() {
		if r := db[hash]; r.InBuildcache && w.specV2(dirV2+"/"+stemV2(r.node), "the index") {
			w.Specs[hash] = true
		}
	}
}

// stemV2 is how a spec is called in layout v2.
func stemV2(n node) string {
	name, version, _ := strings.Cut(n.Annotations.Compiler, "@")
	if n.Compiler != nil {
		name, version = n.Compiler.Name, n.Compiler.Version
	}
	return stem(archOf(n), name, version, n.Name, n.Version, n.Hash)
}

// archOf is platform, operating system and target, where the target may be an object
// with a name.
func archOf(n node) string {
	var target struct{ Name string }
	if json.Unmarshal(n.Arch.Target, &target) != nil {
		json.Unmarshal(n.Arch.Target, &target.Name)
	}
	return strings.Join([]string{n.Arch.Platform, n.Arch.OS, target.Name}, "-")
}

// specV2 does what an install does: the signed spec first, then the plain one, then
// the tarball with the checksum that it states.
func (w *walk) specV2(stem, by string) (installable bool) {
	if ok, seen := w.done[stem]; seen {
		return ok
	}
	defer func() { w.done[stem] = installable }()
	name := stem + ".spec.json.sig"
	content, err := w.src.Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		name = stem + ".spec.json"
		content, err = w.src.Get(name)
	}
	if err != nil {
		w.broken(name, "named by %s: %v", by, err)
		return false
	}
	text, err := plain(content)
	if err != nil {
		w.broken(name, "%v", err)
		return false
	}
	root, err := parseSpec(text)
	if err != nil {
		w.broken(name, "%v", err)
		return false
	}
	if want := stemV2(root); path.Base(stem) != want {
		w.broken(name, "carries the spec of %s", want)
		return false
	}
	return w.tarballV2(name, text, root)
}

func (w *walk) tarballV2(name string, text []byte, n node) bool {
	var doc struct {
		Checksum struct {
			Algorithm string `json:"hash_algorithm"`
			Hash      string
		} `json:"binary_cache_checksum"`
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.Checksum.Algorithm != "sha256" {
		w.broken(name, "checksum %+v: %v", doc.Checksum, err)
		return false
	}
	whole := stemV2(n)
	compiler := strings.TrimSuffix(strings.TrimPrefix(whole, component(archOf(n))+"-"), "-"+stem(n.Name, n.Version, n.Hash))
	tarball := path.Join(dirV2, component(archOf(n)), compiler, stem(n.Name, n.Version), whole+".spack")
	content, ok := w.required(tarball, name)
	if !ok {
		return false
	}
	if got := digest(content); got != doc.Checksum.Hash {
		w.broken(tarball, "hashes to %s, its spec says %s", got, doc.Checksum.Hash)
		return false
	}
	return true
}

func (w *walk) keysV2() {
	content, ok := w.optional(keysV2)
	if !ok {
		return
	}
	for _, fpr := range w.keyIndex(keysV2, content) {
		name := path.Join(dirV2, "_pgp", fpr+".pub")
		if content, ok := w.required(name, keysV2); ok {
			w.key(name, content)
		}
	}
}
