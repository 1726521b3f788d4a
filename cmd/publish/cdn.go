package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

// cdnFlags say what stands between the bucket and its readers.
type cdnFlags struct {
	distribution string
	pathPrefix   string
	maxPaths     int
	wait         bool
	publicURL    string

	blind    bool          // nothing is read back
	extra    []string      // paths to be invalidated when anything is
	patience time.Duration // with CloudFront; 0: its own
	answered func()        // is told of its answers; it may be nil
}

func (f *cdnFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.distribution, "distribution-id", "", "CloudFront distribution in which to invalidate what has changed, such as E2QWRUHAPOMQZL")
	fs.StringVar(&f.pathPrefix, "cloudfront-path-prefix", "", "path of DESTINATION below the distribution's root, such as /noble/spack; default: that of --public-url, or the prefix of DESTINATION")
	fs.IntVar(&f.maxPaths, "max-invalidation-paths", 100, "with more changed paths than this, one wildcard is invalidated")
	fs.BoolVar(&f.wait, "wait-for-invalidation", false, "wait until the invalidation is complete")
	fs.StringVar(&f.publicURL, "public-url", "", "`URL` at which clients find DESTINATION: the new index is read back through it")
}

// check finds what is wrong before anything is published.
func (f *cdnFlags) check() error {
	if f.publicURL == "" {
		return nil
	}
	if err := isPublicURL(f.publicURL); err != nil {
		return fmt.Errorf("--public-url: %w", err)
	}
	return nil
}

// shownURL is the public URL as it is shown.
func (f *cdnFlags) shownURL() string { return redact.URL(f.publicURL) }

// A cdn is what the flags come to.
type cdn struct {
	flags  *cdnFlags
	client *cloudfront.Client // nil: no distribution
	origin mirror.Reader      // DESTINATION
	prefix string
	log    *slog.Logger

	transport http.RoundTripper // to the public URL

	observer cli.Observer
}

func (f *cdnFlags) open(ctx context.Context, d *destination, log *slog.Logger) (*cdn, error) {
	c := &cdn{flags: f, origin: d.mirror(""), prefix: f.pathPrefix, log: log, observer: cli.Screen{}}
	if err := f.check(); err != nil {
		return nil, cli.Fail(cli.ExitUsage, err)
	}
	if c.prefix == "" {
		c.prefix = d.prefix
		if f.publicURL != "" {
			u, err := url.Parse(f.publicURL)
			if err != nil {
				return nil, cli.Fail(cli.ExitUsage, errors.New("--public-url is no URL")) // which check has said
			}
			c.prefix = strings.TrimSuffix(u.Path, "/")
		}
	}
	if f.publicURL != "" {
		t, err := d.transport(ctx)
		if err != nil {
			return nil, err
		}
		c.transport = t
	}
	if f.distribution == "" {
		return c, nil
	}
	cfg, err := d.config(ctx)
	if err != nil {
		return nil, err
	}
	if c.client, err = cloudfront.New(cfg, f.distribution, cloudfront.Options{Log: log, Patience: f.patience, Answered: f.answered}); err != nil {
		return nil, cli.Fail(cli.ExitUsage, err)
	}
	return c, nil
}

// paths are what is to be invalidated for names.
func (c *cdn) paths(names []string) []string {
	if c.client == nil || len(names) == 0 {
		return nil
	}
	return append(cloudfront.Paths(c.prefix, names, c.flags.maxPaths), c.flags.extra...)
}

// forget makes the distribution forget names. seen is what tells this time from another,
// if nothing has changed in the destination.
func (c *cdn) forget(ctx context.Context, seen string, names []string) (cloudfront.Invalidation, error) {
	paths := c.paths(names)
	if len(paths) == 0 {
		return cloudfront.Invalidation{}, nil
	}
	c.observer.Begin(cli.PartCDN)
	var is cloudfront.Invalidation
	state, err := c.state(ctx, names)
	if err == nil {
		is, err = c.client.Invalidate(ctx, state+seen, paths)
	}
	if err == nil && c.flags.wait {
		err = c.client.Wait(ctx, is.ID)
		if err == nil {
			is.Status = cloudfront.Completed
		}
	}
	if err != nil {
		return is, cli.Fail(cli.ExitInvalidation, fmt.Errorf("published, but not invalidated: %w", err))
	}
	for _, p := range paths {
		c.observer.Note("invalidated %s", p)
	}
	c.observer.Note("invalidation %s: %s", is.ID, is.Status)
	return is, nil
}

// state tells names as they are from what they were at any other time, also if they had the
// same content: an index that becomes what it was a minute ago must be forgotten once
// more.
func (c *cdn) state(ctx context.Context, names []string) (string, error) {
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
)

// news are of indices: what caches may have of before, and what clients are to see.
type news struct {
	stale []string // below DESTINATION
	shown []publish.Shown
}

// add adds an index, and the names in its mirror of which caches may have what was there before.
func (n *news) add(s publish.Shown, stale []string) {
	n.shown = append(n.shown, s)
	for _, name := range stale {
		n.stale = append(n.stale, path.Join(s.Path, name))
	}
}

// tell makes the distribution forget names, and waits until clients see all that is shown.
// If there is nothing to forget, a run before us may have died before it told, or an edge
// may have kept what it read just before; then this minute is the time.
func (c *cdn) tell(ctx context.Context, names []string, all []publish.Shown) (*cli.InvalidationReport, error) {
	var seen string
	if len(names) == 0 && c.flags.publicURL != "" {
		behind, _, err := c.unseen(ctx, all)
		if err != nil {
			return nil, err
		}
		for _, s := range behind {
			seen = time.Now().UTC().Format("2006-01-02T15:04")
			names = append(names, s.Pointers...)
		}
	}
	is, err := c.forget(ctx, seen, names)
	var told *cli.InvalidationReport
	if paths := c.paths(names); len(paths) > 0 {
		told = &cli.InvalidationReport{Paths: paths, ID: is.ID, Status: is.Status}
	}
	if err == nil {
		err = c.readBack(ctx, all)
	}
	return told, err
}

// unseen returns what clients do not see yet, and what they see instead of the first.
func (c *cdn) unseen(ctx context.Context, all []publish.Shown) (behind []publish.Shown, why string, err error) {
	for _, s := range all {
		u, err := url.JoinPath(c.flags.publicURL, s.Path)
		if err != nil {
			return nil, "", cli.Fail(cli.ExitUsage, fmt.Errorf("--public-url: %w", err))
		}
		w, err := web.Open(u, web.Options{Transport: c.transport})
		if err != nil {
			return nil, "", cli.Fail(cli.ExitUsage, fmt.Errorf("--public-url: %w", err))
		}
		reason, err := s.Unseen(ctx, w)
		w.Close()
		if err != nil {
			return nil, "", cli.Fail(cli.ExitVerification, fmt.Errorf("%w: read back %s: %w", cli.ErrNotVisible, redact.URL(u), err))
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
func (c *cdn) readBack(ctx context.Context, all []publish.Shown) error {
	if c.flags.publicURL == "" || c.flags.blind {
		return nil
	}
	c.observer.Begin(cli.PartVerify)
	for deadline := time.Now().Add(visibleWithin); ; {
		behind, why, err := c.unseen(ctx, all)
		if err == nil && len(behind) == 0 {
			c.observer.Note("clients see what was published at %s", c.flags.shownURL())
		}
		if err != nil || len(behind) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return cli.Fail(cli.ExitVerification, fmt.Errorf("%w: after %s, at %s", cli.ErrNotVisible, visibleWithin, why))
		}
		all = behind
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}
