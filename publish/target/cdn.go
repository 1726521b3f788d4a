package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
)

// ErrNotInvalidated: everything is published, but caches may serve what was there before.
var ErrNotInvalidated = errors.New("published, but not invalidated")

// ErrNotVisible: everything is published, but readers do not see it.
var ErrNotVisible = errors.New("published, but clients do not see it")

// A CDN is what stands between a destination and its readers.
type CDN struct {
	config   CDNConfig
	client   *cloudfront.Client // nil: no distribution
	origin   mirror.Reader      // the destination
	prefix   string
	observer Observer

	transport http.RoundTripper // to the public URL
}

// An Observer follows what is done to a CDN.
type Observer interface {
	// Invalidating and ReadingBack are called when each begins.
	Invalidating()
	ReadingBack()
	// Note reports one event.
	Note(format string, args ...any)
	// Waiting is called now and then while something is waited for.
	Waiting(until string)
}

// nobody is the observer where none is given.
type nobody struct{}

func (nobody) Invalidating()       {}
func (nobody) ReadingBack()        {}
func (nobody) Note(string, ...any) {}
func (nobody) Waiting(string)      {}

// OpenCDN returns the CDN of a destination. observer may be nil.
func (d *Destination) OpenCDN(ctx context.Context, observer Observer) (*CDN, error) {
	f := d.config.CDN
	c := &CDN{config: f, origin: d.Mirror(""), prefix: f.PathPrefix, observer: observer}
	if observer == nil {
		c.observer = nobody{}
	}
	if err := f.validate(); err != nil {
		return nil, refused(err)
	}
	if c.prefix == "" {
		c.prefix = d.Prefix
		if f.PublicURL != "" {
			u, err := url.Parse(f.PublicURL)
			if err != nil {
				return nil, refused(field.Wrap("public-url", errors.New("it is no URL"))) // which validate has said
			}
			c.prefix = strings.TrimSuffix(u.Path, "/")
		}
	}
	if f.PublicURL != "" {
		t, err := d.Transport(ctx)
		if err != nil {
			return nil, err
		}
		c.transport = t
	}
	if f.Distribution == "" {
		return c, nil
	}
	cfg, err := d.AWSConfig(ctx)
	if err != nil {
		return nil, err
	}
	if c.client, err = cloudfront.New(cfg, f.Distribution, cloudfront.Options{Log: d.env.Log, Patience: f.Patience, Answered: d.env.Answered}); err != nil {
		return nil, refused(err)
	}
	return c, nil
}

// Paths returns what is to be invalidated for names.
func (c *CDN) Paths(names []string) []string {
	if c.client == nil || len(names) == 0 {
		return nil
	}
	return append(cloudfront.Paths(c.prefix, names, c.config.MaxPaths), c.config.ExtraPaths...)
}

// invalidate makes the distribution forget names. seen tells this time from another if nothing has changed in the
// destination.
func (c *CDN) invalidate(ctx context.Context, seen string, names []string) (*Invalidation, error) {
	paths := c.Paths(names)
	if len(paths) == 0 {
		return nil, nil
	}
	done := &Invalidation{Paths: paths}
	c.observer.Invalidating()
	state, err := c.state(ctx, names)
	if err == nil {
		var is cloudfront.Invalidation
		is, err = c.client.Invalidate(ctx, state+seen, paths)
		done.ID, done.Status = is.ID, is.Status
	}
	if err == nil && c.config.Wait {
		c.observer.Waiting("CloudFront has completed the invalidation " + done.ID)
		if err = c.client.Wait(ctx, done.ID); err == nil {
			done.Status = cloudfront.Completed
		}
	}
	if err != nil {
		return done, fmt.Errorf("%w: %w", ErrNotInvalidated, err)
	}
	for _, p := range paths {
		c.observer.Note("invalidated %s", p)
	}
	c.observer.Note("invalidation %s: %s", done.ID, done.Status)
	return done, nil
}

// HasDistribution reports whether there is a distribution in which to invalidate.
func (c *CDN) HasDistribution() bool { return c.client != nil }

// Try invalidates the path of an object under a name of its own, so that it happens once more for the same object.
func (c *CDN) Try(ctx context.Context, name, object string) (id string, err error) {
	is, err := c.client.Invalidate(ctx, name, cloudfront.Paths(c.prefix, []string{object}, 1))
	return is.ID, err
}

// Status returns the state of an invalidation.
func (c *CDN) Status(ctx context.Context, id string) (string, error) {
	is, err := c.client.Status(ctx, id)
	return is.Status, err
}

// state tells names as they are from what they were at any other time, also if they had the
// same content: an index that becomes what it was a minute ago must be forgotten once
// more.
func (c *CDN) state(ctx context.Context, names []string) (string, error) {
	state := strings.Join(names, "\n") + "\n"
	for _, name := range names[:min(len(names), looksAt)] {
		info, err := c.origin.Stat(ctx, name)
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			return "", fmt.Errorf("look at %s: %w", name, err)
		}
		state += fmt.Sprintln(info.Version, info.Modified.UnixNano())
	}
	return state, nil
}

// looksAt is how many objects tell a state. Where more have changed, documents were replaced
// by the hundred, and each of them just now.
const looksAt = 16

// How long a new index may take to become visible, and how often we look.
const (
	visibleWithin = 2 * time.Minute
	lookEvery     = 2 * time.Second
	showEvery     = 15 * time.Second
)

// Changes are those of indices: the names of which caches may hold an old version, and what readers are to see.
type Changes struct {
	Stale []string // below the destination
	Shown []reindex.Expectation
}

// Add adds an index, and the names in its mirror of which caches may hold an old version.
func (c *Changes) Add(s reindex.Expectation, stale []string) {
	c.Shown = append(c.Shown, s)
	c.AddStale(s.Path, stale)
}

// AddStale adds names in the mirror at a path of which caches may hold an old version.
func (c *Changes) AddStale(mirror string, names []string) {
	for _, name := range names {
		c.Stale = append(c.Stale, path.Join(mirror, name))
	}
}

// An Invalidation is what was invalidated, or is to be.
type Invalidation struct {
	Paths  []string `json:"paths"`
	ID     string   `json:"id,omitempty"`
	Status string   `json:"status,omitempty"`
}

// Update invalidates what is stale, and waits until readers see all that is shown. If nothing is stale, a run
// before this one may have died before it invalidated, or an edge may have kept what it read just before; then
// what readers do not see yet is invalidated. It returns nil if nothing was.
func (c *CDN) Update(ctx context.Context, changes Changes) (*Invalidation, error) {
	names := changes.Stale
	var seen string
	if len(names) == 0 && c.config.PublicURL != "" {
		behind, _, err := c.unseen(ctx, changes.Shown)
		if err != nil {
			return nil, err
		}
		for _, s := range behind {
			seen = time.Now().UTC().Format("2006-01-02T15:04")
			names = append(names, s.Pointers()...)
		}
	}
	is, err := c.invalidate(ctx, seen, names)
	if err == nil {
		err = c.readBack(ctx, changes.Shown)
	}
	return is, err
}

// unseen returns what clients do not see yet, and what they see instead of the first.
func (c *CDN) unseen(ctx context.Context, all []reindex.Expectation) (behind []reindex.Expectation, why string, err error) {
	for _, s := range all {
		u, err := url.JoinPath(c.config.PublicURL, s.Path)
		if err != nil {
			return nil, "", refused(field.Wrap("public-url", err))
		}
		w, err := web.Open(u, web.Options{Transport: c.transport})
		if err != nil {
			return nil, "", refused(field.Wrap("public-url", err))
		}
		reason, err := s.Unmet(ctx, w)
		w.Close()
		if err != nil {
			return nil, "", fmt.Errorf("%w: read back %s: %w", ErrNotVisible, redact.URL(u), err)
		}
		if reason != "" {
			if behind == nil {
				why = redact.URL(u) + ": " + reason
			}
			behind = append(behind, s)
		}
	}
	return behind, why, nil
}

// readBack waits until clients see all that is shown.
func (c *CDN) readBack(ctx context.Context, all []reindex.Expectation) error {
	if c.config.PublicURL == "" || c.config.NoReadBack {
		return nil
	}
	c.observer.ReadingBack()
	began, shown := time.Now(), time.Time{}
	for {
		behind, why, err := c.unseen(ctx, all)
		if err == nil && len(behind) == 0 {
			c.observer.Note("clients see what was published at %s", redact.URL(c.config.PublicURL))
		}
		if err != nil || len(behind) == 0 {
			return err
		}
		if time.Since(began) > visibleWithin {
			return fmt.Errorf("%w: after %s, at %s", ErrNotVisible, visibleWithin, why)
		}
		if time.Since(shown) > showEvery {
			shown = time.Now()
			c.observer.Waiting(fmt.Sprintf("clients see it, for %s of at most %s: %s", time.Since(began).Round(time.Second), visibleWithin, why))
		}
		all = behind
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}
