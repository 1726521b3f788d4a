package s3

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/unfinished"
)

// resume finds what others, or we ourselves, have done of an upload: the object may be there
// already (its version is returned), or some of its parts may be.
//
// It asks for each key and not once for the whole mirror. So it is right in a process that
// lives for months, works where only whole keys can be listed (MinIO), and costs nothing that
// shows: both questions are asked at once, by objects that take much longer to be sent.
func (u *upload) resume(ctx context.Context, was mirror.Version) (mirror.Version, error) {
	var now sight
	g, both := defect.WithContext(ctx)
	g.Go(func() (err error) {
		now, err = u.b.look(both, u.o)
		if err != nil && !wrong(err) && ctx.Err() == nil {
			// Without the right to look, S3 says so when the object is complete.
			now, err = sight{version: was}, nil
		}
		return err
	})
	g.Go(func() error { return u.find(both) })
	err := g.Wait()
	switch {
	case err != nil:
		return "", err
	case now.same:
		return now.version, nil
	case now.version != was:
		return "", errTaken
	}
	return mirror.Absent, nil
}

// candidates is how many unfinished uploads of one key are looked into.
const candidates = 4

// find looks for an unfinished upload of the object that can be gone on with, and takes
// the one of which most is there. Resuming is never necessary: without the permission for
// it everything is sent.
//
// The upload of a name that changes its content is never gone on with: it may be a live one
// of another publisher, who sends something else.
func (u *upload) find(ctx context.Context) error {
	found, err := u.unfinished(ctx)
	if err != nil {
		return u.cannotResume(ctx, listingUploads, err)
	}
	if u.others = found; u.o.mutable {
		return nil
	}
	for _, id := range found[:min(len(found), candidates)] {
		parts, err := u.b.uploads.Parts(ctx, u.o.key, id)
		if answer.Code(err) == "NoSuchUpload" || err == unfinished.ErrNotOurs {
			continue
		}
		if err != nil {
			return u.cannotResume(ctx, listingParts, err)
		}
		u.consider(id, parts)
	}
	u.others = slices.DeleteFunc(found, func(id string) bool { return id == u.id })
	return nil
}

// unfinished lists the uploads of the object that may be ours, the latest first.
func (u *upload) unfinished(ctx context.Context) ([]string, error) {
	var found []types.MultipartUpload
	for c, err := range u.b.uploads.List(ctx, u.o.key) {
		if err != nil {
			return nil, err
		}
		if aws.ToString(c.Key) != u.o.key {
			break // keys are listed in order, and this is the first
		}
		if checksummed(c) {
			found = append(found, c)
		}
	}
	slices.SortStableFunc(found, func(a, b types.MultipartUpload) int { return aws.ToTime(b.Initiated).Compare(aws.ToTime(a.Initiated)) })
	ids := make([]string, len(found))
	for i, c := range found {
		ids[i] = aws.ToString(c.UploadId)
	}
	return ids, nil
}

// lookForOthers finds the uploads that will be of no use once this one is complete.
func (u *upload) lookForOthers(ctx context.Context) {
	found, err := u.unfinished(ctx)
	if err != nil {
		return // the bucket's lifecycle rule finds them too
	}
	u.others = slices.DeleteFunc(found, func(id string) bool { return id == u.id })
}

// checksummed reports whether an upload may be one of ours. Who does not say how it is
// checked may be: its parts then have no checksums, or have them.
func checksummed(c types.MultipartUpload) bool {
	return (c.ChecksumAlgorithm == "" || c.ChecksumAlgorithm == types.ChecksumAlgorithmCrc64nvme) &&
		c.ChecksumType != types.ChecksumTypeComposite
}

func (u *upload) cannotResume(ctx context.Context, a act, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	u.b.warnNoResume.Do(func() {
		u.b.opts.Log.Warn("interrupted uploads cannot be resumed", "error", u.b.failed(a, u.o.key, err))
	})
	return nil
}

// consider takes an unfinished upload if more of it is there than of the one that we have.
func (u *upload) consider(id string, parts []types.Part) {
	size := u.partSize
	if len(parts) > 0 {
		size = impliedSize(parts)
	}
	if !u.fits(size) || u.id != "" && len(parts) <= len(u.have) {
		return
	}
	u.id, u.partSize, u.have = id, size, make(map[int32]types.Part, len(parts))
	for _, p := range parts {
		u.have[aws.ToInt32(p.PartNumber)] = p
	}
}

// impliedSize is the part size of an upload: that of its largest part, unless the only one
// that is there is the last. Then every part is sent again, because none has its checksum.
func impliedSize(parts []types.Part) int64 {
	largest := int64(0)
	for _, p := range parts {
		largest = max(largest, aws.ToInt64(p.Size))
	}
	return largest
}

// fits reports whether the object can be sent in parts of a size.
func (u *upload) fits(size int64) bool {
	return size >= minPart && size <= maxPart && (u.o.size+size-1)/size <= maxParts
}
