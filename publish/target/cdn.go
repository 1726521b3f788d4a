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

// ErrNotInvalidated reports that everything is published, but caches may serve the earlier content.
var ErrNotInvalidated = errors.New("published, but not invalidated")

// ErrNotVisible reports that everything is published, but readers do not see it.
var ErrNotVisible = errors.New("published, but clients do not see it")

// A CDN is the CloudFront distribution and the public URL between a destination and its readers.
type CDN struct {
	config   CDNConfig
	client   *cloudfront.Client // nil without a distribution
	origin   mirror.Reader      // the destination
	prefix   string
	observer Observer

	transport http.RoundTripper // to the public URL
}

// An Observer receives the progress of a CDN update.
type Observer interface {
	// Invalidating and ReadingBack are called when each step begins.
	Invalidating()
	ReadingBack()
	// Note reports one event.
	Note(format string, args ...any)
	// Waiting is called repeatedly during a wait.
	Waiting(until string)
}

// nobody is the default observer. It does nothing.
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
				return nil, refused(field.Wrap("public-url", errors.New("it is no URL"))) // Validate has reported it
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

// Paths returns the paths to invalidate for names.
func (c *CDN) Paths(names []string) []string {
	if c.client == nil || len(names) == 0 {
		return nil
	}
	return append(cloudfront.Paths(c.prefix, names, c.config.MaxPaths), c.config.ExtraPaths...)
}

// invalidate invalidates names in the distribution. seen distinguishes this call from others if nothing has changed
// in the destination.
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

// HasDistribution reports whether the CDN has a distribution.
func (c *CDN) HasDistribution() bool { return c.client != nil }

// Try invalidates the path of an object with a token of its own, so that each call is a new invalidation.
func (c *CDN) Try(ctx context.Context, name, object string) (id string, err error) {
	is, err := c.client.Invalidate(ctx, name, cloudfront.Paths(c.prefix, []string{object}, 1))
	return is.ID, err
}

// Status returns the state of an invalidation.
func (c *CDN) Status(ctx context.Context, id string) (string, error) {
	is, err := c.client.Status(ctx, id)
	return is.Status, err
}

// state identifies the current state of names. It differs from earlier states with the same content, because an
// index that returns to the content of a minute ago must be invalidated again.
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

// looksAt is how many objects identify a state. If more have changed, documents were replaced by the hundred just
// now.
const looksAt = 16

// These are how long a new index may take to become visible, and how often that is checked.
const (
	visibleWithin = 2 * time.Minute
	lookEvery     = 2 * time.Second
	showEvery     = 15 * time.Second
)

// Changes are changes of indices: the names of which caches may hold an old version, and what readers should see.
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

// An Invalidation describes an invalidation that was or will be requested.
type Invalidation struct {
	Paths  []string `json:"paths"`
	ID     string   `json:"id,omitempty"`
	Status string   `json:"status,omitempty"`
}

// Update invalidates the stale names and waits until readers see the changes. Without stale names, an earlier run
// may have died before it invalidated, or an edge may have kept content read just before. Update then invalidates
// what readers do not see yet. It returns nil if it invalidated nothing.
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

// unseen returns the changes that clients do not see yet, and what they see instead of the first.
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

// readBack waits until clients see all changes.
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
