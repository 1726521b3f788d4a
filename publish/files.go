package publish

import (
	"context"
	"crypto/md5" // to compare with ETags; it protects nothing
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// A FilePlan is what is done with a plain file and what belongs to it.
type FilePlan struct {
	Name   string
	Status Status
	Writes []Write // companions before the artifact; a signature that is yet to be made has no content

	store   mirror.Store
	content blob.Source // of the artifact
}

// planFiles compares plain files with what is there, by their checksums.
func (p *Plan) planFiles(ctx context.Context, files []*source.ReleaseFile, s mirror.Store) error {
	for _, f := range files {
		signing := p.options.Sign.signFile(f)
		if err := f.CheckSignature(p.options.Trust, len(signing) > 0); err != nil {
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
				p.Findings = append(p.Findings, buildcache.Error.In(o.Name, "the destination holds another file of that name, and if-exists is error"))
			case Skipped:
				p.Findings = append(p.Findings, buildcache.Warning.In(o.Name, "the destination holds another file of that name, which stays: if-exists overwrite replaces it"))
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
