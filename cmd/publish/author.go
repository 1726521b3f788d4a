package main

import (
	"fmt"
	"os"

	"github.com/vantagecompute/slurm-factory-publish/publish/history"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// authorOf returns the author of a change, for the history of an index: in a GitHub workflow its repository,
// ref and run, elsewhere the user and the host.
func authorOf(e cli.Env, command string) history.Author {
	a := history.Author{Command: command}
	if e.Lookup == nil {
		return a
	}
	if repository := e.Getenv("GITHUB_REPOSITORY"); repository != "" && e.Getenv("GITHUB_ACTIONS") == "true" {
		a.By = repository
		if ref := e.Getenv("GITHUB_REF"); ref != "" {
			a.By += "@" + ref
		}
		if actor := e.Getenv("GITHUB_ACTOR"); actor != "" {
			a.By += " by " + actor
		}
		if id := e.Getenv("GITHUB_RUN_ID"); id != "" {
			a.Run = fmt.Sprintf("%s/%s/actions/runs/%s/attempts/%s", e.Getenv("GITHUB_SERVER_URL"), repository, id, e.Getenv("GITHUB_RUN_ATTEMPT"))
		}
		return a
	}
	host, _ := os.Hostname() // a record may lack the host
	a.By = host
	if user := e.Getenv("USER"); user != "" {
		a.By = user + "@" + host
	}
	return a
}
