package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// systemd notifies systemd of the state of the service; without systemd it does nothing.
type systemd struct{ log *slog.Logger }

func (s systemd) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd was not notified", "state", state, "reason", err.Error())
	}
}

func (s systemd) ready() { s.notify(daemon.SdNotifyReady) }

// reloading sends the time, which Type=notify-reload requires.
func (s systemd) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		s.log.Warn("no monotonic clock", "reason", err.Error())
	}
	s.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// stopping extends the stop timeout of systemd to the longest run, and 10 s for the rest.
func (s systemd) stopping(longest time.Duration) {
	s.notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, (longest + 10*time.Second).Microseconds()))
}

// watch notifies the watchdog of systemd twice per interval while the service is healthy. Otherwise it sends
// nothing, and systemd restarts the daemon.
func (s systemd) watch(ctx context.Context, health func(context.Context) error) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return err
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if err := health(ctx); err == nil {
			s.notify(daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			s.log.Error("not healthy", "reason", err.Error())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// nobody is the manager of a daemon that lives as long as a command.
type nobody struct{}

func (nobody) ready()                 {}
func (nobody) reloading()             {}
func (nobody) stopping(time.Duration) {}

func (nobody) watch(context.Context, func(context.Context) error) error { return nil }
