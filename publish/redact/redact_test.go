package redact_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

func TestPasswordsAreNotShown(t *testing.T) {
	for _, row := range []struct{ text, shown string }{
		{"https://user:hunter2@host/x", "https://REDACTED@host/x"},
		{"https://user:hunter2@host:8080/x@y", "https://REDACTED@host:8080/x@y"},
		{"https://hunter2@host", "https://REDACTED@host"},
		{"https://:hunter2@host", "https://REDACTED@host"},
		{"https://user:hun@ter2@host/x", "https://REDACTED@host/x"},
		{"https://user:hunter2/x@host/x", "https://REDACTED@host/x"},
		{"https://user:hunter2?x@host", "https://REDACTED@host"},
		{"https://user:hunter2#x@host", "https://REDACTED@host"},
		{"https://user:hunter2%zz@host", "https://REDACTED@host"},
		{"https://user:hunter2 @host", "https://REDACTED@host"},
		{"//user:hunter2@host", "//REDACTED@host"},
		{"s3://user:hunter2@bucket/x", "s3://REDACTED@bucket/x"},
		{"https://user:hunter2@[::1]:80/", "https://REDACTED@[::1]:80/"},
		// Slashes or the scheme are missing.
		{"https:/user:hunter2@host", "https:/REDACTED@host"},
		{"https:user:hunter2@host", "https:REDACTED@host"},
		{"user:hunter2@host/x", "user:REDACTED@host/x"},
		// There is none.
		{"/srv/a:b@c", "/srv/a:b@c"},
		{"./a:b@c", "./a:b@c"},
		{"zlib@1.2:1.3", "zlib@1.2:1.3"},
		{"arn:aws:iam::123456789012:role/a", "arn:aws:iam::123456789012:role/a"},
		{"https://host/a@b", "https://host/a@b"},
		{"https://host:8080/a@b", "https://host:8080/a@b"},
		{"https://[::1]:8080/a@b", "https://[::1]:8080/a@b"},
		{"s3://bucket/x@y", "s3://bucket/x@y"},
		{"file:///srv/a@b", "file:///srv/a@b"},
		{"zlib@1.3", "zlib@1.3"},
		{"", ""},
	} {
		if got := redact.URL(row.text); got != row.shown || redact.Has(row.text) != (row.text != row.shown) {
			t.Errorf("%q is shown as %q, want %q", row.text, got, row.shown)
		}
		if _, err := redact.Parse(row.text); err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", row.text, err)
		}
	}
}

func TestWithout(t *testing.T) {
	for text, want := range map[string]string{"https://u:p@host/x": "https://host/x", "https://host/x@y": "https://host/x@y", "s3://b/x": "s3://b/x"} {
		if got := redact.Without(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	for text, want := range map[string][]string{
		"https://user:hunter2@host":     {"hunter2"},
		"https://user:hun%40ter2@host":  {"hun%40ter2", "hun@ter2", "hun%2540ter2"},
		"https://user:hunter2/x@host/y": {"hunter2/x", "hunter2%2Fx"},
		"https://token@host":            {"token"},
		"https://user:@host":            nil,
		"https://host/x@y":              nil,
	} {
		if got := redact.Secrets(text); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// Whatever surrounds it, a password does not get through.
func FuzzURL(f *testing.F) {
	f.Add("https://", "user", "pw", "host/x")
	f.Add("https://", "", "a/b?c#d", "host:80")
	f.Fuzz(func(t *testing.T, scheme, user, password, host string) {
		const secret = "Zo3Eph6AeVoh"
		if strings.ContainsAny(user, ":@/?#") || strings.Contains(scheme, "/") || strings.Contains(user+scheme+host, secret) {
			return
		}
		text := scheme + "//" + user + ":" + secret + password + "@" + host
		if got := redact.URL(text); strings.Contains(got, secret) {
			t.Errorf("%q is shown as %q", text, got)
		}
		if _, err := redact.Parse(text); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
