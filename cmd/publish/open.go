package main

import (
	"context"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// openTarget opens a destination for a command that needs nothing else of it.
func openTarget(ctx context.Context, env cli.Env, where string, c target.Config) (*target.Destination, error) {
	if err := c.Validate(); err != nil {
		return nil, cli.Usage(err)
	}
	return target.Open(ctx, where, c, target.Environment{Log: env.Log()})
}

// openReaders opens what is to be read: a destination, or a URL as clients read it.
func openReaders(ctx context.Context, env cli.Env, where string, c target.Config) (func(path string) mirror.Reader, func() error, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		t, err := c.Transport(ctx, target.Environment{Log: env.Log()})
		if err != nil {
			return nil, nil, err
		}
		w, err := web.Open(where, web.Options{Transport: t})
		if err != nil {
			return nil, nil, cli.Fail(cli.ExitUsage, err)
		}
		return func(string) mirror.Reader { return w }, func() error { w.Close(); return nil }, nil
	}
	d, err := openTarget(ctx, env, where, c)
	if err != nil {
		return nil, nil, err
	}
	return func(path string) mirror.Reader { return d.Mirror(path) }, d.Close, nil
}
