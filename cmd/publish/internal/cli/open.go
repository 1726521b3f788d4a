package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
)

// OpenTarget opens a destination for a command that does not need the CDN.
func OpenTarget(ctx context.Context, env Env, where string, c target.Config) (*target.Destination, error) {
	if err := errors.Join(CheckPlace(where), c.ValidateAt(where)); err != nil {
		return nil, Usage(err)
	}
	d, err := target.Open(ctx, where, c, env.Target())
	if err == nil && env.Shows().Verbose {
		escape.Fprintf(env.Stderr, "%s\n", redact.URL(target.Canonical(where)))
		if who := d.Identity(ctx); who != nil {
			escape.Fprintf(env.Stderr, "%s\n", who)
		}
	}
	return d, err
}

// waiting prints what a command waits for after a change.
type waiting struct{ out io.Writer }

func (waiting) Invalidating()          {}
func (waiting) ReadingBack()           {}
func (waiting) Note(string, ...any)    {}
func (w waiting) Waiting(until string) { escape.Fprintf(w.out, "waiting until %s\n", until) }

// OpenServed opens a destination and the CDN in front of it, for a command that changes what clients read.
func OpenServed(ctx context.Context, env Env, where string, c target.Config) (*target.Destination, *target.CDN, error) {
	d, err := OpenTarget(ctx, env, where, c)
	if err != nil {
		return nil, nil, err
	}
	var observer target.Observer
	if !env.Shows().Quiet {
		observer = waiting{env.Stderr}
	}
	cdn, err := d.OpenCDN(ctx, observer)
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, cdn, nil
}

// OpenReaders opens a place for reading: a destination, or a URL as clients read it.
func OpenReaders(ctx context.Context, env Env, where string, c target.Config) (func(path string) mirror.Reader, func() error, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		t, err := c.Transport(ctx, env.Target())
		if err != nil {
			return nil, nil, err
		}
		w, err := web.Open(where, web.Options{Transport: t, Concurrency: c.S3.Concurrency})
		if err != nil {
			return nil, nil, Fail(ExitUsage, err)
		}
		return func(string) mirror.Reader { return w }, func() error { w.Close(); return nil }, nil
	}
	d, err := OpenTarget(ctx, env, where, c)
	if err != nil {
		return nil, nil, err
	}
	if err := absent(where); err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return func(path string) mirror.Reader { return d.Mirror(path) }, d.Close, nil
}

// OfferedBy returns the packages that mirrors offer; nil for no mirrors. They are reached as c says, without
// its region.
func OfferedBy(ctx context.Context, upstream []string, c target.Config, env target.Environment) (map[spec.Hash]bool, error) {
	if len(upstream) == 0 {
		return nil, nil
	}
	c.S3.Region = ""
	all := make(map[spec.Hash]bool)
	for _, where := range upstream {
		r, done, err := target.OpenReader(ctx, where, c, env)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", redact.URL(where), err)
		}
		offered, err := elsewhere.Offered(ctx, r)
		_ = done()
		if errors.Is(err, source.ErrNothing) {
			err = Fail(ExitUsage, errors.New(strings.TrimPrefix(err.Error(), source.ErrNothing.Error()+": ")))
		}
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", redact.URL(where), err)
		}
		maps.Copy(all, offered)
	}
	return all, nil
}
