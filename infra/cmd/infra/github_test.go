package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/github"
)

// asked completes the settings of a command line with what GitHub answers.
func asked(t *testing.T, api github.API, args ...string) (infra.Config, string) {
	t.Helper()
	var errs bytes.Buffer
	tool := &tool{environment: environment{stderr: &errs}, settings: newSettings()}
	// Without alarms, so that the lack of an address for them is no warning.
	if err := tool.flags.Parse(append(args, "--alarms=false")); err != nil {
		t.Fatal(err)
	}
	c, err := tool.stack()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = tool.askGitHub(context.Background(), api, c); err != nil {
		t.Fatal(err)
	}
	return c, errs.String()
}

// TestNumbersAreAskedOfGitHub: a role trusts a repository by its numbers although nobody
// wrote them down.
func TestNumbersAreAskedOfGitHub(t *testing.T) {
	var paths []string
	api := func(_ context.Context, path string) ([]byte, error) {
		paths = append(paths, path)
		if path == "repos/o/r" {
			return []byte(`{"id": 2, "full_name": "o/r", "owner": {"id": 1}}`), nil
		}
		return []byte(`{"id": 222, "full_name": "vantagecompute/slurm-factory", "owner": {"id": 111}}`), nil
	}
	c, said := asked(t, api, "--publisher", "name=own,ref=refs/heads/main", "--publisher", "name=other,repo=o/r,environment=release",
		"--publisher", "name=given,repo=o/g,owner-id=7,repo-id=8,environment=release")
	want := []string{"111 222", "111 222", "111 222", "1 2", "7 8"}
	for i, p := range c.Publishers {
		if got := p.OwnerID + " " + p.RepoID; got != want[i] {
			t.Errorf("%s: %s, want %s", p.Name, got, want[i])
		}
	}
	if said != "" || len(c.Warnings()) != 0 {
		t.Errorf("said %q, warnings %q", said, c.Warnings())
	}
	if strings.Join(paths, " ") != "repos/vantagecompute/slurm-factory repos/o/r" {
		t.Errorf("asked %q, want each unknown repository once", paths)
	}
}

func TestNumbersThatAreGivenAreKept(t *testing.T) {
	api := func(context.Context, string) ([]byte, error) { t.Error("asked"); return nil, errors.New("asked") }
	c, _ := asked(t, api, "--github-owner-id", "5", "--github-repo-id", "6")
	if p := c.Publishers[1]; p.OwnerID != "5" || p.RepoID != "6" {
		t.Errorf("%+v", p)
	}
}

// TestWithoutGitHub: no gh, or none that is signed in, is a warning and no failure.
func TestWithoutGitHub(t *testing.T) {
	if c, said := asked(t, nil); said != "" || len(c.Warnings()) != 2 {
		t.Errorf("said %q, warnings %q", said, c.Warnings())
	}
	c, said := asked(t, func(context.Context, string) ([]byte, error) { return nil, errors.New("gh: not signed in") })
	if said != "warning: gh: not signed in\n" || len(c.Warnings()) != 2 {
		t.Errorf("said %q, warnings %q", said, c.Warnings())
	}
}

// TestARenamedRepositoryIsNoticed: its tokens carry the new name.
func TestARenamedRepositoryIsNoticed(t *testing.T) {
	_, said := asked(t, func(context.Context, string) ([]byte, error) {
		return []byte(`{"id": 222, "full_name": "VantageCompute/factory", "owner": {"id": 111}}`), nil
	})
	if !strings.Contains(said, "GitHub calls vantagecompute/slurm-factory VantageCompute/factory") {
		t.Errorf("said %q", said)
	}
}
