package github

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answers plays gh: what it prints for a path, or the error it ends with.
func answers(t *testing.T, script string) API {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gh"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return CLI()
}

func TestRepository(t *testing.T) {
	api := answers(t, `[ "$*" = "api --method GET repos/o/r" ] || exit 9
echo '{"id": 456789, "full_name": "O/r", "owner": {"id": 123456}, "more": 1}'`)
	got, err := api.Repository(context.Background(), "o", "r")
	if err != nil || got != (Repository{FullName: "O/r", OwnerID: "123456", ID: "456789"}) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestEnvironment(t *testing.T) {
	for text, want := range map[string]Environment{
		`{"protection_rules": [], "deployment_branch_policy": null, "can_admins_bypass": true}`:                                         {Bypass: true},
		`{"protection_rules": [{"type": "branch_policy"}], "deployment_branch_policy": {"protected_branches": true}}`:                   {Branches: true},
		`{"protection_rules": [{"type": "required_reviewers", "reviewers": [{"type": "User"}]}], "deployment_branch_policy": null}`:     {Reviewers: true},
		`{"protection_rules": [{"type": "required_reviewers", "reviewers": []}], "deployment_branch_policy": null}`:                     {},
		`{"protection_rules": [{"type": "wait_timer", "wait_timer": 30}], "deployment_branch_policy": {"custom_branch_policies":true}}`: {Branches: true},
	} {
		api := answers(t, `[ "$4" = "repos/o/r/environments/release%2Fprod" ] || exit 9
echo '`+text+`'`)
		got, err := api.Environment(context.Background(), "o", "r", "release/prod")
		if err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
}

func TestErrorsSayWhatGhSaid(t *testing.T) {
	ctx := context.Background()
	if _, err := answers(t, `echo 'gh: Not Found (HTTP 404)' >&2; exit 1`).Repository(ctx, "o", "r"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := answers(t, `echo 'To get started with GitHub CLI, please run:  gh auth login' >&2; echo more >&2; exit 4`).Repository(ctx, "o", "r"); err == nil ||
		!strings.Contains(err.Error(), "gh auth login") || strings.Contains(err.Error(), "more") {
		t.Error(err)
	}
	if _, err := answers(t, `echo 'no JSON'`).Repository(ctx, "o", "r"); err == nil || !strings.Contains(err.Error(), "repos/o/r") {
		t.Error(err)
	}
	if _, err := answers(t, `echo '{"message": "hello"}'`).Repository(ctx, "o", "r"); err == nil || !strings.Contains(err.Error(), "has no numbers") {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if CLI() != nil {
		t.Error("gh was found where it is not")
	}
}
