// Package github asks GitHub about repositories and environments, through the gh
// command line tool and with the identity that is signed in there.
//
// Nothing depends on it: where gh is missing or not signed in, callers continue
// without its answers and say what they did not examine.
package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"time"
)

// An API answers a GET of a path of GitHub's REST API, such as repos/o/r.
type API func(ctx context.Context, path string) ([]byte, error)

// ErrNotFound is what GitHub answers for what does not exist or may not be seen.
var ErrNotFound = errors.New("not found")

// patience is how long gh may take for one answer.
const patience = 20 * time.Second

// CLI is the API through gh, or nil when gh is not installed.
func CLI() API {
	path, err := exec.LookPath("gh")
	if err != nil {
		return nil
	}
	return func(ctx context.Context, endpoint string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, "api", "--method", "GET", endpoint)
		cmd.WaitDelay = time.Second
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		switch said := strings.TrimSpace(stderr.String()); {
		case err == nil:
			return stdout.Bytes(), nil
		case strings.Contains(said, "HTTP 404"):
			return nil, fmt.Errorf("gh api %s: %w", endpoint, ErrNotFound)
		case said != "":
			said, _, _ = strings.Cut(said, "\n")
			return nil, fmt.Errorf("gh api %s: %s", endpoint, said)
		}
		return nil, fmt.Errorf("gh api %s: %w", endpoint, err)
	}
}

// A Repository is what tokens of its workflows say of it.
type Repository struct {
	// FullName is OWNER/NAME as GitHub writes it today: after a rename, the new one.
	FullName string
	// OwnerID and ID are the numbers of owner and repository.
	OwnerID, ID string
}

// Repository looks a repository up.
func (api API) Repository(ctx context.Context, owner, name string) (Repository, error) {
	var answer struct {
		FullName string `json:"full_name"`
		ID       json.Number
		Owner    struct{ ID json.Number }
	}
	if err := api.read(ctx, "repos/"+url.PathEscape(owner)+"/"+url.PathEscape(name), &answer); err != nil {
		return Repository{}, err
	}
	if answer.ID == "" || answer.Owner.ID == "" {
		return Repository{}, fmt.Errorf("GitHub's answer for %s/%s has no numbers", owner, name)
	}
	return Repository{FullName: answer.FullName, OwnerID: answer.Owner.ID.String(), ID: answer.ID.String()}, nil
}

// An Environment is what guards the jobs that run in it.
type Environment struct {
	// Reviewers is whether a person must approve each job.
	Reviewers bool
	// Branches is whether only some branches or tags may deploy to it.
	Branches bool
	// Bypass is whether administrators can pass the rules.
	Bypass bool
}

// Environment looks an environment of a repository up.
func (api API) Environment(ctx context.Context, owner, repo, name string) (Environment, error) {
	var answer struct {
		CanAdminsBypass bool `json:"can_admins_bypass"`
		ProtectionRules []struct {
			Type      string
			Reviewers []json.RawMessage
		} `json:"protection_rules"`
		DeploymentBranchPolicy *json.RawMessage `json:"deployment_branch_policy"`
	}
	path := "repos/" + url.PathEscape(owner) + "/" + url.PathEscape(repo) + "/environments/" + url.PathEscape(name)
	if err := api.read(ctx, path, &answer); err != nil {
		return Environment{}, err
	}
	e := Environment{Branches: answer.DeploymentBranchPolicy != nil, Bypass: answer.CanAdminsBypass}
	for _, rule := range answer.ProtectionRules {
		e.Reviewers = e.Reviewers || rule.Type == "required_reviewers" && len(rule.Reviewers) > 0
	}
	return e, nil
}

func (api API) read(ctx context.Context, path string, into any) error {
	body, err := api(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GitHub's answer for %s: %w", path, err)
	}
	return nil
}
