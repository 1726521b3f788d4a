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

// detached is the suffix of detached signatures. Plain files are published beside mirrors as FILE and FILE.asc.
const detached = ".asc"

// A detachedSignature is the signature file of a plain file.
type detachedSignature struct {
	name string // FILE.asc
	by   []key.Issuer
	// unclear is the reason why it is not a single armored signature, the only form that publish makes and checks.
	// gpg may accept it anyway.
	unclear error
}

// made reports whether a key made the signature, or may have made it because the signature does not name its key.
func (d detachedSignature) made(by func(key.Issuer) bool) bool {
	return slices.ContainsFunc(d.by, by) || d.unclear != nil && len(d.by) == 0
}

// signatures calls do for each detached signature below a place, several at a time.
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

// FilesBy returns, sorted, the plain files below a place whose detached signatures name a key, or do not name their
// key. public is that key, or nil if it cannot be read. A signature whose file is gone is ignored.
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

// RotateFiles checks the detached signatures that from has made of plain files below a place, and replaces them
// with signatures by to. It reads the contents of these files. A signature by from that is one of several, or that
// is not armored, is refused. A damaged signature causes a warning. The counts in the change are of files, and its
// fields about keys are not set.
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

// resignFile replaces the signature of a file. The error is a mirror.ErrConflict if the file or its signature was
// replaced meanwhile.
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
		return other, nil // its file is gone
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

// madeBy returns a function that reports whether a key is the issuer of a signature. If the key cannot be read, the
// function matches only its primary key.
func madeBy(f key.Fingerprint, public *key.Public) func(by key.Issuer) bool {
	if public == nil {
		return func(by key.Issuer) bool { return by.String() == string(f) }
	}
	return public.Made
}
