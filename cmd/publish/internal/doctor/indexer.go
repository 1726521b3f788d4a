package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// examineIndexer checks whether an indexer can do what its configuration says. It receives no messages: each
// delivery counts.
func (d *doctor) examineIndexer(ctx context.Context, c *service.Config) {
	if c.Socket != "" {
		d.examineHost(ctx, c.Socket)
	}
	to := d.examineDestination(ctx, "destination "+c.Mirrors[0].Destination+": ", &c.Mirrors[0])
	if to == nil {
		return
	}
	defer to.Close()
	d.cloudFront(ctx, "", c.Mirrors[0].Target().CDN, to)
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
		d.note("queue", "it cannot be read, so the dead messages are unknown: "+err.Error())
		return
	}
	if d.say("queue", err, "") && deliveries == 0 {
		d.note("queue", "it has no dead-letter queue: messages that cannot be handled are redelivered until SQS expires them")
	}
}

// examineHost queries the running indexer, if there is one.
func (d *doctor) examineHost(ctx context.Context, socket string) {
	client := api.Dial(socket)
	defer client.Close()
	s, err := client.Status(ctx)
	switch {
	case errors.Is(err, api.ErrNoDaemon):
		d.note("indexer", "it is not running")
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
	if d.say("indexer", err, "read its log") && len(s.Indexer.Dead) > 0 {
		d.note("dead letters", fmt.Sprintf("%d; `publish status` says why", len(s.Indexer.Dead)))
	}
}
