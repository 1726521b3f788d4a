package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/event"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
)

// Admits says why a peer is not answered.
func (a Allow) Admits(p Peer) error { return a.admits(p) }

// Live is what the page shows of a status.
func Live(s daemon.Status) string { return markup(live(s)) }

// LiveIndexer is the same of an indexer.
func LiveIndexer(s events.Status) string { return markup(liveIndexer(s)) }

// Events calls each for every event, until that returns false.
func (c *Client) Events(ctx context.Context, each func(event.Event) bool) error {
	return c.lines(ctx, http.MethodGet, "/v1/events", func(d *json.Decoder) (bool, error) {
		var e event.Event
		if err := d.Decode(&e); err != nil {
			return false, err
		}
		return each(e), nil
	})
}

// Summary is what the page says first.
var Summary = summary
