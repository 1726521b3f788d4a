// Package sbom writes bills of materials of packages of a cache and their dependencies: SPDX 2.3 and CycloneDX
// 1.6.
//
// Apart from the time, the output depends only on the packages and the options. The same packages and options give
// the same document.
package sbom

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// Options are the contents of a document other than its packages.
type Options struct {
	Name     string // name of the described thing, such as the URL of the mirror
	Base     string // URL of the mirror for clients; empty: omitted
	Supplier string // organization that distributes the packages; empty: omitted
	Licences bool   // read licences from the recipes in tarballs: one more request per package
	Tool     string // the program that writes the document; Version is its version
	Version  string
	Created  time.Time
}

// A Stack is the set of packages that a document describes.
type Stack struct {
	Options
	types    query.DepTypes
	packages []*item // by name, the newest version first
	roots    map[*query.Node]bool
}

// An item is a package of a stack.
type item struct {
	*query.Node
	document *inventory.Document // nil: the cache does not have it
	licence  string              // according to its recipe; empty: unknown
	build    bool                // only a build dependency of others
}

// New collects builds and their dependencies of the given types. It reads the documents in the mirror, and fails if
// one of them cannot be used, because a bill of materials must be complete.
func New(ctx context.Context, r mirror.Reader, inv *inventory.Inventory, roots []*inventory.Build, types query.DepTypes, o Options) (*Stack, error) {
	s := &Stack{Options: o, types: types, roots: make(map[*query.Node]bool)}
	for _, b := range roots {
		s.roots[b.Node] = true
	}
	used := s.reached(types & (query.Link | query.Run))
	var builds []*inventory.Build
	at := make(map[*query.Node]*item)
	for n := range s.reached(types) {
		it := &item{Node: n, build: !used[n]}
		at[n] = it
		s.packages = append(s.packages, it)
		if b := inv.Offers(n); b != nil {
			builds = append(builds, b)
		}
	}
	slices.SortFunc(s.packages, func(a, b *item) int { return inventory.Compare(a.Node, b.Node) })
	documents, err := inventory.Documents(ctx, r, builds)
	if err != nil {
		return nil, err
	}
	for _, d := range documents {
		if d.Unusable != nil {
			return nil, &UnusableError{fmt.Errorf("%s@%s/%s: %w", d.Build.Name, d.Version, d.Hash, d.Unusable)}
		}
		at[d.Node].document = d
	}
	if !o.Licences {
		return s, nil
	}
	return s, parallel.Each(ctx, parallel.Readers, s.packages, func(ctx context.Context, it *item) error {
		t := it.tarball()
		if t == nil {
			return nil
		}
		f, err := licence.Read(ctx, r, t.Name, inv.Graph, it.Node)
		it.licence = f.Licence
		return err
	})
}

// reached returns the roots and all their dependencies of some types.
func (s *Stack) reached(types query.DepTypes) map[*query.Node]bool {
	seen := make(map[*query.Node]bool)
	var next []*query.Node
	for n := range s.roots {
		seen[n] = true
		next = append(next, n)
	}
	for ; len(next) > 0; next = next[1:] {
		for _, d := range next[0].Dependencies {
			if d.Types&types != 0 && !seen[d.To] {
				seen[d.To] = true
				next = append(next, d.To)
			}
		}
	}
	return seen
}

// Packages returns the number of packages in the document.
func (s *Stack) Packages() int { return len(s.packages) }

// digest identifies the content of the document.
func (s *Stack) digest() [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %d", s.Name, s.Base, s.Supplier, s.types)
	for _, it := range s.packages {
		fmt.Fprintf(h, "%q %t %q\n", it.Hash, s.roots[it.Node], it.sha256()+it.licence)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// uuid returns the digest in the form of a UUID (RFC 9562, version 8).
func (s *Stack) uuid() string {
	d := s.digest()
	d[6] = d[6]&0x0f | 0x80
	d[8] = d[8]&0x3f | 0x80
	x := hex.EncodeToString(d[:16])
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

// sha256 returns the digest of the tarball; empty if there is none.
func (it *item) sha256() string {
	if t := it.tarball(); t != nil {
		return t.Digest.String()
	}
	return ""
}

func (it *item) tarball() *inventory.Blob {
	if it.document == nil {
		return nil
	}
	return it.document.Tarball()
}

// url returns the URL of the package for clients; empty if unknown.
func (s *Stack) url(it *item) string {
	t := it.tarball()
	if t == nil || s.Base == "" {
		return ""
	}
	return strings.TrimSuffix(s.Base, "/") + "/" + t.Name
}

// purl returns the package URL. Spack has no type, so it is generic, with qualifiers that identify the build.
func (s *Stack) purl(it *item) string {
	q := map[string]string{"spack_hash": it.Hash}
	if sum := it.sha256(); sum != "" {
		q["checksum"] = "sha256:" + sum
	}
	if u := s.url(it); u != "" {
		q["download_url"] = u
	}
	return packageurl.NewPackageURL(packageurl.TypeGeneric, "", it.Name, it.Version.String(), packageurl.QualifiersFromMap(q), "").ToString()
}

// dependencies returns the dependencies of a package that the document lists.
func (s *Stack) dependencies(it *item) []query.Dependency {
	var all []query.Dependency
	for _, d := range it.Dependencies {
		if d.Types&s.types != 0 {
			all = append(all, query.Dependency{Types: d.Types & s.types, Virtuals: d.Virtuals, To: d.To})
		}
	}
	return all
}

// about describes how a package was built, in Spack's words.
func (it *item) about() string {
	text := "Spack: " + it.Namespace + "." + it.Name + "@" + it.Version.String()
	for _, word := range []string{it.VariantText(), "arch=" + it.Architecture()} {
		if word != "" {
			text += " " + word
		}
	}
	if c := it.Compilers(); len(c) > 0 {
		text += " %" + strings.Join(c, " %")
	}
	return text + " /" + it.Hash
}

// absent returns the reason why a package has no checksum; empty if it has one.
func (it *item) absent() string {
	switch {
	case it.document != nil:
		return ""
	case it.External:
		return "installed outside Spack: it is not in the cache"
	}
	return "not in the cache"
}

// An UnusableError reports that the document of a package is missing or damaged.
type UnusableError struct{ error }

func (e *UnusableError) Unwrap() error { return e.error }
