package session_test

import (
	"context"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

type tokens func(ctx context.Context, audience string) (string, error)

func (t tokens) Token(ctx context.Context, audience string) (string, error) { return t(ctx, audience) }

func none(context.Context, string) (string, error) { return "", nil }

func good() session.Role {
	return session.Role{ARN: "arn:aws:iam::123456789012:role/publish", SessionName: "run-1", Token: tokens(none)}
}

func TestRolesThatAreAccepted(t *testing.T) {
	for _, change := range []func(*session.Role){
		func(*session.Role) {},
		func(r *session.Role) { r.ARN = "arn:aws:iam::123456789012:role/ci/builds/publish" },
		func(r *session.Role) { r.ARN = "arn:aws-cn:iam::123456789012:role/publish" },
		func(r *session.Role) { r.ARN = "arn:aws-us-gov:iam::123456789012:role/a+b=c,d.e@f-g" },
		func(r *session.Role) { r.ARN = "arn:minio:iam:::role/github" },
		func(r *session.Role) { r.Duration = session.ShortestSession },
		func(r *session.Role) { r.AllowedAccounts = []string{"999999999999", "123456789012"} },
		func(r *session.Role) { r.Policy = `{"Version":"2012-10-17","Statement":[]}` },
	} {
		r := good()
		change(&r)
		if err := r.Validate(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestEverythingThatIsWrongWithARoleIsSaidAtOnce(t *testing.T) {
	r := session.Role{
		ARN:             "arn:aws:iam::1234:role/publish",
		SessionName:     "a run",
		Duration:        1,
		Policy:          `{"Version":"2012-10-17"}`,
		Audience:        "a b",
		AllowedAccounts: []string{"12"},
		MaxAttempts:     21,
	}
	want := `role "arn:aws:iam::1234:role/publish": want arn:aws:iam::123456789012:role/name
session name "a run": want 2 to 64 of letters, digits and _+=,.@-
session of 1ns: AWS makes them 15m to 12h long
21 attempts: want 1 to 20
audience "a b": want no spaces
session policy: it has no Statement
account id "12": want 12 digits`
	if got := r.Validate(); got == nil || got.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", got, want)
	}
}

func TestRolesThatAreRefused(t *testing.T) {
	for what, change := range map[string]func(*session.Role){
		"no role given":                  func(r *session.Role) { r.ARN = "" },
		"want arn:aws:iam":               func(r *session.Role) { r.ARN = "publish" },
		"want arn:aws:iam::":             func(r *session.Role) { r.ARN = "arn:aws:iam:::role/publish" },
		"want arn:aws:iam::1":            func(r *session.Role) { r.ARN = "arn:aws:iam::123456789012:user/publish" },
		"want arn:aws:iam::12":           func(r *session.Role) { r.ARN += "\n" },
		"want a policy document in JSON": func(r *session.Role) { r.Policy = "none" },
		"2049 characters, AWS takes":     func(r *session.Role) { r.Policy = `{"Statement":[` + strings.Repeat(" ", 2049-16) + `]}` },
		"its account is not one of":      func(r *session.Role) { r.AllowedAccounts = []string{"999999999999"} },
	} {
		r := good()
		change(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %q", err, what)
		}
	}
}
