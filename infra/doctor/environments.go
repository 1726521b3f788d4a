package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/infra/github"
	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// A gate is a GitHub environment that guards a role.
type gate struct {
	owner, repo, environment string
	role                     string
	power                    string // what the role may do
	branch                   bool   // the role itself demands a branch or tag
}

// environments examines, through gh, whether the environments that the roles trust are
// protected: a role is as safe as the environment that its jobs must run in.
func (d Doctor) environments(ctx context.Context) ([]Finding, error) {
	gates, err := d.Stack.gates()
	if err != nil || len(gates) == 0 {
		return nil, err
	}
	if d.GitHub == nil {
		return []Finding{doubtful("environments", "install gh, and gh auth login", "the protection of %d GitHub environments was not examined: gh is not installed", len(gates))}, nil
	}
	var all []Finding
	for _, g := range gates {
		check := "environment " + g.environment
		e, err := d.GitHub.Environment(ctx, g.owner, g.repo, g.environment)
		switch {
		case errors.Is(err, github.ErrNotFound):
			all = append(all, broken(check, "create and protect it in the settings of "+g.owner+"/"+g.repo+"; if it is there, gh auth login with an account that may see it",
				"%s/%s has no such environment: the next workflow that names it makes it, unprotected, and assumes %s", g.owner, g.repo, g.role))
		case err != nil:
			all = append(all, unexamined(check, err))
		default:
			all = append(all, orWell(g.judge(check, e), check, "it is protected, and guards %s", g.role)...)
		}
	}
	return all, nil
}

const publishes = "publish"

// power is what a role may do, by the name of its policy.
func (r role) power() string {
	for name, power := range map[string]string{"maintain": "delete packages", "infra": "deploy the stack"} {
		if _, ok := r.inline[name]; ok {
			return power
		}
	}
	return publishes
}

func (g gate) judge(check string, e github.Environment) []Finding {
	settings := "https://github.com/" + g.owner + "/" + g.repo + "/settings/environments"
	var found []Finding
	strong := g.power != publishes
	switch {
	case strong && !e.Reviewers:
		found = append(found, doubtful(check, "add required reviewers: "+settings, "a job in it can %s with %s, and needs nobody's approval", g.power, g.role))
	case !strong && !e.Reviewers && !e.Branches && !g.branch:
		found = append(found, broken(check, "restrict its deployment branches, or add required reviewers: "+settings,
			"it has no protection: everybody who can push a branch to %s/%s can %s with %s", g.owner, g.repo, g.power, g.role))
	}
	if strong && !e.Branches && !g.branch {
		found = append(found, doubtful(check, "restrict its deployment branches: "+settings, "any branch of %s/%s may run a job in it", g.owner, g.repo))
	}
	return found
}

// gates are the environments in the trust policies of the stack, in the order of the roles.
func (s Stack) gates() ([]gate, error) {
	roles, err := s.roles()
	if err != nil {
		return nil, err
	}
	var all []gate
	for _, r := range roles {
		for _, st := range r.trust.Statement {
			for _, g := range gatesOf(st) {
				g.role, g.power = r.name, r.power()
				if !slices.Contains(all, g) {
					all = append(all, g)
				}
			}
		}
	}
	return all, nil
}

func gatesOf(st policy.Statement) []gate {
	var all []gate
	for _, subject := range claimsOf(st, "sub") {
		repository, environment, ok := strings.Cut(strings.TrimPrefix(subject, "repo:"), ":environment:")
		if !ok || strings.Contains(repository, "@") { // the same repository with its numbers
			continue
		}
		g := gate{branch: len(claimsOf(st, "ref")) > 0}
		g.owner, g.repo, _ = strings.Cut(repository, "/")
		var err error
		if g.environment, err = url.PathUnescape(environment); err != nil {
			g.environment = environment
		}
		all = append(all, g)
	}
	return all
}

// claimsOf are the values that a statement accepts of a claim of GitHub's tokens.
func claimsOf(st policy.Statement, claim string) []string {
	var all []string
	for _, byKey := range st.Condition {
		for key, values := range byKey {
			if strings.HasSuffix(key, ":"+claim) {
				all = append(all, values...)
			}
		}
	}
	return all
}

// nameless says of a role that trusts a repository by its name only.
func nameless(check string, trust policy.Document) []Finding {
	for _, st := range trust.Statement {
		if repository := claimsOf(st, "repository"); len(claimsOf(st, "sub")) > 0 && len(claimsOf(st, "repository_id")) == 0 {
			name, path := "the repository", "OWNER/NAME"
			if len(repository) > 0 {
				name, path = repository[0], repository[0]
			}
			return []Finding{doubtful(check, "infra deploy with --github-owner-id and --github-repo-id (owner-id and repo-id of a --publisher): gh api repos/"+path+" --jq '.owner.id, .id' prints them",
				"it knows %s by name only: one made, renamed or transferred after 15 July 2026 cannot assume it", name)}
		}
	}
	return nil
}

// unexamined is the finding for what could not be read.
func unexamined(check string, err error) Finding {
	return Finding{Check: check, Severity: Fail, Detail: fmt.Sprintf("could not be examined: %v", err), Fix: denied(err)}
}
