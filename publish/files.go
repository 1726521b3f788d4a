package publish

import (
	"context"
	"crypto/md5" // to compare with ETags; it protects nothing
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A ReleaseFile is a plain file that is published under its own name, such as
// slurm-25.11-noble-amd64-software.tar.gz, after what belongs to it: whoever sees
// the artifact can check it.
type ReleaseFile struct {
	Name       string              // below SOURCE, and below DESTINATION just the same
	Companions []buildcache.Object // its signature (.asc) and its checksum (.sha256), where the source has them
	buildcache.Object
}

// companions are the suffixes of what belongs to an artifact.
var companions = []string{".asc", ".sha256"}

// findFiles finds the plain files that are selected.
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
			src.report(buildcache.Error, pattern, "no file in SOURCE matches --files")
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
			return // two patterns match it
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

// maxCompanion is how large a companion may be: it is held in memory, and a signature of several keys has some
// kilobytes.
const maxCompanion = 64 << 10

// releaseObject is a file of at most so many bytes; 0: of any size.
func releaseObject(ctx context.Context, t *tree, name string, most int64) (buildcache.Object, error) {
	content, err := t.content(name)
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

// checkSum compares an artifact with its .sha256, as sha256sum writes it.
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

// checkSignature checks the detached signature of a file, which must be there if
// signatures are required and none is about to be made.
func (f *ReleaseFile) checkSignature(trust buildcache.Trust, signing bool) error {
	for _, o := range f.Companions {
		if !strings.HasSuffix(o.Name, ".asc") {
			continue
		}
		if trust.Keys == nil {
			return nil
		}
		signature, err := blob.ReadAll(o.Content)
		if err != nil {
			return err
		}
		r, err := f.Content.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = trust.Keys.VerifyDetached(io.NewSectionReader(r, 0, f.Size), signature)
		return err
	}
	if trust.RequireSigned && !signing {
		return errors.New("it has no signature (.asc), and --require-signed is given")
	}
	return nil
}

// A FilePlan is what is done with a plain file and what belongs to it.
type FilePlan struct {
	Name   string
	Status Status
	Writes []Write // companions before the artifact; a signature that is yet to be made has no content

	store   mirror.Store
	content blob.Source // of the artifact
}

// planFiles compares plain files with what is there, by their checksums.
func (p *Plan) planFiles(ctx context.Context, files []*ReleaseFile, s mirror.Store) error {
	for _, f := range files {
		signing := p.options.Sign.signFile(f)
		if err := f.checkSignature(p.options.Trust, len(signing) > 0); err != nil {
			p.Findings = append(p.Findings, buildcache.Error.In(f.Name, err.Error()))
			p.Files = append(p.Files, &FilePlan{Name: f.Name, Status: Rejected})
			continue
		}
		plan := &FilePlan{Name: f.Name, Status: Unchanged, store: s, content: f.Content}
		ofFile, wasFile, err := compareFile(ctx, s, f.Object, p.options.IfExists)
		if err != nil {
			return err
		}
		for _, o := range append(append(slices.Clone(f.Companions), signing...), f.Object) {
			status, was := ofFile, wasFile
			switch {
			case o.Content == nil:
				status, was, err = compareSignature(ctx, s, o.Name, ofFile, p.options.IfExists)
			case o.Name != f.Name:
				status, was, err = compareFile(ctx, s, o, p.options.IfExists)
			}
			if err != nil {
				return err
			}
			switch status {
			case Rejected:
				p.Findings = append(p.Findings, buildcache.Error.In(o.Name, "the destination holds another file of that name, and --if-exists error is given"))
			case Skipped:
				p.Findings = append(p.Findings, buildcache.Warning.In(o.Name, "the destination holds another file of that name, which stays: --if-exists overwrite replaces it"))
			case New, Replaced:
				plan.Writes = append(plan.Writes, Write{Object: o, Was: was})
			}
			plan.Status = worse(plan.Status, status)
		}
		if plan.Status == Rejected || plan.Status == Skipped {
			plan.Writes = nil // never the signature of one file next to another
		}
		p.Files = append(p.Files, plan)
	}
	return nil
}

// worse is the status of a whole whose parts have these.
func worse(a, b Status) Status {
	order := []Status{Unchanged, New, Replaced, Skipped, Rejected}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// find looks for one object in a listing; the Info is empty if it is not there.
func find(ctx context.Context, s mirror.Store, name string) (mirror.Info, error) {
	for info, err := range s.List(ctx, mirror.Range{Prefix: name}) {
		if err != nil {
			return mirror.Info{}, fmt.Errorf("list %s: %w", name, err)
		}
		if info.Name == name {
			return info, nil
		}
	}
	return mirror.Info{}, nil
}

func compareFile(ctx context.Context, s mirror.Store, o buildcache.Object, mode IfExists) (Status, mirror.Version, error) {
	there, err := find(ctx, s, o.Name)
	if err != nil {
		return "", "", err
	}
	if there.Name == "" {
		return New, mirror.Absent, nil
	}
	same, err := sameFile(ctx, s, o, there)
	switch {
	case err != nil:
		return "", "", err
	case same:
		return Unchanged, "", nil
	case mode == Overwrite:
		return Replaced, there.Version, nil
	case mode == Refuse:
		return Rejected, "", nil
	}
	return Skipped, "", nil
}

// sameFile compares by checksums: the MD5 that S3 keeps of what was sent in one
// request, else the CRC64NVME that it keeps of what was sent in parts, else the content.
func sameFile(ctx context.Context, s mirror.Store, o buildcache.Object, there mirror.Info) (bool, error) {
	if there.Size != o.Size {
		return false, nil
	}
	sums, err := checksums(ctx, o.Content)
	if err != nil {
		return false, err
	}
	if there.MD5 == sums.md5 {
		return true, nil
	}
	info, err := s.Stat(ctx, o.Name)
	if err != nil {
		return false, err
	}
	if info.CRC64NVME != "" {
		return info.CRC64NVME == sums.crc64, nil
	}
	object, err := s.Open(ctx, o.Name)
	if err != nil {
		return false, err
	}
	defer object.Body.Close()
	h := sha256.New()
	_, err = io.Copy(h, object.Body)
	return blob.Digest(h.Sum(nil)) == o.Digest, err
}

type fileSums struct{ md5, crc64 string }

func checksums(ctx context.Context, src blob.Source) (fileSums, error) {
	r, err := src.Open()
	if err != nil {
		return fileSums{}, err
	}
	defer r.Close()
	m, c := md5.New(), crc64nvme.New()
	if _, err := io.Copy(io.MultiWriter(m, c), io.NewSectionReader(r, 0, src.Size())); err != nil {
		return fileSums{}, err
	}
	return fileSums{hex.EncodeToString(m.Sum(nil)), base64.StdEncoding.EncodeToString(c.Sum(nil))}, ctx.Err()
}
