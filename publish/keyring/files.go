package keyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// Plain files are published beside mirrors, each with a detached signature: FILE and FILE.asc.
const detached = ".asc"

// A detachedSignature is what stands beside a plain file.
type detachedSignature struct {
	name string // FILE.asc
	by   []key.Issuer
	// unclear is why it is no single armored signature, as publish makes and checks it; gpg may accept it all the same.
	unclear error
}

// made reports whether a key is among those that the signature names, or may be.
func (d detachedSignature) made(by func(key.Issuer) bool) bool {
	return slices.ContainsFunc(d.by, by) || d.unclear != nil && len(d.by) == 0
}

// signatures calls do for each detached signature of a file below a place, several at once.
func signatures(ctx context.Context, s mirror.Store, do func(d detachedSignature) error) error {
	var names []string
	for info, err := range s.List(ctx, mirror.Range{}) {
		if err != nil {
			return fmt.Errorf("look for signatures of files: %w", err)
		}
		if strings.HasSuffix(info.Name, detached) && info.Size <= same.MaxSignature {
			names = append(names, info.Name)
		}
	}
	return parallel.Each(ctx, parallel.Readers, names, func(ctx context.Context, name string) error {
		signature, _, err := mirror.Read(ctx, s, name, same.MaxSignature)
		if errors.Is(err, mirror.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		d := detachedSignature{name: name}
		if by, err := key.IssuerOfDetached(signature); err == nil {
			d.by = append(d.by, by)
		} else if by, unread := key.IssuersOfDetached(signature); len(by) > 0 || unread != nil {
			d.by, d.unclear = by, err
		} else {
			return nil // it is no signature
		}
		return do(d)
	})
}

// FilesBy are the plain files below a place whose detached signatures say that they were made by a key, or do not tell by which, sorted. public
// is that key, or nil if it cannot be read. The signature of a file that is gone counts for nothing.
func FilesBy(ctx context.Context, s mirror.Store, f key.Fingerprint, public *key.Public) ([]string, error) {
	made := madeBy(f, public)
	var mu sync.Mutex // guards found
	var found []string
	err := signatures(ctx, s, func(d detachedSignature) error {
		if !d.made(made) {
			return nil
		}
		file := strings.TrimSuffix(d.name, detached)
		if _, err := s.Stat(ctx, file); errors.Is(err, mirror.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if len(d.by) == 0 {
			file += " (by which key is not clear: " + d.unclear.Error() + ")"
		}
		mu.Lock()
		defer mu.Unlock()
		found = append(found, file)
		return nil
	})
	slices.Sort(found)
	return found, err
}

// RotateFiles replaces the detached signatures of plain files below a place that from has made, once each was checked, by those of to. The
// content of these files is read. One of several that from has made, or that is not armored, is refused; of one that is damaged there is a warning. Counted
// are files; of the change, nothing is about keys.
func RotateFiles(ctx context.Context, s mirror.Store, from *key.Public, to *sign.Key) (Change, error) {
	c := Change{Layout: "files", Stale: []string{}, Findings: []buildcache.Finding{}}
	ring := new(key.Ring).With(from)
	var mu sync.Mutex // guards c while one file is counted
	err := signatures(ctx, s, func(d detachedSignature) error {
		done := other
		var err error
		switch {
		case d.unclear != nil && d.made(from.Made):
			if _, err = s.Stat(ctx, strings.TrimSuffix(d.name, detached)); err == nil {
				if done = refused; len(d.by) == 0 {
					done = damaged
				}
				err = fmt.Errorf("%w: publish the file again, signed and with if-exists overwrite, or remove this", d.unclear)
			}
		case d.unclear != nil:
		case to.Public().Made(d.by[0]):
			done = already
		case from.Made(d.by[0]):
			for n := 1; ; n++ {
				done, err = resignFile(ctx, s, ring, to, d.name)
				if n == attempts || !errors.Is(err, mirror.ErrConflict) {
					break
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		return c.count(d.name, done, err)
	})
	slices.Sort(c.Stale)
	return c, err
}

// resignFile replaces the signature of a file. The error is a mirror.ErrConflict if either was replaced meanwhile.
func resignFile(ctx context.Context, s mirror.Store, ring *key.Ring, to *sign.Key, name string) (outcome, error) {
	signature, info, err := mirror.Read(ctx, s, name, same.MaxSignature)
	if err != nil {
		return other, err
	}
	file := strings.TrimSuffix(name, detached)
	open := func() (io.ReadCloser, error) {
		object, err := s.Open(ctx, file)
		if err != nil {
			return nil, err
		}
		return object.Body, nil
	}
	content, err := s.Open(ctx, file)
	if errors.Is(err, mirror.ErrNotExist) {
		return other, nil // the signature of nothing
	}
	if err != nil {
		return other, err
	}
	_, err = ring.VerifyDetached(content.Body, signature)
	_ = content.Body.Close()
	switch {
	case errors.Is(err, key.ErrUntrusted): // replaced meanwhile
		return other, nil
	case ctx.Err() != nil:
		return other, ctx.Err()
	case err != nil:
		for name, was := range map[string]mirror.Version{name: info.Version, file: content.Version} {
			if now, statErr := s.Stat(ctx, name); statErr != nil || now.Version != was {
				return other, cmp.Or(statErr, mirror.ErrConflict)
			}
		}
		return refused, fmt.Errorf("%w: if the file is being published, rotate again afterwards; otherwise publish it again, signed and with if-exists overwrite", err)
	}
	signed, err := to.Detached(ctx, open)
	if err != nil {
		return other, fmt.Errorf("%s: %w", name, err)
	}
	_, err = s.Swap(ctx, buildcache.NewObject(name, signed, "text/plain", layout.Release).Upload(), info.Version)
	return resigned, err
}

// madeBy reports of which signatures it is said that a key has made them. One that cannot be read may have made those that name its primary key.
func madeBy(f key.Fingerprint, public *key.Public) func(by key.Issuer) bool {
	if public == nil {
		return func(by key.Issuer) bool { return by.String() == string(f) }
	}
	return public.Made
}
