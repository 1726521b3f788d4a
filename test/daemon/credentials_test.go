package daemon

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/sessions"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// An account is a bucket that only sessions may use, the STS that begins them, and who keeps what a host
// shows to it fresh: a token in a file, and what the program of a profile prints.
type account struct {
	t              *testing.T
	sts            *sessiontest.Server
	server         *s3server.Server
	bucket         string
	token, printed string // files
	profiles       string // the file with the profiles
	env            []string

	stop    chan struct{}
	stopped sync.WaitGroup
}

// sessionLength is so short that there are many sessions while a test runs.
const sessionLength = 5 * time.Second

func newAccount(t *testing.T) *account {
	t.Helper()
	sts, err := sessiontest.New("127.0.0.1:0", sessiontest.Options{SessionLength: sessionLength, Kept: true})
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	before, err := sessions.Before(server, sts)
	if err != nil {
		t.Fatal(err)
	}
	guarded := httptest.NewServer(before)
	t.Cleanup(guarded.Close)
	dir := t.TempDir()
	a := &account{
		t: t, sts: sts, server: server, bucket: server.Bucket(t), token: dir + "/token", printed: dir + "/printed", profiles: dir + "/config", stop: make(chan struct{}),
	}
	a.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + a.profiles,
		"AWS_ENDPOINT_URL_S3=" + guarded.URL, "AWS_ENDPOINT_URL_STS=" + sts.URL,
	}
	a.write(dir+"/helper", "#!/bin/sh\nexec cat "+a.printed+"\n", 0o700)
	a.write(a.profiles, "[profile anywhere]\ncredential_process = "+dir+"/helper\n", 0o600)
	a.refresh()
	a.stopped.Go(a.keepFresh)
	t.Cleanup(func() {
		close(a.stop)
		a.stopped.Wait()
		sts.Close()
		for _, v := range sts.Violations() {
			t.Error("never to be sent:", v)
		}
	})
	return a
}

// write replaces a file as a whole.
func (a *account) write(name, text string, mode os.FileMode) {
	if err := os.WriteFile(name+".new", []byte(text), mode); err != nil {
		a.t.Error(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		a.t.Error(err)
	}
}

// refresh writes a new token, and new credentials for the program, which may only do what a
// publisher of one mirror needs.
func (a *account) refresh() {
	a.write(a.token, a.sts.Issue("sts.amazonaws.com").JWT, 0o600)
	is, err := a.sts.Begin(session.SessionPolicy(session.Scope{Bucket: a.bucket, Account: sessiontest.Account, Prefix: "program"}))
	if err != nil {
		a.t.Error(err)
		return
	}
	text, err := json.Marshal(map[string]any{
		"Version": 1, "AccessKeyId": is.AccessKey, "SecretAccessKey": is.SecretKey, "SessionToken": is.Token, "Expiration": is.Expires.UTC().Format(time.RFC3339),
	})
	if err != nil {
		a.t.Error(err)
	}
	a.write(a.printed, string(text), 0o600)
}

func (a *account) keepFresh() {
	for {
		select {
		case <-a.stop:
			return
		case <-time.After(time.Second):
			a.refresh()
		}
	}
}

// begun are the sessions of a name that were used.
func (a *account) begun(name string) (used []sessiontest.Session) {
	for _, s := range a.sts.Sessions() {
		if s.Name == name && s.Requests > 0 {
			used = append(used, s)
		}
	}
	return used
}

// Mirrors with credentials of their own: a role with a token from a file that is replaced all the time, a
// profile whose credential_process is a program (as IAM Roles Anywhere is), and a role that is assumed with those.
// Sessions end again and again, and nobody notices.
func TestEachMirrorHasItsCredentials(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	h := newHost(t, "s3://"+a.bucket+"/token", a.env)
	others := map[string]string{"program": "    profile: anywhere\n", "chain": "    profile: anywhere\n    role_to_assume: " + a.sts.Role() + "\n    role_session_name: chain-7\n"}
	h.mirror = "    name: token\n    role_to_assume: " + a.sts.Role() + "\n    web_identity_token_file: " + a.token + "\n    role_session_name: builder-7\n"
	sources := map[string]string{"token": h.source}
	for name, keys := range others {
		sources[name] = filepath.Join(h.dir, name)
		if err := os.Mkdir(sources[name], 0o777); err != nil {
			t.Fatal(err)
		}
		h.mirror += fmt.Sprintf("  - source: %s\n    destination: s3://%s/%s\n    name: %s\n%s", sources[name], a.bucket, name, name, keys)
	}
	h.start()
	u := spackmirror.New(spackmirror.V3, 30)
	published := func(n int) func() bool {
		return func() bool {
			for _, m := range h.status().Mirrors {
				if m.Jobs["published"] != n {
					return false
				}
			}
			return true
		}
	}
	for round := range 3 { // over more than three sessions
		whole := mirrorOf(t, u, u.Range(0, (round+1)*10))
		for _, source := range sources {
			drop(t, whole, source)
		}
		h.until("all three have them", published((round+1)*10))
		time.Sleep(sessionLength)
	}
	for name := range sources {
		wantWhole(t, filepath.Join(a.server.Path(a.bucket), name), 30)
	}
	tokens := make(map[string]bool)
	for _, s := range a.begun("builder-7") {
		tokens[s.ID] = true
	}
	if len(tokens) < 3 || len(a.begun("chain-7")) < 3 || len(a.begun("test")) < 3 {
		t.Errorf("sessions with %d tokens, %d with another's credentials, %d of the program", len(tokens), len(a.begun("chain-7")), len(a.begun("test")))
	}
	for _, refused := range a.sts.Refusals() {
		if !strings.Contains(refused, "ExpiredToken") {
			t.Error("refused:", refused)
		}
	}
	if r := h.run("doctor", "--no-write", "--config", h.dir+"/config.yaml"); r.Code != 0 || !strings.Contains(r.Stdout, "ok    mirror token: web identity token") ||
		!strings.Contains(r.Stdout, "for sub repo:vantagecompute/slurm-factory") || strings.Count(r.Stdout, "ok    mirror") < 10 {
		t.Errorf("%v", r)
	}
	// The flags of publish say the same.
	r := h.run("--role-to-assume", a.sts.Role(), "--web-identity-token-file", a.token, h.source, h.destination)
	if r.Code != 0 || !strings.Contains(r.Stdout, "nothing to do") {
		t.Errorf("%v", r)
	}
}

// When a token is not written any more its mirror waits, says why, and goes on with the next one; others are
// not disturbed.
func TestATokenIsGone(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	h := newHost(t, "s3://"+a.bucket+"/token", a.env)
	lost := a.token + "-lost"
	other := filepath.Join(h.dir, "other")
	if err := os.Mkdir(other, 0o777); err != nil {
		t.Fatal(err)
	}
	h.mirror = fmt.Sprintf("    role_to_assume: %s\n    web_identity_token_file: %s\n  - source: %s\n    destination: s3://%s/program\n    profile: anywhere\n", a.sts.Role(), lost, other, a.bucket)
	h.start()
	u := spackmirror.New(spackmirror.V3, 3)
	whole := mirrorOf(t, u, u.All())
	drop(t, whole, h.source)
	drop(t, whole, other)
	h.until("the one waits, and the other has published", func() bool {
		m := h.status().Mirrors
		return strings.Contains(m[0].Paused, lost) && m[0].Jobs["ready"] == 3 && m[1].Jobs["published"] == 3
	})
	if r := h.run("drain", "--wait"); r.Code != 5 || !strings.Contains(r.Stderr, lost) {
		t.Errorf("a drain meanwhile: %v", r)
	}
	if r := h.run("doctor", "--no-write", "--config", h.dir+"/config.yaml"); r.Code != 5 || !strings.Contains(r.Stdout, "FAIL  mirror s3://"+a.bucket+"/token: web identity token") || !strings.Contains(r.Stdout, "fix: check that the program that writes it") {
		t.Errorf("%v", r)
	}
	a.write(lost, a.sts.Issue("sts.amazonaws.com").JWT, 0o600)
	h.must("drain", "--wait")
	wantWhole(t, filepath.Join(a.server.Path(a.bucket), "token"), 3)
}
