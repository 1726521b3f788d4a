package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
)

// What an indexer waits for, by default, so that what comes together is indexed together; and
// after what time another host takes over what a dead one had begun.
const (
	indexerSettle   = 3 * time.Second
	indexerTakeover = 2 * time.Minute
)

// indexerGoodbye is how long an indexer may take to give back what it has in hand.
const indexerGoodbye = 10 * time.Second

// indexing is what a configuration with mode: indexer asks for.
func (c *daemonConfig) indexing(log *slog.Logger) indexing {
	m := &c.Mirrors[0]
	return indexing{
		flags: m.flags(), where: m.Destination, queue: c.Queue, settle: m.Settle.or(indexerSettle), takeover: indexerTakeover,
		stalled: c.StalledAfter.or(defaultStalled), log: log, config: c,
	}
}

func (c *daemonConfig) checkIndexer(say func(path, format string, args ...any)) {
	if len(c.Mirrors) != 1 {
		say("$.mirrors", "mirrors: an indexer has one, whose destination holds all that it serves")
		return
	}
	err := c.indexing(nil).check()
	if err == nil {
		return
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		path := "$." + keyIn(line)
		if !strings.Contains(line, "--queue") {
			path = "$.mirrors[0]." + keyIn(line)
		}
		say(path, "%s", flagWord.ReplaceAllStringFunc(line, keyOf))
	}
}

// runIndexerMode serves the queue until ctx ends.
func runIndexerMode(ctx context.Context, c *daemonConfig, log *slog.Logger, file string) error {
	i := c.indexing(log)
	i.healed = func(h healedMirror) {
		log.Info("indexed", "mirror", h.Mirror, "names", h.Names, "left", len(h.Left), "seconds", h.Seconds)
	}
	i.load = func(context.Context) error {
		if _, err := readDaemonConfig(file); err != nil {
			return err
		}
		log.Warn("the configuration is right, but an indexer takes a new one only when it starts")
		return nil
	}
	log.Info("the indexer begins", "version", version, "queue", i.queue, "destination", i.where)
	err := i.serve(ctx)
	log.Info("the indexer has stopped")
	return err
}

// attend lets the host serve the queue until ctx ends, and answers for it.
func (i indexing) attend(ctx context.Context, host *events.Host, metrics *api.Metrics) error {
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
		return fail(exitUsage, err)
	}
	o := office{
		server:    &api.Server{Indexer: host, Metrics: metrics, Allow: allow, Version: version, Log: i.log},
		listeners: listeners, manager: systemd{i.log}, grace: indexerGoodbye, log: i.log,
		run: host.Run, health: func(context.Context) error { return host.Health() }, load: i.load,
	}
	return o.serve(ctx)
}
