package api_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
)

// A request that makes the daemon panic is answered with 500, and the log has the stack.
func TestAPanicIsAnAnswer(t *testing.T) {
	var log strings.Builder
	s := &api.Server{Metrics: &api.Metrics{}, Log: slog.New(slog.NewTextHandler(&log, nil))} // of no daemon
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9464/v1/status", nil)
	w := httptest.NewRecorder()
	s.ReadOnly().ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "a defect of this program") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "a request could not be answered") || !strings.Contains(log.String(), "api.go") {
		t.Errorf("log: %s", &log)
	}
}
