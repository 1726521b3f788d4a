package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// A journalHandler says before each line how bad it is, as journald and systemd understand it: it is no part
// of the line that they keep, and `journalctl -p err` shows errors.
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

// journalLines are written with a priority. mu is held while one is made and written.
type journalLines struct {
	mu       sync.Mutex
	priority string
	w        io.Writer
}

func (l *journalLines) Write(line []byte) (int, error) {
	n, err := l.w.Write(append([]byte(l.priority), line...))
	return max(n-len(l.priority), 0), err
}
