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

// A DamagedKeyError says that the copy of a key in a mirror cannot be read. It may have held a revocation, so
// the key signs nothing until the copy is repaired.
type DamagedKeyError struct {
	Key key.Fingerprint
	err error
}

func (e *DamagedKeyError) Error() string {
	return fmt.Sprintf("the copy of the key %s that the destination holds cannot be read: %s", e.Key, e.err)
}

func (e *DamagedKeyError) Unwrap() error { return e.err }

// Mend says how to repair an unreadable copy.
const Mend = "put it right with the public key as it is now, and with its revocation if it has one: publish keys add"

// ReadKey reads a public key of a mirror. The error is a *DamagedKeyError if it exists but cannot be read, and
// mirror.ErrNotExist if it does not exist.
func ReadKey(ctx context.Context, f buildcache.Layout, r mirror.Reader, k key.Fingerprint) (*key.Public, error) {
	public, err := buildcache.ReadKey(ctx, f, r, k)
	if errors.Is(err, mirror.ErrNotExist) { // the document, or the object that it refers to
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

// Merged returns the objects that publish the key merged with the copy of it in a mirror, and the version of
// the document that they replace. They are nil if the copy already says as much. An unreadable copy is an
// error, or is replaced with repair.
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

// anew returns the objects that publish the key in place of an unreadable copy. Content under its name is never
// replaced: if that content is damaged, an extra empty line gives the key another name.
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

// A Published is the state of a key in a mirror after it is published.
type Published struct {
	Public  *key.Public
	Objects []buildcache.Object // objects of the key
	Absent  []buildcache.Object // those of them that must be stored
	// Damage is what is wrong with the existing copy, which stays unchanged; nil: nothing, or there is no copy.
	Damage error
}

// Key compares a key with the copy of it in a mirror. Nothing that the copy says is lost.
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

// sameKey compares the document of a key with the existing one.
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

// mergeThere merges a key with the existing copy, and reports whether the result says more than the copy.
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

// Known merges a key with the copy of it in the mirror. An unreadable copy is a *DamagedKeyError. A copy with
// an equal document is not read.
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

// Retirements list the retired keys of mirrors.
type Retirements []Retirement

// A Retirement lists the retired keys of one layout of a mirror.
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

// KeyIndex reports whether the existing index of keys names all of these keys. It may name more; the retired
// ones among these are returned.
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
