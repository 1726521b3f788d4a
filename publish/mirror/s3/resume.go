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

// resume finds earlier work on an upload, by this or another process: the object may exist, in which case its
// version is returned, or some of its parts may have arrived.
//
// It asks for each key, not once for the whole mirror. That is correct in a process that lives for months, works
// where only whole keys can be listed (MinIO), and costs no noticeable time: both requests are sent at once, for
// objects that take much longer to send.
func (u *upload) resume(ctx context.Context, was mirror.Version) (mirror.Version, error) {
	var now sight
	g, both := defect.WithContext(ctx)
	g.Go(func() (err error) {
		now, err = u.b.look(both, u.o)
		if err != nil && !wrong(err) && ctx.Err() == nil {
			// Without the permission to read it, S3 reports the object when the upload is completed.
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

// candidates is the maximum number of unfinished uploads of a key that are examined.
const candidates = 4

// find looks for an unfinished upload of the object that can be resumed, and takes the one of which most has
// arrived. Resuming is never necessary: without the permission, everything is sent.
//
// An upload of a name whose content changes is never resumed, because it may be a live upload of another publisher
// with other content.
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

// unfinished lists the unfinished uploads of the object that this program may have started, the latest first.
func (u *upload) unfinished(ctx context.Context) ([]string, error) {
	var found []types.MultipartUpload
	for c, err := range u.b.uploads.List(ctx, u.o.key) {
		if err != nil {
			return nil, err
		}
		if aws.ToString(c.Key) != u.o.key {
			break // keys are listed in order, so the rest are other keys
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

// lookForOthers finds the uploads that become useless once this one is complete.
func (u *upload) lookForOthers(ctx context.Context) {
	found, err := u.unfinished(ctx)
	if err != nil {
		return // the bucket's lifecycle rule removes them too
	}
	u.others = slices.DeleteFunc(found, func(id string) bool { return id == u.id })
}

// checksummed reports whether an upload may be one of this program. A server that does not report the checksum
// algorithm leaves that open: the parts then decide.
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

// consider takes an unfinished upload if more of it has arrived than of the current one.
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

// impliedSize returns the part size of an upload: the size of its largest part. If its only part is the last one,
// that size is wrong and every part is sent again, because no checksum matches.
func impliedSize(parts []types.Part) int64 {
	largest := int64(0)
	for _, p := range parts {
		largest = max(largest, aws.ToInt64(p.Size))
	}
	return largest
}

// fits reports whether the object can be sent in parts of this size.
func (u *upload) fits(size int64) bool {
	return size >= minPart && size <= maxPart && (u.o.size+size-1)/size <= maxParts
}
