// Package layout says where each object of a mirror is stored, and how it may be cached. It does no I/O.
//
// In layout v3 a blob's name follows from its bytes, so a blob never changes once written. Manifests, keys
// and indices have fixed names, so only they can be stale in a cache. In layout v2 every name is fixed.
package layout

import (
	"path"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// How long caches may keep an object.
const (
	// Immutable is for objects that never change under their name.
	Immutable = "public, max-age=31536000, immutable"
	// Revalidate is for pointers: a cache may keep a pointer, but must revalidate it before each use, which
	// costs a 304. Spack's client sends If-None-Match.
	Revalidate = "no-cache"
	// Release is for plain files, whose content seldom changes.
	Release = "public, max-age=300"
)

// A SpecName holds what the name of a package's document tells. Only the directory in layout v3 shows where
// the package's name ends and its version begins.
type SpecName struct {
	Package string // empty in layout v2
	Version string // as filtered by Spack: characters outside A-Z a-z 0-9 _ + . - become _; empty in v2
	Hash    spec.Hash
}

// filtered returns a path component after Spack's filter. A regular expression would take a third of the time
// to go through a large mirror.
func filtered(component string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_+.-", c) {
			return c
		}
		return '_'
	}, component)
}

// v3 names, below the root of the mirror.
const (
	V3Layout    = "v3/layout.json"
	V3Specs     = "v3/manifests/spec/"
	V3Indices   = "v3/manifests/index/"
	V3Index     = "v3/manifests/index/index.manifest.json"
	V3Keys      = "v3/manifests/key/"
	V3KeyIndex  = "v3/manifests/key/keys.manifest.json"
	V3Blobs     = "blobs/sha256/"
	V3Manifests = "v3/manifests/"

	specSuffix = ".spec.manifest.json"
	keySuffix  = ".key.manifest.json"
)

// V3Blob returns the name of the blob with a digest.
func V3Blob(d blob.Digest) string {
	sum := d.String()
	return V3Blobs + sum[:2] + "/" + sum
}

// V3Spec returns the name of a package's manifest.
func V3Spec(n *spec.Node) string {
	return V3Specs + n.Name + "/" + filtered(n.Name) + "-" + filtered(n.Version) + "-" + string(n.Hash) + specSuffix
}

// ParseV3Spec parses the name of a package's manifest. Both the package's name and its version may contain
// hyphens, but the directory shows where the name ends.
func ParseV3Spec(name string) (SpecName, bool) {
	rest, ok := strings.CutPrefix(name, V3Specs)
	if !ok {
		return SpecName{}, false
	}
	dir, file, ok := strings.Cut(rest, "/")
	if !ok || dir == "" || !spec.Readable(dir) || filtered(file) != file {
		return SpecName{}, false
	}
	stem, ok := strings.CutSuffix(file, specSuffix)
	if !ok {
		return SpecName{}, false
	}
	stem, ok = strings.CutPrefix(stem, filtered(dir)+"-")
	if !ok {
		return SpecName{}, false
	}
	version, hash, ok := cutLast(stem, "-")
	if !ok || version == "" {
		return SpecName{}, false
	}
	h, err := spec.ParseHash(hash)
	return SpecName{Package: dir, Version: version, Hash: h}, err == nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// V3Key returns the name of a key's manifest.
func V3Key(f key.Fingerprint) string { return V3Keys + string(f) + keySuffix }

// ParseV3Key parses the name of a key's manifest.
func ParseV3Key(name string) (key.Fingerprint, bool) {
	file, ok := strings.CutPrefix(name, V3Keys)
	if !ok {
		return "", false
	}
	stem, ok := strings.CutSuffix(file, keySuffix)
	if !ok {
		return "", false
	}
	f, err := key.ParseFingerprint(stem)
	return f, err == nil
}

// retiredSuffix is the suffix of the mark of a retired key. Spack's readers ignore it.
const retiredSuffix = ".retired"

// V3RetiredKey returns the name of the mark of a retired key.
func V3RetiredKey(f key.Fingerprint) string { return V3Keys + string(f) + retiredSuffix }

// V2RetiredKey returns the name of the mark of a retired key.
func V2RetiredKey(f key.Fingerprint) string { return V2Keys + string(f) + retiredSuffix }

// v2 names, below the root of the mirror.
const (
	V2Root      = "build_cache/"
	V2Index     = "build_cache/index.json"
	V2IndexHash = "build_cache/index.json.hash"
	V2Keys      = "build_cache/_pgp/"
	V2KeyIndex  = "build_cache/_pgp/index.json"

	v2Unsigned = ".spec.json"
	v2Signed   = ".spec.json.sig"
	v2Tarball  = ".spack"
	v2Key      = ".pub"
)

// ParseV2Spec parses the name of a package's .spec.json or .spec.json.sig.
func ParseV2Spec(name string) (SpecName, bool) {
	stem, ok := v2Stem(name)
	if !ok {
		return SpecName{}, false
	}
	_, hash, ok := cutLast(stem, "-")
	h, err := spec.ParseHash(hash)
	return SpecName{Hash: h}, ok && err == nil
}

// V2Signed returns the name of a package's signed document. name is that of the unsigned document.
func V2Signed(name string) (string, bool) {
	if _, ok := ParseV2Spec(name); !ok || strings.HasSuffix(name, v2Signed) {
		return "", false
	}
	return strings.TrimSuffix(name, v2Unsigned) + v2Signed, true
}

func v2Stem(name string) (string, bool) {
	file, ok := strings.CutPrefix(name, V2Root)
	if !ok || filtered(file) != file {
		return "", false
	}
	if stem, ok := strings.CutSuffix(file, v2Signed); ok {
		return stem, true
	}
	return strings.CutSuffix(file, v2Unsigned)
}

// V2Specs returns the possible names of a package's document, the one that clients try first at the front.
// The names contain the platform and the compiler.
func V2Specs(n *spec.Node, platform, compiler, compilerVersion string) []string {
	stem := strings.Join([]string{
		filtered(platform + "-" + n.OS + "-" + n.Target), filtered(compiler), filtered(compilerVersion),
		filtered(n.Name), filtered(n.Version), string(n.Hash),
	}, "-")
	return []string{V2Root + stem + v2Signed, V2Root + stem + v2Unsigned}
}

// V2Tarball returns the name of the .spack file of the document name of package n. The document's name
// consists of platform, compiler and package. The tarball's directories repeat the three.
func V2Tarball(name string, n *spec.Node) (string, bool) {
	stem, ok := v2Stem(name)
	if !ok {
		return "", false
	}
	built, ok := strings.CutSuffix(stem, "-"+filtered(n.Name)+"-"+filtered(n.Version)+"-"+string(n.Hash))
	if !ok {
		return "", false
	}
	arch, ok := cutArch(built, n)
	if !ok {
		return "", false
	}
	compiler := strings.TrimPrefix(built[len(arch):], "-")
	if compiler == "" {
		return "", false
	}
	return path.Join("build_cache", arch, compiler, filtered(n.Name)+"-"+filtered(n.Version), stem+v2Tarball), true
}

// ParseV2Tarball parses the name of a package's .spack file. Unlike a blob of v3 it is named after its
// package, so its content may be replaced.
func ParseV2Tarball(name string) (spec.Hash, bool) {
	rest, ok := strings.CutPrefix(name, V2Root)
	parts := strings.Split(rest, "/") // platform-os-target, compiler, package-version and the file
	if !ok || len(parts) != 4 || slices.ContainsFunc(parts, func(p string) bool { return p == "" || filtered(p) != p }) {
		return "", false
	}
	stem, ok := strings.CutSuffix(parts[3], v2Tarball)
	_, hash, _ := cutLast(stem, "-")
	h, err := spec.ParseHash(hash)
	return h, ok && err == nil
}

// cutArch finds platform-os-target at the start of built. A platform contains no hyphen.
func cutArch(built string, n *spec.Node) (string, bool) {
	platform, _, ok := strings.Cut(built, "-")
	arch := platform + "-" + filtered(n.OS) + "-" + filtered(n.Target)
	return arch, ok && strings.HasPrefix(built, arch+"-")
}

// V2Key returns the name of a public key.
func V2Key(f key.Fingerprint) string { return V2Keys + string(f) + v2Key }

// ParseV2Key parses the name of a public key.
func ParseV2Key(name string) (key.Fingerprint, bool) {
	file, ok := strings.CutPrefix(name, V2Keys)
	if !ok {
		return "", false
	}
	stem, ok := strings.CutSuffix(file, v2Key)
	if !ok {
		return "", false
	}
	f, err := key.ParseFingerprint(stem)
	return f, err == nil
}

// Fixed returns the layout of a fixed name, whose content may change: the document of a package or of a key,
// the pointer of an index, or the tarball of a package in v2. ok is false for all other names. Such objects
// need not be read again, because the object that points at them is stored after them.
func Fixed(name string) (layout string, ok bool) {
	if strings.HasPrefix(name, V3Manifests) {
		_, document := ParseV3Spec(name)
		_, key := ParseV3Key(name)
		_, view := ParseV3View(name)
		return "v3", document || key || view || name == V3Index || name == V3KeyIndex
	}
	_, document := ParseV2Spec(name)
	_, key := ParseV2Key(name)
	_, tarball := ParseV2Tarball(name)
	return "v2", document || key || tarball || name == V2Index || name == V2IndexHash || name == V2KeyIndex
}

// Split returns the path of the mirror, below its bucket, to which an object with a fixed name belongs, and
// its name there. The path is empty if the bucket itself is the mirror.
func Split(object string) (mirror, name string, ok bool) {
	if object == "" || path.Clean("/"+object) != "/"+object {
		return "", "", false // no mirror has such a path
	}
	for at := 0; ; {
		if _, ok := Fixed(object[at:]); ok {
			return strings.TrimSuffix(object[:at], "/"), object[at:], true
		}
		next := strings.IndexByte(object[at:], '/')
		if next < 0 {
			return "", "", false
		}
		at += next + 1
	}
}
