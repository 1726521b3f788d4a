package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A probe reads a mirror, and stops everything if the storage is broken rather than the mirror.
type probe struct {
	reader    mirror.Reader
	stop      context.CancelCauseFunc
	documents *semaphore.Weighted

	mu         sync.Mutex       // guards the fields below
	seen       map[string]int64 // sizes of requested objects; nil if everything is listed
	unreadable int
}

// Open implements mirror.Reader.
func (p *probe) Open(ctx context.Context, name string) (*mirror.Object, error) {
	if err := nameable(name); err != nil {
		return nil, err
	}
	o, err := p.reader.Open(ctx, name)
	if err != nil {
		return nil, p.failed(ctx, err)
	}
	if holdsIndex(name) {
		if err := p.sizable(name, o.Size); err != nil {
			o.Body.Close()
			return nil, err
		}
	}
	p.saw(o.Info)
	o.Body = &probedBody{o.Body, func(err error) error { return p.failed(ctx, err) }}
	return o, nil
}

// Stat implements mirror.Reader.
func (p *probe) Stat(ctx context.Context, name string) (mirror.Info, error) {
	if err := nameable(name); err != nil {
		return mirror.Info{}, err
	}
	info, err := p.reader.Stat(ctx, name)
	if err != nil {
		return info, p.failed(ctx, err)
	}
	info.Name = name
	p.saw(info)
	return info, nil
}

// holdsIndex reports whether the object at a fixed name is the index itself, and not a pointer to it.
func holdsIndex(name string) bool {
	return slices.ContainsFunc(buildcache.Layouts(), func(f buildcache.Layout) bool {
		return !f.NamesContent() && f.IndexNames()[0] == name
	})
}

// nameable returns an error for invalid names from a damaged or hostile index.
func nameable(name string) error {
	if !fs.ValidPath(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q: no object can have that name: %w", name, mirror.ErrNotExist)
	}
	return nil
}

func (p *probe) saw(info mirror.Info) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen != nil {
		p.seen[info.Name] = info.Size
	}
}

func (p *probe) size(name string) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size, ok := p.seen[name]
	return size, ok
}

// failing reports whether any object was unreadable for another reason than being absent.
func (p *probe) failing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unreadable > 0
}

func (p *probe) failed(ctx context.Context, err error) error {
	var region *mirror.RegionError
	var untrusted *mirror.CertificateError
	switch {
	case ctx.Err() != nil || p.absent(err):
	case errors.Is(err, mirror.ErrCredentials), errors.Is(err, mirror.ErrNoBucket), errors.Is(err, mirror.ErrFault),
		errors.As(err, &region), errors.As(err, &untrusted):
		p.stop(err)
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.unreadable++; p.unreadable >= maxUnreadable {
			p.stop(fmt.Errorf("%d objects cannot be read, the last: %w", p.unreadable, err))
		}
	}
	return err
}

// absent reports whether err means that an object does not exist. Without the permission to list, S3 denies
// access to an absent object.
func (p *probe) absent(err error) bool {
	return errors.Is(err, mirror.ErrNotExist) || p.seen != nil && errors.Is(err, mirror.ErrDenied)
}
