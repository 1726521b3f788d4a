package service

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A journalHandler writes a priority before each line, for journald and systemd. They remove the priority from
// the line, and `journalctl -p err` shows errors.
type journalHandler struct {
	slog.Handler
	lines *journalLines
}

func newJournalHandler(w io.Writer, o *slog.HandlerOptions) journalHandler {
	lines := &journalLines{w: w}
	return journalHandler{slog.NewJSONHandler(lines, o), lines}
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.lines.mu.Lock()
	defer h.lines.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.lines.priority = "<3>"
	case r.Level >= slog.LevelWarn:
		h.lines.priority = "<4>"
	case r.Level >= slog.LevelInfo:
		h.lines.priority = "<6>"
	default:
		h.lines.priority = "<7>"
	}
	return h.Handler.Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.Handler.WithAttrs(attrs), h.lines}
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.Handler.WithGroup(name), h.lines}
}

// journalLines are written with a priority. mu is held while one line is formatted and written.
type journalLines struct {
	mu       sync.Mutex
	priority string
	w        io.Writer
}

func (l *journalLines) Write(line []byte) (int, error) {
	n, err := l.w.Write(append([]byte(l.priority), line...))
	return max(n-len(l.priority), 0), err
}

// daemonLog returns the log of a daemon: for a machine, or for people at a terminal.
func daemonLog(e cli.Env, format, level string) *slog.Logger {
	var l slog.Level // info
	if level != "" {
		l.UnmarshalText([]byte(level)) // the level was checked before
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "text" || format == "" && cli.Terminal(e.Raw.Stderr) != nil {
		return slog.New(slog.NewTextHandler(e.Stderr, o))
	}
	if there, err := journal.StderrIsJournalStream(); e.Raw.Stderr == os.Stderr && there && err == nil {
		return slog.New(newJournalHandler(e.Stderr, o))
	}
	return slog.New(slog.NewJSONHandler(e.Stderr, o))
}
