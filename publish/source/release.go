package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A ReleaseFile is a plain file that is published under its own name, such as
// slurm-25.11-noble-amd64-software.tar.gz. Its companions are published first, so that a client that sees the
// file can check it.
type ReleaseFile struct {
	Name       string              // below SOURCE and DESTINATION
	Companions []buildcache.Object // its signature (.asc) and checksum (.sha256), if the source has them
	buildcache.Object
}

// companions are the suffixes of the companions of a file.
var companions = []string{".asc", ".sha256"}

// findFiles finds the selected plain files.
func (src *Source) findFiles(ctx context.Context, sel Selection) error {
	t := &tree{root: src.root}
	for _, pattern := range sel.Files {
		names, err := fs.Glob(src.root.FS(), path.Clean(pattern))
		if err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
		found := false
		for _, name := range names {
			if isCompanion(name) || t.isDir(name) {
				continue
			}
			found = true
			if !spec.Readable(name) {
				src.report(buildcache.Error, name, "a file cannot have control characters in its name, which must be UTF-8")
				continue
			}
			src.addFile(ctx, t, name)
		}
		if !found {
			src.report(buildcache.Error, pattern, "no file in SOURCE matches this pattern")
		}
	}
	return ctx.Err()
}

func isCompanion(name string) bool {
	for _, suffix := range companions {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func (src *Source) addFile(ctx context.Context, t *tree, name string) {
	for _, f := range src.Files {
		if f.Name == name {
			return // matched by two patterns
		}
	}
	artifact, err := releaseObject(ctx, t, name, 0)
	if err != nil {
		src.report(buildcache.Error, name, err.Error())
		return
	}
	f := &ReleaseFile{Name: name, Object: artifact}
	for _, suffix := range companions {
		o, err := releaseObject(ctx, t, name+suffix, maxCompanion)
		if errors.Is(err, mirror.ErrNotExist) {
			continue
		}
		if err == nil && suffix == ".sha256" {
			err = checkSum(o, artifact)
		}
		if err != nil {
			src.report(buildcache.Error, name+suffix, err.Error())
			return
		}
		f.Companions = append(f.Companions, o)
	}
	src.Files = append(src.Files, f)
}

// maxCompanion is the maximum size of a companion in bytes. Companions are kept in memory, and a signature by
// several keys has a few kilobytes.
const maxCompanion = 64 << 10

// releaseObject returns a file as an object. most is its maximum size in bytes; 0: no limit.
func releaseObject(ctx context.Context, t *tree, name string, most int64) (buildcache.Object, error) {
	content, err := t.Content(name)
	if err != nil {
		return buildcache.Object{}, err
	}
	if size := content.Size(); most > 0 && size > most {
		return buildcache.Object{}, fmt.Errorf("it has %d bytes, and a signature or checksum has at most %d: is it what its name says?", size, most)
	}
	digest, err := blob.Sum(ctx, content)
	if err != nil {
		return buildcache.Object{}, err
	}
	return buildcache.Object{Name: name, Size: content.Size(), Digest: digest, Type: releaseType(name), CacheControl: layout.Release, Content: content}, nil
}

func releaseType(name string) string {
	switch path.Ext(name) {
	case ".gz", ".tgz":
		return "application/gzip"
	case ".json":
		return buildcache.JsonType
	case ".asc", ".sha256", ".txt":
		return "text/plain"
	}
	return "application/octet-stream"
}

// checkSum compares a file with its .sha256, in the format of sha256sum.
func checkSum(sum, artifact buildcache.Object) error {
	text, err := blob.ReadAll(sum.Content)
	if err != nil {
		return err
	}
	want, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if want != artifact.Digest.String() {
		return fmt.Errorf("it says %q, the file has sha256 %s", want, artifact.Digest)
	}
	return nil
}

// Unsigned returns the companions that the source lacks. A signature has no content, because it is made
// later.
func (f *ReleaseFile) Unsigned() []buildcache.Object {
	var add []buildcache.Object
	if !f.has(".sha256") {
		add = append(add, buildcache.NewObject(f.Name+".sha256", []byte(f.Digest.String()+"  "+path.Base(f.Name)+"\n"), releaseType(".sha256"), layout.Release))
	}
	if !f.has(".asc") {
		add = append(add, buildcache.Object{Name: f.Name + ".asc", Type: releaseType(".asc"), CacheControl: layout.Release})
	}
	return add
}

// Signed reports whether the source has a signature of the file.
func (f *ReleaseFile) Signed() bool { return f.has(".asc") }

// Issuer returns the key that the file's signature names or, if the source has no signature, signs; zero:
// none.
func (f *ReleaseFile) Issuer(signs key.Issuer) key.Issuer {
	for _, o := range f.Companions {
		if signature, err := blob.ReadAll(o.Content); err == nil && o.Name == f.Name+".asc" {
			by, _ := key.IssuerOfDetached(signature)
			return by
		}
	}
	return signs
}

func (f *ReleaseFile) has(suffix string) bool {
	return slices.ContainsFunc(f.Companions, func(o buildcache.Object) bool { return o.Name == f.Name+suffix })
}

// Without returns the file without its signature, and the key that the signature names. A signature by public
// is kept.
func (f *ReleaseFile) Without(public *key.Public) (without *ReleaseFile, was key.Issuer) {
	left := *f
	left.Companions = slices.DeleteFunc(slices.Clone(f.Companions), func(o buildcache.Object) bool {
		signature, err := blob.ReadAll(o.Content)
		if !strings.HasSuffix(o.Name, ".asc") || err != nil {
			return false
		}
		if was, err = key.IssuerOfDetached(signature); err == nil && public.Made(was) {
			was = key.Issuer{}
			return false
		}
		return true
	})
	return &left, was
}

// Outdated returns why a file must not replace an earlier one: the mirror holds a signature or checksum of
// the earlier file that is replaced neither by the source nor by more. It is empty if there is none.
func (f *ReleaseFile) Outdated(ctx context.Context, l mirror.Lister, more []buildcache.Object) (string, error) {
	brought := slices.Concat(f.Companions, more)
	for _, suffix := range companions {
		if slices.ContainsFunc(brought, func(o buildcache.Object) bool { return o.Name == f.Name+suffix }) {
			continue
		}
		there, err := mirror.Find(ctx, l, f.Name+suffix)
		if err != nil {
			return "", err
		}
		if there.Name != "" {
			return "the destination holds " + there.Name + " of the file that is replaced: sign this one, bring one along, or replace it all the same with if-exists overwrite-signed", nil
		}
	}
	return "", nil
}

// ErrNotChecked means that a signature cannot be checked with the available keys.
var ErrNotChecked = errors.New("its signature was not checked")

// CheckSignature checks the detached signature of a file. If signatures are required, the file must have one,
// unless signing is set. Without trusted keys, the available keys atHand are used, although they need not be
// trusted.
func (f *ReleaseFile) CheckSignature(trust buildcache.Trust, atHand *key.Ring, signing bool) error {
	i := slices.IndexFunc(f.Companions, func(o buildcache.Object) bool { return strings.HasSuffix(o.Name, ".asc") })
	if i < 0 {
		if trust.RequireSigned && !signing {
			return errors.New("it has no signature (.asc), and signatures are required")
		}
		return nil
	}
	signature, err := blob.ReadAll(f.Companions[i].Content)
	if err != nil {
		return err
	}
	r, err := f.Content.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	content := io.NewSectionReader(r, 0, f.Size)
	if trust.Keys != nil {
		_, err = trust.Keys.VerifyDetached(content, signature)
		return err
	}
	switch _, err = atHand.VerifyDetached(content, signature); {
	case errors.Is(err, key.ErrContent):
		return err
	case errors.Is(err, key.ErrUntrusted):
		return fmt.Errorf("%w: the key that made it is not at hand: give it as one of the trusted keys", ErrNotChecked)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotChecked, err)
	}
	return nil
}
