package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/github"
)

// askGitHub completes the settings with the numbers of the repositories that the roles
// trust, where gh is there to ask. Without an answer the configuration stays as it is,
// and its own warnings say what that means.
func (t *tool) askGitHub(ctx context.Context, api github.API, c infra.Config) (infra.Config, error) {
	if api == nil {
		return c, nil
	}
	asked := map[string]github.Repository{}
	for _, p := range c.Publishers {
		name := p.Owner + "/" + p.Repo
		if _, done := asked[name]; done || p.OwnerID != "" || p.RepoID != "" {
			continue
		}
		r, err := api.Repository(ctx, p.Owner, p.Repo)
		if err != nil {
			fmt.Fprintf(t.stderr, "warning: %v\n", err)
		} else if r.FullName != name {
			fmt.Fprintf(t.stderr, "warning: GitHub calls %s %s, and its tokens do so letter by letter: correct --github-org and --github-repo, or repo= of the --publisher\n", name, r.FullName)
		}
		asked[name] = r
	}
	if err := t.number(asked); err != nil {
		return c, err
	}
	return t.stack()
}

// number sets the numbers of the repositories where the settings lack them, as if they
// had been given.
func (s *settings) number(known map[string]github.Repository) error {
	main := known[s.githubOrg+"/"+s.githubRepo]
	if main.ID != "" && s.ownerID == "" && s.repoID == "" {
		for name, number := range map[string]string{"github-owner-id": main.OwnerID, "github-repo-id": main.ID} {
			if err := s.flags.Set(name, number); err != nil {
				return err
			}
		}
	}
	for i, text := range listOrNone(s.publishers) {
		p, err := s.parsePublisher(text)
		if err != nil {
			return err
		}
		if r := known[p.Owner+"/"+p.Repo]; r.ID != "" && p.OwnerID == "" && p.RepoID == "" {
			s.publishers[i] = strings.TrimSuffix(text, ",") + ",owner-id=" + r.OwnerID + ",repo-id=" + r.ID
		}
	}
	return nil
}
