package same

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A DamagedKeyError says that the copy of a key that a mirror holds cannot be read. It may have held a revocation, so
// the key signs nothing until the copy is put right.
type DamagedKeyError struct {
	Key key.Fingerprint
	err error
}

func (e *DamagedKeyError) Error() string {
	return fmt.Sprintf("the copy of the key %s that the destination holds cannot be read: %s", e.Key, e.err)
}

func (e *DamagedKeyError) Unwrap() error { return e.err }

// Mend says how a copy that cannot be read is put right.
const Mend = "put it right with the public key as it is now, and with its revocation if it has one: publish keys add"

// ReadKey reads a public key of a mirror. The error is a *DamagedKeyError if it is there and cannot be read, and
// mirror.ErrNotExist if it is not.
func ReadKey(ctx context.Context, f buildcache.Layout, r mirror.Reader, k key.Fingerprint) (*key.Public, error) {
	public, err := buildcache.ReadKey(ctx, f, r, k)
	if errors.Is(err, mirror.ErrNotExist) { // the document, or what it points at
		if _, err := r.Stat(ctx, f.KeyName(k)); err != nil {
			return nil, err
		}
		return nil, &DamagedKeyError{k, fmt.Errorf("%s: %w", f.KeyName(k), errors.New("what it points at is not there"))}
	}
	_, other := errors.AsType[*blob.MismatchError](err)
	if _, unusable := errors.AsType[*buildcache.ContentError](err); other || unusable {
		return nil, &DamagedKeyError{k, fmt.Errorf("%s: %w", f.KeyName(k), err)}
	}
	return public, err
}

// Merged are the objects that make a key known, merged with the copy of it that a mirror holds, and the version of
// the document that they replace. They are nil if the copy says as much already. One that cannot be read is an error,
// and is replaced with repair.
func Merged(ctx context.Context, f buildcache.Layout, s mirror.Store, public *key.Public, repair bool) ([]buildcache.Object, mirror.Version, error) {
	info, err := s.Stat(ctx, f.KeyName(public.Fingerprint()))
	if errors.Is(err, mirror.ErrNotExist) {
		objects, err := buildcache.KeyObjects(f, public)
		return objects, mirror.Absent, err
	}
	if err != nil {
		return nil, "", err
	}
	there, err := ReadKey(ctx, f, s, public.Fingerprint())
	if _, damaged := errors.AsType[*DamagedKeyError](err); damaged && repair {
		objects, err := anew(ctx, f, s, public)
		return objects, info.Version, err
	}
	if err != nil {
		return nil, "", err
	}
	merged, more, err := there.Merged(public)
	if err != nil || !more {
		return nil, "", err
	}
	objects, err := buildcache.KeyObjects(f, merged)
	return objects, info.Version, err
}

// anew are the objects that make a key known in the place of a copy that cannot be read. Content under its name is
// never replaced, so where that is damaged, an empty line more gives the key another name.
func anew(ctx context.Context, f buildcache.Layout, r mirror.Reader, public *key.Public) ([]buildcache.Object, error) {
	armored, err := public.Armored()
	if err != nil {
		return nil, err
	}
	for {
		objects, err := f.KeyObjects(public.Fingerprint(), armored)
		if err != nil || len(objects) == 1 {
			return objects, err
		}
		have, _, err := mirror.Read(ctx, r, objects[0].Name, buildcache.MaxKeys)
		if errors.Is(err, mirror.ErrNotExist) || err == nil && string(have) == string(armored) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		armored = append(armored, '\n')
	}
}

// A Published is a key as a mirror holds it once it is published.
type Published struct {
	Public  *key.Public
	Objects []buildcache.Object // that make it known
	Absent  []buildcache.Object // those of them that are to be stored
	// Damage is what is wrong with the copy that the mirror has already, which stays as it is; nil: nothing, or it
	// has none.
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
		if reason := seen.Damaged(objects[0]); same && reason != "" {
			out.Damage = fmt.Errorf("%w: %s", &DamagedKeyError{public.Fingerprint(), errors.New(reason)}, Mend)
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
		p.Damage = fmt.Errorf("%w: %s", &DamagedKeyError{p.Public.Fingerprint(), err}, Mend)
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

// Known is what a key and the copy of it that the mirror holds say. A copy that cannot be read is a *DamagedKeyError.
// One that is the same by its document is not read.
func Known(ctx context.Context, seen *buildcache.Survey, f buildcache.Layout, r mirror.Reader, public *key.Public) (*key.Public, error) {
	objects, err := buildcache.KeyObjects(f, public)
	if err != nil {
		return nil, err
	}
	document := objects[len(objects)-1]
	info, listed := seen.Objects[document.Name]
	if !listed {
		return public, nil
	}
	if same, err := sameKey(ctx, r, info, document); err != nil || same && seen.Damaged(objects[0]) == "" {
		return public, err
	}
	there, err := ReadKey(ctx, f, r, public.Fingerprint())
	if err != nil {
		return nil, err
	}
	known, _, err := there.Merged(public)
	return known, err
}

// Retirements tell which keys were retired in mirrors.
type Retirements []Retirement

// A Retirement tells which keys were retired in one layout of a mirror, as far as it was listed.
type Retirement struct {
	Layout buildcache.Layout
	Seen   *buildcache.Survey
}

// RetiredAt lists the keys of a mirror, if there is one.
func RetiredAt(ctx context.Context, l mirror.Lister) (all Retirements, err error) {
	for _, f := range buildcache.Layouts() {
		there, err := buildcache.KeysThere(ctx, f, l)
		if err != nil {
			return nil, err
		}
		all = append(all, Retirement{f, there})
	}
	return all, nil
}

// Holds reports whether a key was retired in any of the mirrors.
func (all Retirements) Holds(k key.Fingerprint) bool {
	return slices.ContainsFunc(all, func(r Retirement) bool { return r.Seen.Retired(r.Layout, k) })
}

// KeyIndex reports whether the index of keys that is there names all of these keys. It may name more, of which those
// that were retired are returned.
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
