package session_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

// A world is servers by their names, reached without a network, so that time can be virtual.
type world map[string]http.Handler

// Do makes a world the SDK's HTTP client.
func (w world) Do(r *http.Request) (*http.Response, error) { return w.RoundTrip(r) }

func (w world) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	h := w[r.URL.Host]
	if h == nil {
		return nil, fmt.Errorf("dial tcp: lookup %s: no such host", r.URL.Host)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	arrived := r.Clone(r.Context())
	arrived.RequestURI = r.URL.RequestURI()
	arrived.Host = r.URL.Host
	if arrived.Body == nil {
		arrived.Body = http.NoBody
	}
	defer arrived.Body.Close()
	defer func() {
		if broken := recover(); broken == http.ErrAbortHandler {
			answer, err = nil, fmt.Errorf("read tcp: connection reset by peer")
			if ended := r.Context().Err(); ended != nil {
				err = ended
			}
		} else if broken != nil {
			panic(broken)
		}
	}()
	written := httptest.NewRecorder()
	h.ServeHTTP(written, arrived)
	answer = written.Result()
	answer.Request = r
	return answer, nil
}

// A scene is a job on GitHub, and the AWS that it meets.
type scene struct {
	*sessiontest.Server
	world
	role    *session.Role
	github  *session.GitHub
	env     map[string]string
	log     *strings.Builder
	retried int // how often it was said that something is tried again
	mu      sync.Mutex
	secrets []string
}

const idp = "pipelines.example"

// newScene has STS where AWS has it in eu-north-1. Close must have nothing to do.
func newScene(t *testing.T, o sessiontest.Options) *scene {
	t.Helper()
	bare(t)
	server, err := sessiontest.Handler("https://"+idp, o)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{Server: server, world: world{idp: server, "sts.eu-north-1.amazonaws.com": server}, env: server.Environment(), log: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(lines{s}, nil))
	s.github = &session.GitHub{Getenv: func(name string) string { return s.env[name] }, Client: &http.Client{Transport: s.world}, Log: log}
	s.role = &session.Role{ARN: server.Role(), SessionName: "publish-1-1", Token: s.github, Secret: s.secret, Log: log}
	t.Cleanup(func() {
		for _, v := range server.Violations() {
			t.Error("never to be sent:", v)
		}
	})
	return s
}

// lines is the log of a scene.
type lines struct{ s *scene }

func (l lines) Write(p []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.log.Write(p)
}

func (s *scene) secret(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, text)
}

func (s *scene) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *scene) config(t *testing.T) aws.Config {
	t.Helper()
	cfg, err := session.Load(t.Context(), session.Options{Region: "eu-north-1", Role: s.role, Retrying: func(int, int, error) { s.retried++ }}, s.world)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// retrieve asks for credentials once.
func (s *scene) retrieve(t *testing.T) (aws.Credentials, error) {
	t.Helper()
	return s.config(t).Credentials.Retrieve(context.Background())
}
