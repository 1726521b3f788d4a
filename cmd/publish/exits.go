package main

import (
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// exitCodesTopic is the help topic that publish help exit-codes prints. It cannot be run.
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use: "exit-codes", Short: "What each exit code means, and what to do",
		Long: "An exit code keeps its meaning.\n\n" + cli.ExitTable(),
	}
}
