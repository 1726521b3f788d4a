package same

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Key returns a key as the mirror holds it once it is published, the objects that make it known, and those of them that are to
// be stored. Of a copy that the mirror has already, everything stays said; one that cannot be read stays as it is.
func Key(ctx context.Context, seen *buildcache.Survey, f buildcache.Layout, r mirror.Reader, public *key.Public, objects []buildcache.Object) (merged *key.Public, all, absent []buildcache.Object, err error) {
	document := objects[len(objects)-1]
	more := false
	if info, there := seen.Objects[document.Name]; there {
		if same, err := sameKey(ctx, r, info, document); err != nil {
			return nil, nil, nil, err
		} else if !same {
			public, objects, more, err = mergeThere(ctx, f, r, public, objects)
			if err != nil {
				return nil, nil, nil, err
			}
		}
	}
	for _, o := range objects {
		if _, there := seen.Objects[o.Name]; !there || more && o.Name == document.Name {
			absent = append(absent, o)
		}
	}
	return public, objects, absent, nil
}

// sameKey compares the document of a key with the one that is there.
func sameKey(ctx context.Context, r mirror.Reader, info mirror.Info, document buildcache.Object) (bool, error) {
	content, err := blob.ReadAll(document.Content)
	if err != nil || info.MD5 != "" && info.MD5 == buildcache.MD5(content) {
		return err == nil, err
	}
	if info.Size != int64(len(content)) {
		return false, nil
	}
	there, _, err := mirror.Read(ctx, r, info.Name, buildcache.MaxKeys)
	return string(there) == string(content), err
}

// mergeThere merges a key with the copy that is there, and reports whether that is more than the copy says.
func mergeThere(ctx context.Context, f buildcache.Layout, r mirror.Reader, public *key.Public, objects []buildcache.Object) (*key.Public, []buildcache.Object, bool, error) {
	there, err := f.ReadKey(ctx, r, public.Fingerprint())
	if err != nil { // verify tells what is wrong with it
		return public, objects, false, ctx.Err()
	}
	published, err := buildcache.PublicKey(there)
	if err != nil {
		return nil, nil, false, err
	}
	merged, more, err := published.Merged(public)
	if err != nil || !more {
		return published, there, false, err
	}
	objects, err = buildcache.KeyObjects(f, merged)
	return merged, objects, true, err
}

// Known is what a key and the copy of it that the mirror holds say. A copy that cannot be read says nothing.
func Known(ctx context.Context, seen *buildcache.Survey, f buildcache.Layout, r mirror.Reader, public *key.Public) (*key.Public, error) {
	objects, err := buildcache.KeyObjects(f, public)
	if err != nil {
		return nil, err
	}
	merged, _, _, err := Key(ctx, seen, f, r, public, objects)
	return merged, err
}
