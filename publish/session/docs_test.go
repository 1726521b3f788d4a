package session_test

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
)

// page is docs/authentication.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/authentication.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// document is the policy that the page shows under a name.
func document(t *testing.T, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page(t), "<!-- "+name+" -->\n```json\n")
	text, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatalf("no %s", name)
	}
	return text
}

func TestTheDocumentedSessionPolicyIsOurs(t *testing.T) {
	scope := usual
	scope.Bucket = "my-cache"
	var shown, ours any
	for text, into := range map[string]*any{document(t, "session policy"): &shown, session.SessionPolicy(scope): &ours} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(ours, shown); diff != "" {
		t.Errorf("-ours +shown\n%s", diff)
	}
}

func TestTheDocumentedTrustPolicyIsOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, job(sessiontest.Job{Environment: "release"}))
		s.HookSTS(sessiontest.Always(sessiontest.Denied))
		_, err := s.retrieve(t)
		var failed *session.AuthError
		if !errors.As(err, &failed) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(failed.TrustPolicy, strings.TrimSpace(document(t, "trust policy"))); diff != "" {
			t.Errorf("-ours +shown\n%s", diff)
		}
	})
}

// All messages that are documented exist, and all that exist are documented, but those that
// are in AWS's own words.
func TestMessagesAreDocumented(t *testing.T) {
	_, section, _ := strings.Cut(page(t), "## When it does not work")
	var shown []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(section, -1) {
		shown = append(shown, m[1])
	}
	for _, text := range shown {
		if !slices.ContainsFunc(diagnoses, func(d diagnosis) bool { return strings.Contains(d.want, text) }) {
			t.Errorf("nobody says %q", text)
		}
	}
	for _, d := range diagnoses {
		said, _, _ := strings.Cut(d.want, "\n")
		foreign := d.name == "unavailable" || d.name == "something else"
		if known := slices.ContainsFunc(shown, func(text string) bool { return strings.Contains(said, text) }); !known && !foreign {
			t.Errorf("not on the page: %s", said)
		}
	}
}
