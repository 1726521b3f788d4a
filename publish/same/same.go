// Package same compares objects to store with the existing ones of the same names, in as few requests as
// possible.
package same

import (
	"context"
	"crypto/md5" // to compare with ETags; it protects nothing
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// Document compares a document with the existing one: by its MD5 if the listing has it, and by reading the
// existing one if a relevant doubt remains. In a bucket encrypted with KMS a different MD5 proves nothing.
// Without doubt, a document with a different MD5 counts as another one.
func Document(ctx context.Context, r mirror.Reader, info mirror.Info, document []byte, doubt bool) (bool, error) {
	if info.Size != int64(len(document)) {
		return false, nil
	}
	if info.MD5 != "" && info.MD5 == buildcache.MD5(document) {
		return true, nil
	}
	if info.MD5 != "" && !doubt {
		return false, nil // both cases keep it
	}
	content, _, err := mirror.Read(ctx, r, info.Name, buildcache.MaxDocument)
	return string(content) == string(document), err
}

// Listed reports whether an object in memory equals the listed one of its name, as far as the listing tells.
func Listed(info mirror.Info, o buildcache.Object) (bool, error) {
	content, err := blob.ReadAll(o.Content)
	return err == nil && info.MD5 != "" && info.MD5 == buildcache.MD5(content), err
}

// File compares by checksums: by the MD5 that S3 keeps of an object sent in one request, otherwise by the
// CRC64NVME that it keeps of an object sent in parts, otherwise by content.
func File(ctx context.Context, s mirror.Store, o buildcache.Object, there mirror.Info) (bool, error) {
	if there.Size != o.Size {
		return false, nil
	}
	have, err := checksums(ctx, o.Content)
	if err != nil {
		return false, err
	}
	if there.MD5 == have.md5 {
		return true, nil
	}
	info, err := s.Stat(ctx, o.Name)
	if err != nil {
		return false, err
	}
	if info.CRC64NVME != "" {
		return info.CRC64NVME == have.crc64, nil
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

// Tarball checks that an existing tarball of layout v2, whose name does not identify its content, is not of
// another build.
func Tarball(ctx context.Context, seen *buildcache.Survey, l buildcache.Layout, s mirror.Store, b buildcache.Object) error {
	there, ok := seen.Objects[b.Name]
	if !ok || l.NamesContent() {
		return nil
	}
	if err := blob.Check(ctx, b.Name, b.Content, b.Digest); err != nil {
		return err
	}
	equal, err := File(ctx, s, b, there)
	if err == nil && !equal {
		err = fmt.Errorf("%s: the destination holds that of another build, and layout %s cannot replace it", b.Name, l.Name())
	}
	return err
}

// Short reports whether an existing document is too short to have the same text as another one, whatever their
// signatures.
func Short(there mirror.Info, document []byte) bool {
	text, err := key.Text(document)
	return err == nil && there.Size < int64(len(text))*9/10
}

const maxSpecs = 64 << 20 // bytes of the specs of one document

// Unreadable reads existing documents and returns, by name, what is wrong with those that no client can read.
func Unreadable(ctx context.Context, l buildcache.Layout, r mirror.Reader, names []string) (map[string]error, error) {
	wrong := make([]error, len(names))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(names), func(ctx context.Context, i int) error {
		document, _, err := mirror.Read(ctx, r, names[i], buildcache.MaxDocument)
		if err == nil {
			_, err = l.ParseDocument(names[i], document, spec.NewReader(maxSpecs))
		}
		_, unreadable := errors.AsType[*buildcache.ContentError](err)
		_, withdrawn := errors.AsType[*tombstone.Error](err)
		switch {
		case withdrawn, errors.Is(err, mirror.ErrNotExist): // clients do not see them
			return nil
		case unreadable:
			wrong[i] = err
			return nil
		}
		return err
	})
	of := make(map[string]error)
	for i, name := range names {
		of[name] = wrong[i]
	}
	return of, err
}

type sums struct{ md5, crc64 string }

func checksums(ctx context.Context, src blob.Source) (sums, error) {
	r, err := src.Open()
	if err != nil {
		return sums{}, err
	}
	defer r.Close()
	m, c := md5.New(), crc64nvme.New()
	if _, err := io.Copy(io.MultiWriter(m, c), io.NewSectionReader(r, 0, src.Size())); err != nil {
		return sums{}, err
	}
	return sums{hex.EncodeToString(m.Sum(nil)), base64.StdEncoding.EncodeToString(c.Sum(nil))}, ctx.Err()
}
