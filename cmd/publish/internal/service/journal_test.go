package service

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

func TestPrioritiesInTheJournal(t *testing.T) {
	var said strings.Builder
	log := slog.New(newJournalHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	log.Debug("a")
	log.With("mirror", "m").Info("b")
	log.WithGroup("g").Warn("c", "d", "two\nlines")
	log.Error("e")
	for i, line := range strings.Split(strings.TrimSpace(said.String()), "\n") {
		want := []string{"<7>", "<6>", "<4>", "<3>"}[i]
		rest, ok := strings.CutPrefix(line, want)
		if !ok || !json.Valid([]byte(rest)) {
			t.Errorf("%q, want %s and a document", line, want)
		}
	}
	if !strings.Contains(said.String(), `"mirror":"m"`) || !strings.Contains(said.String(), `"g":{"d"`) {
		t.Errorf("%s", &said)
	}
}
