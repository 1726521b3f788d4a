package session

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestClaims(t *testing.T) {
	c, err := readClaims(jwt(`{"iss":"i","aud":["a","b"],"sub":"s","iat":1755504000,"exp":1755504300.5,"new":{"x":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][2]string{{"iss", "i"}, {"aud", "a, b"}, {"sub", "s"}}, c.Rows()); diff != "" {
		t.Error(diff)
	}
	if c.IssuedAt.Unix() != 1755504000 || c.Expires.Unix() != 1755504300 {
		t.Errorf("%v, %v", c.IssuedAt, c.Expires)
	}
}

// What is no token is refused, in words that do not show it.
func TestTokensThatAreNone(t *testing.T) {
	for _, token := range []string{"", "a", "a.b", "secret.secret.secret.secret", "secret.!!!.secret", jwt(`secret`), jwt(`{"sub":{"secret":1}}`), jwt(`{"aud":{}}`), jwt(`[]`)} {
		if _, err := readClaims(token); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", token, err)
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add(jwt(`{"iss":"i","aud":"a","sub":"repo:o/r:ref:x","repository":"o/r","repository_id":"1","repository_owner_id":"2"}`))
	f.Add("a.b.c")
	f.Add(jwt(`{"iss":"i","sub":"repo:o/r:environment:a\n::error::b","environment":"a\n::error::b","repository":"O\n/r"}`))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := readClaims(token)
		if err != nil {
			return
		}
		r := &Role{ARN: "arn:aws:iam::123456789012:role/publish"}
		d := diagnosisOf(r, c)
		if len(d.Hints) == 0 || d.TrustPolicy == "" {
			t.Errorf("%+v: %+v", c, d)
		}
		for _, hint := range append(d.Hints, d.Problem) {
			if strings.ContainsAny(hint, "\r\n") {
				t.Errorf("a hint of several lines: %q", hint)
			}
		}
	})
}

func diagnosisOf(r *Role, c *Claims) *AuthError {
	d := diagnosis{AuthError: &AuthError{Code: "AccessDenied", Claims: c}, role: r, attempts: 1, said: "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
	d.refused()
	return d.AuthError
}
