package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// Defaults of an indexer: how long it collects events of a mirror before it updates the index, and after what
// time another host takes over the work of a dead host.
const (
	indexerSettle   = 3 * time.Second
	indexerTakeover = 2 * time.Minute
)

// indexerGrace is how long an indexer may take to return its messages.
const indexerGrace = 10 * time.Second

// indexing returns the indexer that a configuration with mode: indexer describes.
func (c *Config) indexing(log *slog.Logger) Indexer {
	m := &c.Mirrors[0]
	return Indexer{
		Target: m.Target(), RequireSigned: m.RequireSigned, TrustedKeys: userfile.One(string(m.TrustedKeys)), Catalog: m.Catalog, Destination: m.Destination, Queue: c.Queue, Settle: m.Settle.or(indexerSettle), Takeover: indexerTakeover,
		stalled: c.StalledAfter.or(defaultStalled), log: log, config: c,
	}
}

func (c *Config) checkIndexer(say func(path, format string, args ...any)) {
	if len(c.Mirrors) != 1 {
		say("$.mirrors", "mirrors: an indexer has one mirror, whose destination contains all mirrors that it serves")
		return
	}
	err := c.indexing(nil).check()
	if err == nil {
		return
	}
	for _, one := range field.Each(err) {
		var wrong *field.Error
		switch {
		case !errors.As(one, &wrong):
			say("$.mirrors[0]", "%s", one)
		case wrong.Name == "queue":
			say("$.queue", "%s", wrong.Under("queue"))
		default:
			say("$.mirrors[0]."+keyOf(wrong.Name), "%s", wrong.Under(keyOf(wrong.Name)))
		}
	}
}

// runIndexerMode serves the queue until ctx ends.
func runIndexerMode(ctx context.Context, c *Config, version string, log *slog.Logger, file string, hangups <-chan os.Signal) error {
	i := c.indexing(log)
	i.version = version
	i.healed = func(h healedMirror) {
		log.Info("indexed", "mirror", h.Mirror, "names", h.Names, "left", len(h.Left), "seconds", h.Seconds)
	}
	i.hangups = hangups
	i.load = func(context.Context) error {
		if _, err := ReadConfig(file); err != nil {
			return err
		}
		log.Warn("the configuration is valid, but an indexer reads it only when it starts")
		return nil
	}
	log.Info("the indexer begins", "version", version, "queue", i.Queue, "destination", i.Destination)
	err := i.serve(ctx)
	log.Info("the indexer has stopped")
	return err
}

// attend runs the host until ctx ends, with its listeners.
func (i Indexer) attend(ctx context.Context, host *events.Host, metrics *api.Metrics) error {
	allow, err := allowed(i.config)
	if err != nil {
		return err
	}
	listeners, err := listenersOf(i.config)
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	o := supervisor{
		server:    &api.Server{Indexer: host, Metrics: metrics, Allow: allow, Version: i.version, Log: i.log, Explain: explain},
		listeners: listeners, manager: systemd{i.log}, grace: indexerGrace, log: i.log,
		run: host.Run, health: func(context.Context) error { return host.Health() }, load: i.load, hangups: i.hangups,
	}
	return o.serve(ctx)
}
