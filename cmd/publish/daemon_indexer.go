package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// What an indexer waits for, by default, so that what comes together is indexed together; and
// after what time another host takes over what a dead one had begun.
const (
	indexerSettle   = 3 * time.Second
	indexerTakeover = 2 * time.Minute
)

// indexing is what a configuration with mode: indexer asks for.
func (c *daemonConfig) indexing(log *slog.Logger) indexing {
	m := &c.Mirrors[0]
	return indexing{flags: m.flags(), where: m.Destination, queue: c.Queue, settle: m.Settle.or(indexerSettle), takeover: indexerTakeover, log: log}
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
func runIndexerMode(ctx context.Context, c *daemonConfig, log *slog.Logger) error {
	i := c.indexing(log)
	i.healed = func(h healedMirror) {
		log.Info("indexed", "mirror", h.Mirror, "names", h.Names, "left", len(h.Left), "seconds", h.Seconds)
	}
	manager := systemd{log}
	g, gctx := errgroup.WithContext(ctx)
	watching, stopWatching := context.WithCancel(gctx)
	g.Go(func() error {
		if err := manager.watch(watching, func(context.Context) error { return nil }); watching.Err() == nil {
			return err
		}
		return nil
	})
	g.Go(func() error {
		defer stopWatching()
		return i.serve(gctx)
	})
	manager.ready()
	defer context.AfterFunc(ctx, func() { manager.stopping(indexerTakeover) })()
	return g.Wait()
}
