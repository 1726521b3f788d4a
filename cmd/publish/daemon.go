package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
)

const daemonHelp = `Publish packages of local mirrors as soon as they are complete.

A package is complete when its manifest exists, and every blob that the manifest names exists with
the right digest. Accepted work is kept on disk until it is published or has failed with a
reason, across crashes of the process or the machine.

SIGTERM stops it; the next start continues the unfinished work. SIGHUP reloads the
configuration.`

func daemonCommand(env cli.Env) *cobra.Command {
	var config string
	var example bool
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "daemon", Short: "Publish packages of local mirrors as they are completed", Long: daemonHelp, Args: cli.Arguments,
		Example: "  publish daemon --print-example-config\n  publish daemon --config /etc/slurm-factory-publish/config.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if example {
				_, err := io.WriteString(env.Stdout, service.Example)
				return err
			}
			return service.Run(cmd.Context(), env, config)
		},
	}
	cmd.Flags().StringVar(&config, "config", service.DefaultConfig, "`FILE` with the configuration")
	cmd.Flags().BoolVar(&example, "print-example-config", false, "print a configuration that explains every key")
	return cmd
}
