package main

import (
	"context"
	"log/slog"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// identify gets credentials before anything is read or written, so that a role that
// cannot be assumed fails the step at once. They stay within this process.
func (a *action) identify(ctx context.Context, log *slog.Logger) error {
	in := a.in
	o := session.Options{Region: in.flags.storage.s3.Region, Concurrency: in.flags.storage.s3.Concurrency}
	if in.credentials == oidcCredentials {
		in.role.Log = log
		o.Role = &in.role
	}
	cfg, err := session.Config(ctx, o)
	if err != nil {
		return fail(exitUsage, err)
	}
	is, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return fail(exitCredentials, err)
	}
	in.flags.storage.aws = &cfg
	if o.Role == nil {
		a.runner.Say("credentials of the environment (%s)", is.Source)
		if is.SessionToken != "" && a.env.getenv("AWS_SESSION_TOKEN") != "" {
			a.witness.warn("credentials that end", "those in AWS_SESSION_TOKEN cannot be renewed: when they end, an upload that is still going on fails. With role-to-assume they are")
		}
		return nil
	}
	a.witness.is = identity{role: in.role.Name(), account: is.AccountID, until: is.Expires}
	a.runner.Say("role %s in account %s, until %s; renewed for as long as it takes", in.role.Name(), is.AccountID, is.Expires.UTC().Format("15:04:05 MST"))
	return nil
}
