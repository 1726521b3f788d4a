package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

// An upload of 24 parts, about one a second.
const (
	mib      = 1 << 20
	parts    = 24
	partSize = 5 * mib
	slow     = 6 * mib
)

// bucket is one that knows the sessions of a scene, and what they may do.
func (s *scene) bucket(t *testing.T, o s3test.Options) *s3test.Server {
	t.Helper()
	o.Region, o.Secrets = "eu-north-1", s.Secret
	store := s3test.Handler(o)
	s.world["s3.example"] = s.Guard(store)
	t.Cleanup(func() {
		for _, v := range store.Violations() {
			t.Error("never to be sent:", v)
		}
	})
	s.role.Policy = session.SessionPolicy(s.role.Scope(session.Scope{Bucket: "bucket", Prefix: "noble/spack"}))
	return store
}

// mirror is the one below noble/spack, as a new process sees it.
func (s *scene) mirror(t *testing.T, o s3.Options) *s3.Mirror {
	t.Helper()
	o.Bucket, o.EndpointURL, o.PartSize, o.Log = "bucket", "https://s3.example", partSize, s.role.Log
	b, err := s3.Open(t.Context(), s.config(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return b.Mirror("noble/spack")
}

// large is more than fits into one request.
func large(parts int) mirror.Upload {
	content := make([]byte, parts*partSize)
	rand.NewChaCha8([32]byte{1}).Read(content)
	digest := blob.DigestOf(content)
	return mirror.Upload{Name: "blobs/sha256/" + digest.String(), Content: blob.Bytes(content), Digest: digest}
}

// failed are the answers to parts that were no success.
func failed(store *s3test.Server) int {
	n := 0
	for _, e := range store.Log() {
		if e.Operation == "UploadPart" && e.Status != 200 {
			n++
		}
	}
	return n
}

// Sessions of 2 s during an upload of 20 s: each has a token of its own, and no part fails.
func TestAnUploadOutlivesItsSessions(t *testing.T) {
	for name, hook := range map[string]func(int) sessiontest.Fault{
		"all is well": nil,
		// Inside the window, and at the end of a session.
		"every other attempt fails": func(n int) sessiontest.Fault {
			if n%2 == 0 {
				return sessiontest.Unavailable
			}
			return sessiontest.None
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, sessiontest.Options{SessionLength: 2 * time.Second})
				store := s.bucket(t, s3test.Options{Store: s3test.Discard})
				s.HookSTS(hook)
				began := time.Now()
				if err := s.mirror(t, s3.Options{Concurrency: 1, LimitRate: slow}).Create(t.Context(), large(parts)); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < 19*time.Second {
					t.Fatalf("it took %v, so it shows nothing", took)
				}
				if n := len(s.Tokens()); n < 8 || len(s.Sessions()) < 8 {
					t.Errorf("%d tokens, %d sessions", n, len(s.Sessions()))
				}
				if n := store.Count("UploadPart"); n != parts || failed(store) != 0 || len(s.Refusals()) != 0 {
					t.Errorf("%d parts were sent, %d failed, and of all requests: %q", n, failed(store), s.Refusals())
				}
			})
		})
	}
}

// When the role is taken away, an upload goes on to the end of its session, ends as an AuthError, and
// resumes in the next run.
func TestAnUploadWhoseRoleIsTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{SessionLength: 4 * time.Second})
		store := s.bucket(t, s3test.Options{})
		s.HookSTS(sessiontest.After(1, sessiontest.Denied))
		err := s.mirror(t, s3.Options{Concurrency: 1, LimitRate: slow}).Create(t.Context(), large(parts))
		var denied *session.AuthError
		if !errors.As(err, &denied) || denied.Code != "AccessDenied" || !errors.Is(err, mirror.ErrCredentials) {
			t.Fatalf("got %v", err)
		}
		sent := store.Count("UploadPart")
		if sent < 3 || failed(store) != 0 || store.OpenUploads() != 1 {
			t.Errorf("%d parts of a session of 4 s were sent, %d failed, %d uploads are open", sent, failed(store), store.OpenUploads())
		}
		if !strings.Contains(s.logged(), "credentials not renewed, those there are still hold") {
			t.Error("nobody was told before it ended")
		}
		s.HookSTS(nil)
		if err := s.mirror(t, s3.Options{}).Create(t.Context(), large(parts)); err != nil {
			t.Fatal(err)
		}
		if n := store.Count("UploadPart"); n != parts || store.OpenUploads() != 0 {
			t.Errorf("%d parts were sent in both runs, %d uploads are open", n, store.OpenUploads())
		}
	})
}

// S3 takes a session for expired that should hold: there is another one, and nobody sees it.
func TestASessionThatIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		store := s.bucket(t, s3test.Options{})
		m := s.mirror(t, s3.Options{})
		if err := m.Create(t.Context(), small("a")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		s.Revoke()
		if err := m.Create(t.Context(), small("b")); err != nil {
			t.Error(err)
		}
		if _, ok := store.Object("noble/spack/b"); !ok || len(s.Sessions()) != 2 || len(s.Refusals()) != 1 {
			t.Errorf("there: %v, %d sessions, refused: %q", ok, len(s.Sessions()), s.Refusals())
		}
		time.Sleep(10 * time.Minute)
		s.Revoke()
		for _, err := range m.List(t.Context(), mirror.Range{}) {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func small(name string) mirror.Upload {
	content := []byte("content of " + name)
	return mirror.Upload{Name: name, Content: blob.Bytes(content), Digest: blob.DigestOf(content)}
}

// All that a mirror is asked for is in the narrow policy, and a run that looks can look.
func TestTheNarrowPolicyIsEnoughForAMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := newScene(t, sessiontest.Options{})
		store := s.bucket(t, s3test.Options{})
		big := large(4)
		store.Abandon("noble/spack/" + big.Name)
		m := s.mirror(t, s3.Options{})
		for _, u := range []mirror.Upload{small("index.json"), big} {
			if err := m.Create(ctx, u); err != nil {
				t.Error(err)
			}
		}
		o, err := m.Open(ctx, "index.json")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, o.Body)
		o.Body.Close()
		changed := small("index.json")
		changed.Content = blob.Bytes([]byte("changed"))
		changed.Digest = blob.DigestOf([]byte("changed"))
		if _, err := m.Swap(ctx, changed, o.Version); err != nil {
			t.Error(err)
		}
		store.Abandon("noble/spack/" + big.Name)
		for l, err := range m.Leftovers(ctx, "blobs/") {
			if err == nil {
				err = m.Discard(ctx, l)
			}
			if err != nil {
				t.Error(err)
			}
		}
		if n := store.OpenUploads(); n != 0 {
			t.Errorf("%d uploads are open", n)
		}
		for _, operation := range []string{"ListMultipartUploads", "ListParts", "AbortMultipartUpload", "CompleteMultipartUpload"} {
			if store.Count(operation) == 0 {
				t.Errorf("nobody sent %s, so this shows nothing", operation)
			}
		}

		scope := s.role.Scope(session.Scope{Bucket: "bucket", Prefix: "noble/spack", ReadOnly: true})
		s.role.Policy = session.SessionPolicy(scope)
		m = s.mirror(t, s3.Options{})
		if got, err := look(ctx, m); err != nil || got != "changed" {
			t.Errorf("who looks has %q, %v", got, err)
		}
		// What is not there is not told by S3, as Guard says.
		for _, r := range s.Refusals() {
			if !strings.Contains(r, "HEAD") {
				t.Error(r)
			}
		}
		if err := m.Create(ctx, small("no")); !errors.Is(err, mirror.ErrDenied) {
			t.Errorf("who looks may write: %v", err)
		}
	})
}

// look does what a run that looks does.
func look(ctx context.Context, m *s3.Mirror) (string, error) {
	names := 0
	for _, err := range m.List(ctx, mirror.Range{Prefix: "blobs/"}) {
		if err != nil {
			return "", err
		}
		names++
	}
	for _, err := range m.Leftovers(ctx, "") {
		if err != nil {
			return "", err
		}
	}
	if _, err := m.Stat(ctx, "index.json"); err != nil {
		return "", err
	}
	o, err := m.Open(ctx, "index.json")
	if err != nil {
		return "", err
	}
	defer o.Body.Close()
	content, err := io.ReadAll(o.Body)
	if names != 1 {
		err = fmt.Errorf("%d names", names)
	}
	return string(content), err
}

// The same over the network, in real time: what answers, closes and times out is real.
func TestOverTheNetwork(t *testing.T) {
	s := newScene(t, sessiontest.Options{})
	server, err := sessiontest.New("127.0.0.1:0", sessiontest.Options{Issuer: sessiontest.Self, SessionLength: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	env := server.Environment()
	store := s3test.New(s3test.Options{Secrets: server.Secret, Store: s3test.Discard})
	defer store.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", env["AWS_ENDPOINT_URL_STS"])
	role := &session.Role{ARN: server.Role(), SessionName: "publish-1-1", Log: s.role.Log,
		Token: &session.GitHub{Getenv: func(name string) string { return env[name] }}}
	cfg, err := session.Config(t.Context(), session.Options{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s3.Open(t.Context(), cfg, s3.Options{Bucket: "bucket", EndpointURL: store.URL, PartSize: partSize, Concurrency: 2, LimitRate: slow})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Mirror("noble/spack").Create(t.Context(), large(8)); err != nil {
		t.Error(err)
	}
	if n := len(server.Tokens()); n < 2 || len(server.Violations()) != 0 {
		t.Errorf("%d tokens, and never to be sent: %q", n, server.Violations())
	}
}
