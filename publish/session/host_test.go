package session_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

// kept makes the role of a scene one that is assumed with a token in a file.
func (s *scene) kept(t *testing.T) (write func(token string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	s.role.Token = session.TokenFile(file)
	return func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever keeps the token writes a new one every minute, and the session ends after two: each one is
// begun with the token that is there then.
func TestATokenInAFileIsReadEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{SessionLength: 2 * time.Minute, Kept: true})
		write := s.kept(t)
		write(s.Issue("sts.amazonaws.com").JWT)
		creds := s.config(t).Credentials
		seen := make(map[string]bool)
		for range 20 {
			c, err := creds.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(c.Expires); left <= 0 {
				t.Fatalf("expired %v ago", -left)
			}
			time.Sleep(time.Minute)
			write(s.Issue("sts.amazonaws.com").JWT)
		}
		for _, one := range s.Sessions() {
			seen[one.ID] = true
		}
		if len(seen) < 8 || len(seen) != len(s.Sessions()) {
			t.Errorf("%d sessions of %d tokens", len(s.Sessions()), len(seen))
		}
		if strings.Contains(s.logged(), "not used") {
			t.Errorf("log: %s", s.logged())
		}
	})
}

func TestWhatIsWrongWithATokenInAFile(t *testing.T) {
	for name, row := range map[string]struct {
		hook        func(int) sessiontest.Fault
		token       func(s *scene) string
		code, wants string
	}{
		"no file":        {nil, nil, session.NoToken, "no such file"},
		"empty":          {nil, func(*scene) string { return " \n" }, session.NoToken, "is empty"},
		"no JWT":         {nil, func(*scene) string { return "hello" }, session.NoToken, "a token of 1 parts"},
		"for another":    {nil, func(s *scene) string { return s.Issue("somebody").JWT }, "InvalidIdentityToken", "Incorrect token audience"},
		"not trusted":    {sessiontest.Always(sessiontest.Denied), nil, "AccessDenied", "Not authorized"},
		"expired":        {sessiontest.Always(sessiontest.Expired), nil, "ExpiredTokenException", "expired"},
		"STS is away":    {sessiontest.Always(sessiontest.Drop), nil, session.NoAnswer, "STS cannot be reached"},
		"STS is too old": {sessiontest.Always(sessiontest.TooLong), nil, "ValidationError", "MaxSessionDuration"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, sessiontest.Options{Kept: true})
				write := s.kept(t)
				s.HookSTS(row.hook)
				if row.token != nil {
					write(row.token(s))
				} else if row.hook != nil {
					write(s.Issue("sts.amazonaws.com").JWT)
				}
				_, err := s.retrieve(t)
				var auth *session.AuthError
				if !errors.As(err, &auth) || auth.Code != row.code || !strings.Contains(err.Error(), row.wants) {
					t.Fatalf("got %v", err)
				}
				for _, h := range auth.Hints { // there is no job, and no workflow
					if strings.Contains(h, "job") || strings.Contains(h, "GitHub") && !strings.Contains(h, sessiontest.GitHubIssuer) {
						t.Errorf("hint: %s", h)
					}
				}
			})
		})
	}
}

// A role that is assumed with other credentials is assumed anew before its session ends.
func TestARoleIsAssumedWithOtherCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{SessionLength: 2 * time.Hour})
		by, err := s.Begin("")
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("AWS_ACCESS_KEY_ID", by.AccessKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", by.SecretKey)
		t.Setenv("AWS_SESSION_TOKEN", by.Token)
		s.role.Token = nil
		creds := s.config(t).Credentials
		first, err := creds.Retrieve(t.Context())
		if err != nil || first.AccessKeyID == by.AccessKey || first.SessionToken == "" {
			t.Fatalf("%+v, %v", first, err)
		}
		time.Sleep(time.Until(first.Expires) - time.Minute)
		second, err := creds.Retrieve(t.Context())
		if err != nil || second.AccessKeyID == first.AccessKeyID {
			t.Errorf("%+v, %v", second, err)
		}
	})
}

func TestARoleThatOthersMayNotAssume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		s.role.Token = nil
		_, err := s.retrieve(t)
		var auth *session.AuthError
		if !errors.As(err, &auth) || auth.Code != session.NoCredentials || !strings.Contains(err.Error(), "none to assume it with") {
			t.Errorf("without any credentials: %v", err)
		}
		by, err := s.Begin("")
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("AWS_ACCESS_KEY_ID", by.AccessKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", by.SecretKey)
		t.Setenv("AWS_SESSION_TOKEN", by.Token)
		s.role.ARN = "arn:aws:iam::" + sessiontest.Account + ":role/other"
		if _, err = s.retrieve(t); !errors.As(err, &auth) || auth.Code != "AccessDenied" || len(auth.Hints) != 1 || !strings.Contains(auth.Hints[0], "sts:AssumeRole") {
			t.Errorf("a role that may not be assumed: %v, %q", err, auth.Hints)
		}
	})
}

// Whoever asks whether a token holds is told.
func TestCheckOfATokenFile(t *testing.T) {
	s, err := sessiontest.Handler("https://idp.example", sessiontest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	old, err := sessiontest.Handler("https://idp.example", sessiontest.Options{Ahead: -time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	for token, wants := range map[string]string{s.Issue("aws").JWT: "", old.Issue("aws").JWT: "has expired", "x": "a token of 1 parts"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := session.TokenFile(file).Check(t.Context())
		if wants == "" && (err != nil || c.Audience[0] != "aws") || wants != "" && (err == nil || !strings.Contains(err.Error(), wants)) {
			t.Errorf("want %q, got %v, %v", wants, c, err)
		}
	}
}
