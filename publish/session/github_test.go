package session_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

func TestGitHubIsAskedAgain(t *testing.T) {
	for name, row := range map[string]struct {
		fault sessiontest.Fault
		times int
	}{
		"dropped":        {sessiontest.Drop, 5},
		"silent":         {sessiontest.Hang, 5},
		"500":            {sessiontest.Answer(500, ""), 5},
		"503":            {sessiontest.Answer(503, "busy"), 5},
		"429":            {sessiontest.Answer(429, ""), 5},
		"empty":          {sessiontest.Answer(200, `{"value":""}`), 5},
		"a proxy's page": {sessiontest.Answer(200, "<html>"), 5},
		"400":            {sessiontest.Answer(400, ""), 1},
		"401":            {sessiontest.Answer(401, ""), 1},
		"403":            {sessiontest.Answer(403, ""), 1},
		"404":            {sessiontest.Answer(404, ""), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, sessiontest.Options{})
				asked := 0
				s.HookTokens(func(n int) sessiontest.Fault { asked = n; return row.fault })
				began := time.Now()
				if token, err := s.github.Token(t.Context(), "sts.amazonaws.com"); err == nil {
					t.Errorf("a token of %d bytes", len(token))
				}
				if asked != row.times {
					t.Errorf("asked %d times", asked)
				}
				if took := time.Since(began); row.fault != sessiontest.Hang && took > 7500*time.Millisecond || took > 60*time.Second {
					t.Errorf("it took %v", took)
				}
				s.HookTokens(sessiontest.First(row.times-1, row.fault))
				if token, err := s.github.Token(t.Context(), "sts.amazonaws.com"); err != nil || strings.Count(token, ".") != 2 {
					t.Errorf("it passed, and yet %v", err)
				}
			})
		})
	}
}

func TestGitHubGivesANewTokenEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		seen := map[string]bool{}
		for range 8 {
			token, err := s.github.Token(t.Context(), "ours")
			if err != nil || seen[token] {
				t.Errorf("seen: %v, %v", seen[token], err)
			}
			seen[token] = true
		}
	})
}

// The job's own token goes to nobody but GitHub.
func TestGitHubIsNotFollowedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		s.world["elsewhere.example"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				t.Error("it was sent elsewhere")
			}
		})
		s.world[idp] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		})
		if _, err := s.github.Token(t.Context(), "sts.amazonaws.com"); err == nil {
			t.Error("a token from elsewhere")
		}
	})
}
