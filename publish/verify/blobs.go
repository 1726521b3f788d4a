package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// refer records that a document refers to a blob.
func (c *check) refer(owner string, b buildcache.Object, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.refs[b.Name]
	if r == nil {
		r = &ref{Object: b}
		c.refs[b.Name] = r
	}
	r.owners = append(r.owners, owner)
	r.done = r.done || done
}

// missing returns what is wrong with an object that should exist; empty if nothing is. It requests an object
// that was not listed, because another publisher may have stored it meanwhile.
func (c *check) missing(ctx context.Context, o buildcache.Object) string {
	size, ok := c.reader.size(o.Name)
	if info, listed := c.listed[o.Name]; listed {
		size, ok = info.Size, true
	}
	if !ok {
		info, err := c.reader.Stat(ctx, o.Name)
		switch {
		case err != nil && (errors.Is(err, mirror.ErrNotExist) || c.listed != nil && errors.Is(err, mirror.ErrDenied)):
			return o.Name + " is not there"
		case err != nil:
			return fmt.Sprintf("%s: %v", o.Name, err)
		}
		size = info.Size
	}
	if o.Size >= 0 && size != o.Size {
		return fmt.Sprintf("%s has %d bytes, want %d", o.Name, size, o.Size)
	}
	return ""
}

// checkBlobs counts the blobs without references and, for a deep check, hashes all blobs that were not hashed
// yet. A corrupt orphan is damage, too: a publisher of that blob would rely on it.
func (c *check) checkBlobs(ctx context.Context) error {
	var todo []*ref
	for _, r := range c.refs {
		if !r.done {
			todo = append(todo, r)
		}
	}
	for name, info := range c.listed {
		if !c.IsPayload(name) || c.refs[name] != nil {
			continue
		}
		c.result.Orphans++
		sum := name[strings.LastIndexByte(name, '/')+1:]
		d, err := blob.ParseDigest(sum)
		if want, ok := c.BlobName(d); err == nil && ok && want == name {
			todo = append(todo, &ref{Object: buildcache.Object{Name: name, Size: info.Size, Digest: d}})
		}
	}
	if !c.Deep {
		return nil
	}
	slices.SortFunc(todo, func(a, b *ref) int { return cmp.Compare(a.Name, b.Name) })
	c.checked(0, len(todo))
	return parallel.Each(ctx, verifyHashers, todo, func(ctx context.Context, r *ref) error {
		if err := c.hash(ctx, r.Object); err != nil {
			c.mend(wrong(r.Name, err), r.owners...)
			for _, owner := range r.owners {
				c.damage(owner, "%v", err)
			}
			if r.owners == nil {
				c.damage(r.Name, "nothing points at it yet, but %v", err)
			}
		}
		c.checked(1, 0)
		return context.Cause(ctx)
	})
}

// hash hashes an object without keeping it.
func (c *check) hash(ctx context.Context, o buildcache.Object) error {
	body, err := c.reader.Open(ctx, o.Name)
	if err != nil {
		return err
	}
	defer body.Body.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{body.Body}, make([]byte, verifyBuffer))
	if err != nil {
		return fmt.Errorf("read %s: %w", o.Name, err)
	}
	want := o.Size
	if want < 0 {
		want = n
	}
	if got := blob.Digest(h.Sum(nil)); got != o.Digest || n != want {
		return &blob.MismatchError{Name: o.Name, WantSize: want, GotSize: n, Want: o.Digest, Got: got}
	}
	return nil
}
