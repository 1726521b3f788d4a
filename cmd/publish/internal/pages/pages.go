// Package pages updates the web pages beside mirrors, for all front ends that publish.
package pages

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/catalog"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A Page is the result for the page of one mirror.
type Page struct {
	Mirror string `json:"mirror"` // its path below the destination; empty for the destination itself
	*catalog.Result
}

// String describes the result in one line.
func (p Page) String() string {
	what := "is up to date"
	if !p.Unchanged {
		what = english.Plural(p.Objects, "object", "") + " written, " + cli.Size(p.Bytes)
	}
	return fmt.Sprintf("%s%s: %s, %s", cli.Prefixed(p.Mirror), catalog.Page, english.Plural(p.Packages, "package", ""), what)
}

// Name is the name of the page of a mirror, below the destination.
func Name(mirror string) string { return path.Join(mirror, catalog.Page) }

// Of returns the mirrors whose page shows an index or a view that counts.
func Of(out *publish.Outcome, counts func(publish.Index) bool) []string {
	var paths []string
	for _, m := range out.Mirrors {
		counted := counts(m.Index) || slices.ContainsFunc(m.Views, func(v publish.View) bool { return counts(v.Index) })
		if counted && !slices.Contains(paths, m.Path) {
			paths = append(paths, m.Path)
		}
	}
	return paths
}

// Stale returns the names, below the destination, of objects whose content has changed.
func Stale(all []Page) []string {
	var names []string
	for _, p := range all {
		for _, name := range p.Stale {
			names = append(names, path.Join(p.Mirror, name))
		}
	}
	return names
}

// One updates the page of one mirror. publicURL is where clients find the destination; empty: unknown.
func One(ctx context.Context, d *target.Destination, publicURL, mirror string, o catalog.Options) (Page, error) {
	o.Now, o.URL = time.Now(), address(publicURL, mirror)
	r, err := catalog.Update(ctx, d.Mirror(mirror), o)
	return Page{mirror, r}, err
}

// address returns the URL of a mirror for clients, without its user and password: the page is public.
func address(publicURL, mirror string) string {
	u, err := url.Parse(publicURL)
	if err != nil || publicURL == "" {
		return ""
	}
	u.User = nil
	if mirror == "" {
		return u.String()
	}
	return strings.TrimSuffix(u.String(), "/") + "/" + mirror
}

// Tree updates the page at the top of a tree of mirrors.
func Tree(ctx context.Context, d *target.Destination, all []Page, o catalog.Options) (Page, error) {
	o.Now = time.Now()
	var branches []catalog.Branch
	for _, p := range all {
		branches = append(branches, branch(p))
	}
	r, err := retried(ctx, func() (*catalog.Result, error) { return catalog.UpdateTree(ctx, d.Mirror(""), branches, o) })
	return Page{"", r}, err
}

func branch(p Page) catalog.Branch {
	return catalog.Branch{Path: p.Mirror, Packages: p.Packages, Names: p.Names}
}

// retried repeats an update that conflicts with other publishers.
func retried(ctx context.Context, do func() (*catalog.Result, error)) (r *catalog.Result, err error) {
	for range 8 {
		if r, err = do(); !errors.Is(err, mirror.ErrConflict) || ctx.Err() != nil {
			break
		}
	}
	return r, err
}

// Published updates the pages of mirrors whose packages have been published. A failed update leaves a page
// unchanged, and does not affect the packages or other pages: the error is a catalog.ErrBehind.
func Published(ctx context.Context, d *target.Destination, publicURL string, mirrors []string, trusted *key.Ring) (all []Page, err error) {
	for _, m := range mirrors {
		p, failed := One(ctx, d, publicURL, m, catalog.Options{Trusted: trusted, Follow: true})
		if failed == nil {
			all = append(all, p)
			if p.Mirror != "" {
				var r *catalog.Result
				r, failed = retried(ctx, func() (*catalog.Result, error) {
					return catalog.UpdateBranch(ctx, d.Mirror(""), branch(p), catalog.Options{Now: time.Now()})
				})
				if r != nil && !r.Unchanged {
					all = append(all, Page{"", r})
				}
			}
		}
		switch {
		case failed == nil:
		case !errors.Is(failed, inventory.ErrNoIndex): // it has nothing to show
			err = errors.Join(err, fmt.Errorf("%w: %s%w", catalog.ErrBehind, cli.Prefixed(m), failed))
		}
	}
	return all, err
}
