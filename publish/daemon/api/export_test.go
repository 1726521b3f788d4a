package api

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
)

// Admits says why a peer is not answered.
func (a Allow) Admits(p Peer) error { return a.admits(p) }

// Live is what the page shows of a status.
func Live(s daemon.Status) string { return markup(live(s)) }

// LiveIndexer is the same of an indexer.
func LiveIndexer(s events.Status) string { return markup(liveIndexer(s)) }
