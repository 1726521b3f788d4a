// Package source reads a SOURCE directory: a mirror or a tree of mirrors, with packages, public keys and
// release files.
//
// Open reads a finished directory once. Errors in single files are in the Findings, and the other files are
// still read. An Inbox is a directory into which packages are being written. Files outside of the directory
// are never opened, not even through symbolic links.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// A Source is the directory to publish: a mirror or a tree of mirrors.
type Source struct {
	Mirrors  []*Mirror
	Files    []*ReleaseFile
	Findings []buildcache.Finding

	root  *blob.Dir
	specs *spec.Reader
	idle  []string // patterns of the selection that have matched no package yet
}

// A Mirror is one mirror in the source. A directory with both layouts counts as two mirrors.
type Mirror struct {
	Path     string // below SOURCE and DESTINATION; empty for SOURCE itself
	Layout   buildcache.Layout
	Packages []*buildcache.Package
	Keys     []Key

	// Refused are packages that cannot be published, with the reason. They may be known only by their names.
	// Packages that depend on them cannot be published either.
	Refused map[*buildcache.Package]string

	// Views are the named indices that the source has.
	Views []View

	// There are selected packages that the destination already offers. They were not read and are known only
	// by their names. In a directory there are none.
	There []*buildcache.Package

	files Files
	tree  *tree // same as files if they are a directory
	specs *spec.Reader
}

// Files reads the documents and the content of a mirror.
type Files interface {
	mirror.Reader
	// Content returns the current content of a name. The error is mirror.ErrNotExist if there is none.
	Content(name string) (blob.Source, error)
}

// NewMirror returns a mirror without packages. The caller reads them from files.
func NewMirror(l buildcache.Layout, files Files, specs *spec.Reader) *Mirror {
	return &Mirror{Layout: l, Refused: make(map[*buildcache.Package]string), files: files, specs: specs}
}

// newMirror is NewMirror for a directory.
func (src *Source) newMirror(dir string, l buildcache.Layout) *Mirror {
	t := &tree{src.root, dir}
	m := NewMirror(l, t, src.specs)
	m.Path, m.tree = dir, t
	return m
}

// File returns the path, below SOURCE, of an object of the mirror.
func (m *Mirror) File(name string) string { return path.Join(m.Path, name) }

// Content returns the current file of a name.
func (m *Mirror) Content(name string) (blob.Source, error) { return m.files.Content(name) }

// ReadSpec completes p.Spec: see buildcache.Layout.
func (m *Mirror) ReadSpec(ctx context.Context, p *buildcache.Package) error {
	return m.Layout.ReadSpec(ctx, m.files, p, m.specs)
}

// maxSourceSpecs limits the bytes that the specs of a SOURCE take in memory: enough for 200,000 packages.
const maxSourceSpecs = 256 << 20

// A Key is a public key with the objects that publish it, in the order in which they are stored.
type Key struct {
	Fingerprint key.Fingerprint
	Objects     []buildcache.Object // the first one holds the key itself

	Public *key.Public
}

// WithKey returns keys with public added. If keys already has a copy of it, the two are merged.
func WithKey(keys []Key, l buildcache.Layout, public *key.Public) ([]Key, error) {
	keys = slices.Clone(keys)
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Fingerprint == public.Fingerprint() })
	if i < 0 {
		i, keys = len(keys), append(keys, Key{Fingerprint: public.Fingerprint()})
	} else if merged, more, err := keys[i].Public.Merged(public); err != nil || !more {
		return keys, err
	} else {
		public = merged
	}
	objects, err := buildcache.KeyObjects(l, public)
	keys[i].Public, keys[i].Objects = public, objects
	return keys, err
}

// Name returns the name under which clients find the key.
func (k Key) Name() string { return k.Objects[len(k.Objects)-1].Name }

// Names returns the names under which a destination may hold the objects of packages, the mirror's keys and
// its marker.
func (m *Mirror) Names(packages []*buildcache.Package) []string {
	var names []string
	for _, p := range packages {
		names = append(names, p.File)
		if signed, has := m.Layout.SignedName(p.File); has {
			names = append(names, signed)
		}
		for _, b := range p.Blobs {
			names = append(names, b.Name)
		}
	}
	for _, p := range m.There {
		names = append(names, p.File) // so that other packages that the index lacks there are healed
	}
	for _, k := range m.Keys {
		for _, o := range k.Objects {
			names = append(names, o.Name)
		}
	}
	if marker, ok := m.Layout.Marker(); ok {
		names = append(names, marker.Name)
	}
	return names
}

// ErrNothing is wrapped by errors about SOURCE as a whole.
var ErrNothing = errors.New("nothing to publish")

// Open finds the mirrors in a directory and reads the documents of the selected packages. Errors in single
// files are in the Source's Findings.
func Open(ctx context.Context, dir string, sel Selection) (*Source, error) {
	root, err := blob.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open SOURCE: %w", err)
	}
	src := &Source{root: root, specs: spec.NewReader(maxSourceSpecs)}
	documents, err := src.look(ctx, sel)
	if err != nil {
		root.Close()
		return nil, err
	}
	if sel.Documents == nil { // otherwise most packages are not read, and patterns may match them
		src.idle = slices.Concat(sel.Include, sel.Exclude)
	}
	for _, m := range src.Mirrors {
		if err := src.read(ctx, m, documents[m], sel); err != nil {
			root.Close()
			return nil, err
		}
	}
	if sel.Documents == nil {
		src.reportLacking(sel)
		src.reportIdle(packageNames(documents))
	}
	if err := src.findFiles(ctx, sel); err != nil {
		root.Close()
		return nil, err
	}
	if err := src.empty(dir, sel, documents); err != nil {
		root.Close()
		return nil, err
	}
	return src, nil
}

// look finds the mirrors and the names of the documents in each.
func (src *Source) look(ctx context.Context, sel Selection) (map[*Mirror][]string, error) {
	if sel.Documents != nil {
		return src.named(sel.Documents), nil
	}
	if err := src.find(ctx, ""); err != nil {
		return nil, err
	}
	src.Mirrors = slices.DeleteFunc(src.Mirrors, func(m *Mirror) bool { return !sel.layout(m.Layout) })
	names := make(map[*Mirror][]string)
	for _, m := range src.Mirrors {
		var err error
		if names[m], err = src.documents(ctx, m); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Close releases the directory.
func (src *Source) Close() error {
	if src.root == nil {
		return nil // not a directory
	}
	return src.root.Close()
}

func (src *Source) empty(dir string, sel Selection, documents map[*Mirror][]string) error {
	if len(src.Files) > 0 || buildcache.Failed(src.Findings) {
		return nil
	}
	if len(src.Mirrors) == 0 && sel.Layout != "" {
		return fmt.Errorf("%w: %s holds no Spack mirror of layout %s", ErrNothing, dir, sel.Layout)
	}
	if len(src.Mirrors) == 0 {
		return fmt.Errorf("%w: %s holds no Spack mirror: want directories v3 and blobs, or build_cache", ErrNothing, dir)
	}
	for _, m := range src.Mirrors {
		if len(m.Packages) > 0 {
			return nil
		}
	}
	if len(sel.Include)+len(sel.Exclude) > 0 {
		return &NotSelectedError{Dir: dir, Include: sel.Include, Exclude: sel.Exclude, Names: packageNames(documents)}
	}
	return fmt.Errorf("%w: the mirror in %s holds no package", ErrNothing, dir)
}

func (src *Source) find(ctx context.Context, dir string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if strings.Count(dir, "/") >= blob.MaxDepth {
		src.report(buildcache.Error, dir, blob.ErrTooDeep.Error())
		return nil
	}
	t := &tree{src.root, dir}
	entries, err := t.entries("")
	if err != nil {
		src.report(buildcache.Error, t.rel(""), err.Error())
		return nil
	}
	var there []buildcache.Layout
	for _, l := range buildcache.Layouts() {
		if l.Detect(t.isDir) {
			there = append(there, l)
		}
	}
	if len(there) > 0 && !spec.Readable(dir) {
		src.report(buildcache.Error, dir, "a mirror cannot have control characters in its path, which must be UTF-8")
		return nil
	}
	for _, l := range there {
		src.Mirrors = append(src.Mirrors, src.newMirror(dir, l))
	}
	for _, e := range entries {
		own := slices.ContainsFunc(there, func(l buildcache.Layout) bool { return l.Owns(e.Name() + "/") })
		if e.IsDir() && !own && !strings.HasPrefix(e.Name(), ".") {
			if err := src.find(ctx, t.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (src *Source) report(s buildcache.Severity, file, reason string) {
	src.Findings = append(src.Findings, s.In(file, reason))
}

// read reads documents of a mirror.
func (src *Source) read(ctx context.Context, m *Mirror, names []string, sel Selection) error {
	var mu sync.Mutex // guards m and src.Findings while the result of one document is recorded
	err := parallel.Each(ctx, runtime.GOMAXPROCS(0), names, func(ctx context.Context, name string) error {
		p, reason := m.readDocument(ctx, name)
		mu.Lock()
		defer mu.Unlock()
		withdrawn, ok := errors.AsType[*tombstone.Error](reason)
		src.match(sel, p)
		switch {
		case !sel.picks(p):
		case ok: // withdrawn in SOURCE, which is itself a mirror
			src.report(buildcache.Warning, m.tree.path(name), "not published: in SOURCE "+withdrawn.Error())
		case reason != nil:
			src.refuse(m, p, reason.Error())
		default:
			m.Packages = append(m.Packages, p)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	slices.SortFunc(m.Packages, func(a, b *buildcache.Package) int { return strings.Compare(a.File, b.File) })
	if sel.Documents == nil {
		if err := src.readViews(ctx, m); err != nil {
			return err
		}
	}
	if sel.NoKeys {
		return nil
	}
	return src.readKeys(ctx, m)
}

// refuse keeps a package from being published.
func (src *Source) refuse(m *Mirror, p *buildcache.Package, reason string) {
	if _, ok := m.Refused[p]; !ok {
		m.Refused[p] = reason
		src.report(buildcache.Error, m.tree.path(p.File), reason)
	}
}

// readDocument reads the document of a package. If it cannot be read, the returned package holds only what
// the name tells.
func (m *Mirror) readDocument(ctx context.Context, name string) (*buildcache.Package, error) {
	id, _ := m.Layout.ParsePackageName(name)
	named := &buildcache.Package{File: name, SpecName: id}
	content, _, err := mirror.Read(ctx, m.tree, name, buildcache.MaxDocument)
	if err != nil {
		return named, err
	}
	p, err := m.Layout.ParseDocument(name, content, m.specs)
	if err != nil {
		return named, err
	}
	trueVersion(ctx, p, m.Layout, m.tree, m.specs)
	return p, nil
}

// trueVersion reads the version of a package from its spec if the document's name may not show it: in names,
// _ replaces other characters, such as the slash of git.feature/x=1.2. An unreadable spec is reported later.
func trueVersion(ctx context.Context, p *buildcache.Package, f buildcache.Layout, t *tree, specs *spec.Reader) {
	if strings.Contains(p.Version, "_") {
		_ = f.ReadSpec(ctx, t, p, specs)
	}
}

// documents lists the names of a mirror's package documents, and reports files that only look like documents.
func (src *Source) documents(ctx context.Context, m *Mirror) ([]string, error) {
	dir, _ := m.Layout.Directories()
	var names []string
	err := src.root.Walk(ctx, m.tree.rel(dir), func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			src.report(buildcache.Error, full, err.Error())
			return fs.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		name := full
		if m.tree.dir != "" {
			name = strings.TrimPrefix(full, m.tree.dir+"/")
		}
		if _, ok := m.Layout.ParsePackageName(name); ok && spec.Readable(name) {
			names = append(names, name)
		} else if buildcache.LooksLikeDocument(name) {
			src.report(buildcache.Error, full, "not a name that Spack gives to a package")
		}
		return nil
	})
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return buildcache.Superseded(m.Layout, name, func(signed string) bool { return all[signed] })
	}), err
}

func (src *Source) readKeys(ctx context.Context, m *Mirror) error {
	_, dir := m.Layout.Directories()
	entries, err := m.tree.entries(strings.TrimSuffix(dir, "/"))
	if err != nil {
		src.report(buildcache.Error, m.tree.path(dir), err.Error())
		return nil
	}
	sizes := make(map[string]int64)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sizes[dir+e.Name()] = info.Size()
		}
	}
	for _, e := range entries {
		f, ok := m.Layout.ParseKeyName(dir + e.Name())
		if !ok || sizes[m.Layout.RetiredKeyName(f)] > 0 { // retired keys are never offered
			continue
		}
		objects, err := m.Layout.ReadKey(ctx, m.tree, f)
		if err != nil {
			src.report(buildcache.Error, m.tree.path(dir+e.Name()), err.Error())
			continue
		}
		public, err := buildcache.PublicKey(objects)
		if err != nil {
			src.report(buildcache.Error, m.tree.path(dir+e.Name()), err.Error())
			continue
		}
		m.Keys = append(m.Keys, Key{f, objects, public})
	}
	return ctx.Err()
}

// A NotSelectedError means that a source has packages but none is selected. It matches ErrNothing.
type NotSelectedError struct {
	Dir              string
	Include, Exclude []string
	Names            []string // of the existing packages, as far as names of documents tell
}

func (e *NotSelectedError) Error() string {
	return fmt.Sprintf("%v: no package in %s is selected by include %s, exclude %s", ErrNothing, e.Dir, e.Include, e.Exclude)
}

// Is makes errors.Is(err, ErrNothing) hold.
func (e *NotSelectedError) Is(target error) bool { return target == ErrNothing }

// packageNames returns the package names in the directories of documents of layout v3.
func packageNames(documents map[*Mirror][]string) []string {
	var names []string
	for _, of := range documents {
		for _, name := range of {
			if dir := path.Dir(name); path.Base(path.Dir(dir)) == "spec" {
				names = append(names, path.Base(dir))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
