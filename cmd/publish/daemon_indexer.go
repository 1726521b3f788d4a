package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
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
func (c *daemonConfig) indexing(log *slog.Logger) indexService {
	m := &c.Mirrors[0]
	return indexService{
		target: m.target(), requireSigned: m.RequireSigned, trustedKeys: m.TrustedKeys, destination: m.Destination, queue: c.Queue, settle: m.Settle.or(indexerSettle), takeover: indexerTakeover,
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
func runIndexerMode(ctx context.Context, c *daemonConfig, log *slog.Logger, file string, hangups <-chan os.Signal) error {
	i := c.indexing(log)
	i.healed = func(h healedMirror) {
		log.Info("indexed", "mirror", h.Mirror, "names", h.Names, "left", len(h.Left), "seconds", h.Seconds)
	}
	i.hangups = hangups
	i.load = func(context.Context) error {
		if _, err := readDaemonConfig(file); err != nil {
			return err
		}
		log.Warn("the configuration is right, but an indexer takes a new one only when it starts")
		return nil
	}
	log.Info("the indexer begins", "version", version, "queue", i.queue, "destination", i.destination)
	err := i.serve(ctx)
	log.Info("the indexer has stopped")
	return err
}

// attend lets the host serve the queue until ctx ends, and answers for it.
func (i indexService) attend(ctx context.Context, host *events.Host, metrics *api.Metrics) error {
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
	o := office{
		server:    &api.Server{Indexer: host, Metrics: metrics, Allow: allow, Version: version, Log: i.log},
		listeners: listeners, manager: systemd{i.log}, grace: indexerGoodbye, log: i.log,
		run: host.Run, health: func(context.Context) error { return host.Health() }, load: i.load, hangups: i.hangups,
	}
	return o.serve(ctx)
}

// examineIndexer looks whether an indexer can do what its configuration says. Messages are left alone: each
// delivery counts.
func (d *doctor) examineIndexer(ctx context.Context, c *daemonConfig) {
	if c.Socket != "" {
		d.examineHost(ctx, c.Socket)
	}
	to := d.examineDestination(ctx, "destination "+c.Mirrors[0].Destination+": ", &c.Mirrors[0])
	if to == nil {
		return
	}
	defer to.Close()
	d.cloudFront(ctx, "", c.Mirrors[0].target().CDN, to)
	cfg, err := to.AWSConfig(ctx)
	if err != nil {
		d.say("queue", err, "")
		return
	}
	q, err := events.Open(cfg, c.Queue)
	if err != nil {
		d.say("queue", err, "")
		return
	}
	deliveries, err := q.Deliveries(ctx)
	if errors.Is(err, mirror.ErrDenied) {
		d.note("queue", "it may not be looked at, so which messages are dead is not known: "+err.Error())
		return
	}
	if d.say("queue", err, "") && deliveries == 0 {
		d.note("queue", "it has no dead-letter queue: what nobody can do comes again for as long as SQS keeps it")
	}
}

// examineHost asks the indexer that runs, if one does.
func (d *doctor) examineHost(ctx context.Context, socket string) {
	client := api.Dial(socket)
	defer client.Close()
	s, err := client.Status(ctx)
	switch {
	case errors.Is(err, api.ErrNoDaemon):
		d.note("indexer", "it does not run")
		d.say("socket", api.CheckSocket(socket), "")
		return
	case err != nil:
	case s.Indexer == nil:
		err = errors.New("a daemon answers on its socket")
	case !s.Healthy:
		err = errors.New(s.Problem)
	case s.Indexer.Queue.Error != "":
		err = errors.New(s.Indexer.Queue.Error)
	}
	if d.say("indexer", err, "look into its log") && len(s.Indexer.Dead) > 0 {
		d.note("dead letters", fmt.Sprintf("%d; `publish status` says why", len(s.Indexer.Dead)))
	}
}
