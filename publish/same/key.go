package same

import (
	"context"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Published is a key as a mirror holds it once it is published.
type Published struct {
	Public  *key.Public
	Objects []buildcache.Object // that make it known
	Absent  []buildcache.Object // those of them that are to be stored
	// Damage is what is wrong with the copy that the mirror has already, which stays as it is; nil: nothing, or it has none.
	Damage error
}

// Key compares a key with what the mirror holds of it. Of a copy that the mirror has already, everything stays said.
func Key(ctx context.Context, seen *buildcache.Survey, f buildcache.Layout, r mirror.Reader, public *key.Public, objects []buildcache.Object) (Published, error) {
	out := Published{Public: public, Objects: objects}
	document := objects[len(objects)-1]
	more := false
	if info, there := seen.Objects[document.Name]; there {
		same, err := sameKey(ctx, r, info, document)
		if err == nil && !same {
			more, err = out.mergeThere(ctx, f, r)
		}
		if err != nil {
			return Published{}, err
		}
	}
	for _, o := range out.Objects {
		if _, there := seen.Objects[o.Name]; (!there || more && o.Name == document.Name) && out.Damage == nil {
			out.Absent = append(out.Absent, o)
		}
	}
	return out, nil
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
func (p *Published) mergeThere(ctx context.Context, f buildcache.Layout, r mirror.Reader) (more bool, err error) {
	objects, err := f.ReadKey(ctx, r, p.Public.Fingerprint())
	if err != nil {
		p.Damage = fmt.Errorf("the copy of this key that the destination holds cannot be used by clients: %w: remove it, and publish again", err)
		return false, ctx.Err()
	}
	there, err := buildcache.PublicKey(objects)
	if err != nil {
		return false, err
	}
	merged, more, err := there.Merged(p.Public)
	if err != nil || !more {
		p.Public, p.Objects = there, objects
		return false, err
	}
	p.Public = merged
	p.Objects, err = buildcache.KeyObjects(f, merged)
	return true, err
}

// Known is what a key and the copy of it that the mirror holds say. A copy that cannot be read says nothing.
func Known(ctx context.Context, seen *buildcache.Survey, f buildcache.Layout, r mirror.Reader, public *key.Public) (*key.Public, error) {
	objects, err := buildcache.KeyObjects(f, public)
	if err != nil {
		return nil, err
	}
	known, err := Key(ctx, seen, f, r, public, objects)
	return known.Public, err
}

// KeyIndex reports whether the index of keys that is there names all of these keys. It may name more, of which those that were retired are
// returned.
func KeyIndex(ctx context.Context, seen *buildcache.Survey, f buildcache.Layout, r mirror.Reader, index buildcache.Object, keys []key.Fingerprint) (names bool, retired []key.Fingerprint, err error) {
	info, there := seen.Objects[index.Name]
	if !there {
		return false, nil, nil
	}
	content, err := blob.ReadAll(index.Content)
	if err != nil || info.MD5 == buildcache.MD5(content) {
		return err == nil, nil, err
	}
	have, _, err := f.ReadKeyIndex(ctx, r)
	for _, k := range have {
		if seen.Retired(f, k) {
			retired = append(retired, k)
		}
	}
	return err == nil && len(buildcache.UnionKeys(have, keys)) == len(have), retired, err
}
