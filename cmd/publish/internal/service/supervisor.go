package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// A manager, such as systemd, is notified of the state of the service.
type manager interface {
	ready()
	reloading()
	stopping(longest time.Duration)
	// watch reports that the service is healthy, for as long as it is.
	watch(ctx context.Context, health func(context.Context) error) error
}

// A supervisor runs a daemon or an indexer, with its listeners, systemd and reloads.
type supervisor struct {
	server    *api.Server
	listeners []listener
	manager   manager
	grace     time.Duration // how long it may take to stop
	log       *slog.Logger

	run    func(context.Context) error
	health func(context.Context) error
	// beside runs until it has stopped. up runs meanwhile; when it returns, beside is stopped. load reloads the
	// configuration on SIGHUP, which hangups reports. Each may be nil.
	beside  func(context.Context) error
	up      func(context.Context) error
	load    func(context.Context) error
	hangups <-chan os.Signal
}

// serve serves clients until its work has stopped, so that waiting clients receive the result.
func (o *supervisor) serve(ctx context.Context) error {
	work, stopWork := context.WithCancel(ctx)
	defer stopWork()
	answers, stopAnswers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAnswers()
	g, gctx := defect.WithContext(answers)
	for _, l := range o.listeners {
		h := o.server.ReadOnly()
		if l.everything {
			h = o.server.Full()
		}
		g.Go(func() error { return api.Serve(gctx, l, h) })
		g.Go(func() error { return o.keepSocket(gctx, g, l, h) })
	}
	g.Go(func() error { return o.manager.watch(gctx, o.health) })
	g.Go(func() error { return o.onHangup(gctx) })
	if o.beside != nil {
		g.Go(func() error { return o.beside(gctx) })
	}
	if o.up != nil {
		g.Go(func() error {
			defer stopWork()
			return o.up(work)
		})
	}
	context.AfterFunc(work, func() { o.manager.stopping(o.grace) })
	context.AfterFunc(gctx, stopWork) // a listener has failed
	o.manager.ready()
	err := o.run(work)
	stopAnswers()
	if other := g.Wait(); err == nil && !errors.Is(other, context.Canceled) {
		err = other
	}
	return err
}

// onHangup reloads the configuration on SIGHUP. An invalid configuration changes nothing.
func (o *supervisor) onHangup(ctx context.Context) error {
	if o.load == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-o.hangups:
		}
		o.manager.reloading()
		if err := o.load(ctx); err != nil && ctx.Err() == nil {
			o.log.Error("the configuration was not loaded, the old one stays in use", "reason", err.Error())
		}
		o.manager.ready()
	}
}
