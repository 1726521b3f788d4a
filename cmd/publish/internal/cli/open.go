package cli

import (
	"context"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// OpenTarget opens a destination for a command that needs nothing else of it.
func OpenTarget(ctx context.Context, env Env, where string, c target.Config) (*target.Destination, error) {
	if err := c.Validate(); err != nil {
		return nil, Usage(err)
	}
	return target.Open(ctx, where, c, env.Target())
}

// OpenReaders opens what is to be read: a destination, or a URL as clients read it.
func OpenReaders(ctx context.Context, env Env, where string, c target.Config) (func(path string) mirror.Reader, func() error, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		t, err := c.Transport(ctx, env.Target())
		if err != nil {
			return nil, nil, err
		}
		w, err := web.Open(where, web.Options{Transport: t})
		if err != nil {
			return nil, nil, Fail(ExitUsage, err)
		}
		return func(string) mirror.Reader { return w }, func() error { w.Close(); return nil }, nil
	}
	d, err := OpenTarget(ctx, env, where, c)
	if err != nil {
		return nil, nil, err
	}
	return func(path string) mirror.Reader { return d.Mirror(path) }, d.Close, nil
}
