package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

func TestATokenBecomesCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		s.role.Policy = session.SessionPolicy(s.role.Scope(session.Scope{Bucket: "bucket", Prefix: "noble/spack"}))
		s.role.AllowedAccounts = []string{sessiontest.Account}
		creds, err := s.retrieve(t)
		if err != nil {
			t.Fatal(err)
		}
		all := s.Sessions()
		if len(all) != 1 {
			t.Fatalf("%d sessions", len(all))
		}
		is := all[0]
		if creds.AccessKeyID != is.AccessKey || creds.SecretAccessKey != is.SecretKey || creds.SessionToken != is.Token || creds.AccountID != sessiontest.Account {
			t.Errorf("other credentials than those of the session: %+v", creds)
		}
		if !creds.CanExpire || !creds.Expires.Equal(is.Expires) {
			t.Errorf("they expire at %v, want %v", creds.Expires, is.Expires)
		}
		if is.Asked != time.Hour || is.Name != "publish-1-1" || is.Policy != s.role.Policy {
			t.Errorf("the session is %+v", is)
		}
		if want := `msg="credentials renewed" role=arn:aws:iam::123456789012:role/publish "valid until"=2000-01-01T01:00:00Z attempt=1`; !strings.Contains(s.logged(), want) {
			t.Errorf("not logged: %s\n%s", want, s.logged())
		}
	})
}

// What goes wrong, how often it is tried, and how long that takes.
func TestWhatIsTriedAgain(t *testing.T) {
	const no, passing, denied = 1, 6, 4
	for name, row := range map[string]struct {
		fault    sessiontest.Fault
		attempts int
	}{
		"dropped":         {sessiontest.Drop, passing},
		"unavailable":     {sessiontest.Unavailable, passing},
		"internal":        {sessiontest.Internal, passing},
		"throttled":       {sessiontest.Throttled, passing},
		"no IDP":          {sessiontest.NoIDP, passing},
		"no key":          {sessiontest.NoKey, passing},
		"expired":         {sessiontest.Expired, passing},
		"denied":          {sessiontest.Denied, denied},
		"no provider":     {sessiontest.NoProvider, no},
		"audience":        {sessiontest.WrongAudience, no},
		"bad token":       {sessiontest.BadToken, no},
		"too long":        {sessiontest.TooLong, no},
		"too large":       {sessiontest.PolicyTooLarge, no},
		"malformed":       {sessiontest.PolicyMalformed, no},
		"region disabled": {sessiontest.RegionDisabled, no},
		"unknown":         {sessiontest.Refuse(400, "Teapot", "short and stout"), no},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, sessiontest.Options{})
				s.HookSTS(sessiontest.Always(row.fault))
				began := time.Now()
				_, err := s.retrieve(t)
				var failed *session.AuthError
				if !errors.As(err, &failed) {
					t.Fatalf("got %v, want an AuthError", err)
				}
				if s.Tried() != row.attempts || len(s.Tokens()) != row.attempts {
					t.Errorf("%d attempts with %d tokens, want %d", s.Tried(), len(s.Tokens()), row.attempts)
				}
				if s.retried != row.attempts-1 {
					t.Errorf("%d of %d repetitions were shown", s.retried, row.attempts-1)
				}
				within := map[int][2]time.Duration{no: {0, 0}, denied: {17 * time.Second, 17 * time.Second}, passing: {15500 * time.Millisecond, 31 * time.Second}}[row.attempts]
				if took := time.Since(began); took < within[0] || took > within[1] {
					t.Errorf("it took %v, want %v to %v", took, within[0], within[1])
				}
				// What passes has passed when it is tried again.
				if row.attempts == no {
					return
				}
				s.HookSTS(sessiontest.First(row.attempts-1, row.fault))
				if _, err := s.retrieve(t); err != nil {
					t.Errorf("it passed, and yet: %v", err)
				}
			})
		})
	}
}

func TestFewerAttemptsIfSoWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, f := range []sessiontest.Fault{sessiontest.Unavailable, sessiontest.Denied} {
			s := newScene(t, sessiontest.Options{})
			s.role.MaxAttempts = 2
			s.HookSTS(sessiontest.Always(f))
			if _, err := s.retrieve(t); err == nil || s.Tried() != 2 {
				t.Errorf("%d attempts, %v", s.Tried(), err)
			}
		}
	})
}

// An STS that never answers costs no more than two and a half minutes.
func TestSilenceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		s.HookSTS(sessiontest.Always(sessiontest.Hang))
		began := time.Now()
		_, err := s.retrieve(t)
		var failed *session.AuthError
		if !errors.As(err, &failed) || failed.Code != session.NoAnswer {
			t.Fatalf("got %v", err)
		}
		// It is not the run's own time that is over.
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is a timeout of the run", err)
		}
		if took := time.Since(began); took > 150*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestCancellingEndsAtOnce(t *testing.T) {
	for name, set := range map[string]func(*scene){
		"while STS is silent":         func(s *scene) { s.HookSTS(sessiontest.Always(sessiontest.Hang)) },
		"between two attempts":        func(s *scene) { s.HookSTS(sessiontest.Always(sessiontest.Denied)) },
		"while GitHub is silent":      func(s *scene) { s.HookTokens(sessiontest.Always(sessiontest.Hang)) },
		"between asking GitHub twice": func(s *scene) { s.HookTokens(sessiontest.Always(sessiontest.Answer(500, ""))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, sessiontest.Options{})
				set(s)
				cfg := s.config(t)
				ctx, cancel := context.WithCancel(t.Context())
				const after = 1250 * time.Millisecond
				time.AfterFunc(after, cancel)
				began := time.Now()
				_, err := cfg.Credentials.Retrieve(ctx)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took != after {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// What counts is the account that STS says, whatever the ARN does.
func TestAnotherAccountIsNotUsed(t *testing.T) {
	const answer = `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>
		<AssumedRoleUser><Arn>arn:aws:sts::%s:assumed-role/publish/publish-1-1</Arn></AssumedRoleUser>
		<Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2000-01-01T01:00:00Z</Expiration></Credentials>
		</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		s.role.AllowedAccounts = []string{sessiontest.Account}
		s.HookSTS(sessiontest.Always(sessiontest.Answer(200, fmt.Sprintf(answer, sessiontest.Account))))
		if creds, err := s.retrieve(t); err != nil || creds.AccessKeyID != "ASIA1" {
			t.Errorf("%v, %v", creds.AccessKeyID, err)
		}
		s.HookSTS(sessiontest.Always(sessiontest.Answer(200, fmt.Sprintf(answer, "999999999999"))))
		creds, err := s.retrieve(t)
		want := "assume role arn:aws:iam::123456789012:role/publish: WrongAccount: the role is in account 999999999999, and only these are allowed: 123456789012"
		if err == nil || err.Error() != want || creds.HasKeys() || s.Tried() != 1 {
			t.Errorf("%d attempts, got  %v\nwant %s", s.Tried(), err, want)
		}
	})
}

func TestSecretsAreToldAndNeverShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		s.HookSTS(sessiontest.First(2, sessiontest.NoKey))
		if _, err := s.retrieve(t); err != nil {
			t.Fatal(err)
		}
		s.HookSTS(sessiontest.Always(sessiontest.Denied))
		_, err := s.retrieve(t)
		if err == nil {
			t.Fatal("not denied")
		}
		var all []string
		for _, token := range s.Tokens() {
			all = append(all, token.JWT)
		}
		for _, is := range s.Sessions() {
			all = append(all, is.AccessKey, is.SecretKey, is.Token)
		}
		if len(all) != 7+3 {
			t.Fatalf("%d secrets", len(all))
		}
		told := strings.Join(s.secrets, "\n")
		var failed *session.AuthError
		errors.As(err, &failed)
		seen := s.logged() + err.Error() + failed.TrustPolicy + strings.Join(failed.Hints, "\n")
		for _, secret := range all {
			if !strings.Contains(told, secret) {
				t.Errorf("%q was not told", secret)
			}
			if strings.Contains(seen, secret) {
				t.Errorf("%q is to be seen", secret)
			}
		}
		if strings.Contains(seen, s.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]) {
			t.Error("the job's own token is to be seen")
		}
	})
}

// A machine whose clock is wrong must neither renew without end nor too late.
func TestAWrongClock(t *testing.T) {
	for _, ahead := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t, sessiontest.Options{Ahead: ahead})
			cfg := s.config(t)
			for range 60 {
				if _, err := cfg.Credentials.Retrieve(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
			}
			if n := len(s.Sessions()); n != 2 {
				t.Errorf("%d sessions in an hour, STS being %v ahead", n, ahead)
			}
		})
	}
}

func TestCredentialsOfTheEnvironmentAreNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, sessiontest.Options{})
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "other")
		creds, err := s.retrieve(t)
		if err != nil || creds.AccessKeyID == "AKIAOTHER" {
			t.Errorf("%v, %v", creds.AccessKeyID, err)
		}
		if !strings.Contains(s.logged(), "the credentials in the environment are not used") {
			t.Error("nobody is told")
		}
	})
}

func TestWhereSTSIs(t *testing.T) {
	for name, row := range map[string]struct {
		env  map[string]string
		host string
	}{
		"in the region":      {nil, "sts.eu-north-1.amazonaws.com"},
		"where STS is said":  {map[string]string{"AWS_ENDPOINT_URL_STS": "https://sts.example"}, "sts.example"},
		"where AWS is said":  {map[string]string{"AWS_ENDPOINT_URL": "https://aws.example"}, "aws.example"},
		"STS's before AWS's": {map[string]string{"AWS_ENDPOINT_URL": "https://aws.example", "AWS_ENDPOINT_URL_STS": "https://sts.example"}, "sts.example"},
		"not the global one": {map[string]string{"AWS_STS_REGIONAL_ENDPOINTS": "legacy"}, "sts.eu-north-1.amazonaws.com"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, sessiontest.Options{})
				for k, v := range row.env {
					t.Setenv(k, v)
				}
				delete(s.world, "sts.eu-north-1.amazonaws.com")
				s.world[row.host] = s.Server
				if _, err := s.retrieve(t); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Without a region, STS is asked where the role's partition is at home.
func TestNoRegion(t *testing.T) {
	for role, host := range map[string]string{
		"arn:aws:iam::123456789012:role/publish":        "sts.us-east-1.amazonaws.com",
		"arn:aws-cn:iam::123456789012:role/publish":     "sts.cn-north-1.amazonaws.com.cn",
		"arn:aws-us-gov:iam::123456789012:role/publish": "sts.us-gov-west-1.amazonaws.com",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t, sessiontest.Options{Role: role, Audiences: []string{"sts.amazonaws.com", "sts.amazonaws.com.cn"}})
			s.world[host] = s.Server
			cfg, err := session.Load(t.Context(), session.Options{Role: s.role}, s.world)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cfg.Credentials.Retrieve(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
