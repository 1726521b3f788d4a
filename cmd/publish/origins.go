package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A selecting says which mirrors are read, and which of their packages.
type selecting struct {
	others []string // mirrors besides the first
	view   string   // view of the mirrors that must offer the packages
	builds bool
}

func (s *selecting) register(fs *pflag.FlagSet, verb string) {
	fs.StringArrayVar(&s.others, "from", nil, "take packages that FROM does not offer from the mirror at this `URL`; repeatable")
	fs.StringVar(&s.view, "view", "", verb+" only packages that the view `NAME` of FROM offers")
	fs.BoolVar(&s.builds, "with-build-deps", false, verb+" build dependencies too, as far as FROM offers them")
}

// check returns an error if view cannot be the name of a view.
func (s *selecting) check() error {
	if s.view == "" {
		return nil
	}
	return field.Wrap("view", layout.CheckView(s.view))
}

// open opens the mirrors. All are reached like the first one, except for the region. called names their settings.
func (s *selecting) open(ctx context.Context, env cli.Env, from string, c target.Config, called field.Place) (*origins, error) {
	all := new(origins)
	for i, where := range append([]string{from}, s.others...) {
		o := called
		o.Name = "FROM"
		if i > 0 {
			o.Name = "--from " + redact.URL(where)
			c.S3.Region = ""
		}
		if strings.HasPrefix(where, "http") {
			o.Settings, o.Own = map[string]string{"endpoint-url": o.Name}, false
		}
		if err := c.Validate(); err != nil {
			return nil, errors.Join(cli.Fail(cli.ExitUsage, cli.FailedAt(o, err)), all.close())
		}
		at, done, err := cli.OpenReaders(ctx, env, where, c)
		if err != nil {
			return nil, errors.Join(cli.FailedAt(o, err), all.close())
		}
		r := at("")
		all.add(r, o, done)
		if s, ok := r.(interface{ Endpoint() (url, region string) }); ok {
			all.endpoint, _ = s.Endpoint()
		}
	}
	return all, nil
}

// origins are the open mirrors that packages are read from.
type origins struct {
	readers []mirror.Reader
	named   []field.Place
	done    []func() error
	// endpoint is the URL of the S3 service of the buckets, because two services may have a bucket of one name;
	// empty: Amazon's, or no bucket.
	endpoint string
}

func (o *origins) add(r mirror.Reader, named field.Place, done func() error) {
	o.readers, o.named, o.done = append(o.readers, r), append(o.named, named), append(o.done, done)
}

func (o *origins) close() error {
	var errs []error
	for _, done := range o.done {
		errs = append(errs, done())
	}
	return errors.Join(errs...)
}

// blamed adds to an error about one of the mirrors which mirror it is.
func (o *origins) blamed(err error) error {
	if failed, ok := errors.AsType[*transfer.ReadError](err); ok {
		if i := slices.Index(o.readers, failed.From); i >= 0 {
			return cli.FailedAt(o.named[i], err)
		}
	}
	return err
}

// source opens the wanted packages of the mirrors. A missing view is an error of usage.
func (o *origins) source(ctx context.Context, to mirror.Store, want elsewhere.Closure) (*source.Source, error) {
	src, err := elsewhere.Open(ctx, o.readers, to, want)
	switch {
	case errors.Is(err, elsewhere.ErrNoView):
		return nil, cli.Fail(cli.ExitUsage, cli.FailedAt(o.named[0], fmt.Errorf("%w: `publish view list` lists those that there are", err)))
	case errors.Is(err, elsewhere.ErrNoIndex):
		return nil, cli.FailedAt(o.named[0], err)
	}
	return src, err
}
