package main

import (
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const actionHelp = `Publish as a step of a GitHub workflow: the entry point of the container action. The inputs
are INPUT_* variables, see docs/action.md; flags, PUBLISH_* variables and publish.yaml are
ignored.

The step publishes, or runs the command in INPUT_COMMAND, which obeys PUBLISH_* variables as
on a command line. Results go to the log of the step, to its outputs and to its summary,
also when the step fails or is cancelled.`

func actionCommand(env cli.Env) *cobra.Command {
	return &cobra.Command{
		GroupID: help.Other, Use: "action", Short: "Publish as a step of a GitHub workflow", Long: actionHelp, Args: cobra.NoArgs,
		Example: "  publish action  # in its container: see docs/action.md",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return action.Run(cmd.Context(), env, perform, checkCommand)
		},
	}
}
