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

// examineIndexer looks whether an indexer can do what its configuration says. Messages are left alone: each
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
		d.note("queue", "it may not be looked at, so which messages are dead is not known: "+err.Error())
		return
	}
	if d.say("queue", err, "") && deliveries == 0 {
		d.note("queue", "it has no dead-letter queue: messages that cannot be handled come again for as long as SQS keeps them")
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
