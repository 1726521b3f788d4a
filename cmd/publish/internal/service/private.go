package service

import (
	"context"
	"log/slog"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
)

// A Private is a daemon that lives as long as a command, with one mirror and its own socket.
type Private struct {
	Mirror  Mirror
	Dir     string // holds its queue
	Socket  string
	Version string
	Log     *slog.Logger
	Grace   time.Duration // how long it may take to stop
	// Up is called when the daemon runs; when it returns, the daemon stops.
	Up func(context.Context, *daemon.Daemon) error
}

// Run runs the daemon until Up returns or ctx ends.
func (p Private) Run(ctx context.Context) error {
	l, err := listenUnix(p.Socket, "")
	if err != nil {
		return err
	}
	s := service{
		config: &Config{StateDir: p.Dir}, version: p.Version, log: p.Log, grace: p.Grace, manager: nobody{},
		listeners: []listener{{Listener: l, everything: true, path: p.Socket}}, extra: []Mirror{p.Mirror}, up: p.Up,
	}
	return s.run(ctx)
}
