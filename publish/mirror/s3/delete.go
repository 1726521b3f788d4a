package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithytime "github.com/aws/smithy-go/time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/internal/answer"
)

// A Deleter deletes objects of a mirror.
type Deleter struct{ m *Mirror }

// Deleter returns the Deleter of the mirror. Publishing code never receives one.
func (m *Mirror) Deleter() *Deleter { return &Deleter{m} }

// Delete deletes an object that still has the version was. AWS checks the condition; MinIO does not.
func (d *Deleter) Delete(ctx context.Context, name string, was mirror.Version) error {
	b, key := d.m.bucket, d.m.key(name)
	if was == mirror.Absent {
		return d.m.wantAbsent(ctx, name)
	}
	_, err := call(ctx, b, b.client.DeleteObject, &sdk.DeleteObjectInput{
		Bucket: &b.opts.Bucket, Key: &key, IfMatch: aws.String(string(was)),
	})
	switch {
	case err == nil || answer.Code(err) == "NoSuchKey":
		return nil
	case answer.Status(err) == http.StatusPreconditionFailed || answer.Status(err) == http.StatusConflict:
		return d.m.wantAbsent(ctx, name)
	}
	return b.failed(deleting, key, err)
}

// DeleteAll deletes objects in one request. AWS checks the versions. Storage that does not check them deletes the
// objects whatever their version.
func (d *Deleter) DeleteAll(ctx context.Context, objects []mirror.Info) (changed []string, err error) {
	for try := 1; len(objects) > 0; try++ {
		again, kept, err := d.deleteOnce(ctx, objects)
		changed = append(changed, kept...)
		if err != nil || len(again) == 0 {
			return changed, err
		}
		if try == deleteTries {
			return changed, d.m.bucket.failed(deleting, d.m.key(again[0].Name), fmt.Errorf("the storage was busy %d times", try))
		}
		if err := smithytime.SleepWithContext(ctx, time.Duration(try)*deletePause); err != nil {
			return changed, err
		}
		objects = again
	}
	return changed, nil
}

// The storage may report for each object that it was busy. These objects are tried again.
const (
	deleteTries = 6
	deletePause = 200 * time.Millisecond
)

// busy lists the error codes of single objects that may succeed when tried again.
var busy = map[string]bool{"InternalError": true, "SlowDown": true, "ServiceUnavailable": true, "OperationAborted": true, "ConditionalRequestConflict": true}

func (d *Deleter) deleteOnce(ctx context.Context, objects []mirror.Info) (again []mirror.Info, changed []string, err error) {
	b := d.m.bucket
	byKey := make(map[string]mirror.Info, len(objects))
	in := &sdk.DeleteObjectsInput{Bucket: &b.opts.Bucket, Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for _, o := range objects {
		key := d.m.key(o.Name)
		byKey[key] = o
		in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &key, ETag: aws.String(string(o.Version))})
	}
	out, err := call(ctx, b, b.client.DeleteObjects, in)
	if err != nil {
		return nil, nil, b.failed(deleting, d.m.key(objects[0].Name), err)
	}
	for _, e := range out.Errors {
		key, code := aws.ToString(e.Key), aws.ToString(e.Code)
		o, ours := byKey[key]
		switch {
		case !ours:
			return nil, changed, b.failed(deleting, key, mirror.Faultf("it was not asked to delete it"))
		case code == "NoSuchKey":
		case code == "PreconditionFailed":
			changed = append(changed, o.Name)
		case busy[code]:
			again = append(again, o)
		case code == "AccessDenied":
			return nil, changed, b.failed(deleting, key, &mirror.DeniedError{Action: deleting.action, Name: key, Detail: aws.ToString(e.Message)})
		default:
			return nil, changed, b.failed(deleting, key, fmt.Errorf("%s: %s", code, aws.ToString(e.Message)))
		}
	}
	return again, changed, nil
}

// wantAbsent replaces a delete where the caller expects no object: it returns ErrConflict if there is one.
func (m *Mirror) wantAbsent(ctx context.Context, name string) error {
	_, err := m.Stat(ctx, name)
	switch {
	case err == nil:
		return m.bucket.failed(deleting, m.key(name), mirror.ErrConflict)
	case errors.Is(err, mirror.ErrNotExist):
		return nil
	}
	return err
}
