package session_test

import (
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
)

// A secret that was pasted with a line break works; one that cannot be right is named, and not shown.
func TestALineBreakAtTheEndOfACredential(t *testing.T) {
	for _, row := range []struct{ id, secret, token, wrong string }{
		{"AKIA", "secret", "token", ""},
		{"AKIA\n", "secret\r\n", "token\n", ""},
		{" AKIA\t", "\nsecret ", " token", ""},
		{"AKIA", "secret\n", "", ""},
		{"AK\nIA", "secret", "", "AWS_ACCESS_KEY_ID"},
		{"AKIA", "hunter2\nhunter3", "", "AWS_SECRET_ACCESS_KEY"},
		{"AKIA", "secret", "hunter2 hunter3", "AWS_SESSION_TOKEN"},
		{"AKIA", "hunter2\u200b", "", "AWS_SECRET_ACCESS_KEY"},
	} {
		t.Setenv("AWS_ACCESS_KEY_ID", row.id)
		t.Setenv("AWS_SECRET_ACCESS_KEY", row.secret)
		t.Setenv("AWS_SESSION_TOKEN", row.token)
		cfg, err := session.Config(t.Context(), session.Options{Region: "eu-central-1"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := cfg.Credentials.Retrieve(t.Context())
		if row.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), row.wrong) || strings.Contains(err.Error(), "hunter") {
				t.Errorf("%q: %v", row, err)
			}
			continue
		}
		if err != nil || c.AccessKeyID != "AKIA" || c.SecretAccessKey != "secret" || c.SessionToken != strings.TrimSpace(row.token) {
			t.Errorf("%q: %+v, %v", row, c, err)
		}
	}
}
