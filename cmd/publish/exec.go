package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/wrap"
)

const execHelp = `Run a command, publish the packages that it builds while it runs, and the rest when it has ended.

First, credentials, the permission to list the destination and conditional writes are checked;
nothing is stored. If a check fails, the command is not started.

SOURCE is the directory in which the command stores packages, such as a mirror that Spack pushes to.
Packages are published as soon as they are complete, including those that exist before the command
starts. SOURCE, DESTINATION and flags are those of publish, and may also be given in the environment
or in publish.yaml. The command gets the socket of the daemon in PUBLISH_SOCKET, so its hooks can
call publish push.

With --dry-run the command runs, and its packages are planned but not published. --files and --index
rebuild take effect once: when the command has ended and all packages are published.

The exit code is that of the command if it is not 0, and otherwise that of publishing: 4 if packages
were refused or are incomplete, 5 if the destination cannot be used, 7 if an invalidation failed.`

func execCommand(env cli.Env) *cobra.Command {
	var p publishing
	var allowEmpty bool
	cmd := &cobra.Command{
		GroupID: help.Publishing, Use: "exec [flags] [SOURCE DESTINATION] -- COMMAND [ARG...]", Short: "Publish what a command builds while it runs", Long: execHelp,
		Example: "  publish exec ./buildcache s3://bucket/noble/spack -- spack install --fail-fast",
		Args: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			if n < 0 || n == len(args) {
				return cli.Fail(cli.ExitUsage, errors.New("no COMMAND after --: see publish exec --help"))
			}
			return sourceAndDestination(cmd, args[:n])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			for _, name := range always {
				if cmd.Flags().Changed(name) {
					return cli.Fail(cli.ExitUsage, fmt.Errorf("--%s: publish exec takes no such flag: it checks everything, publishes the good packages, and prints the output of COMMAND; the flag is for publish", name))
				}
			}
			p.rules.KeepGoing = true
			j, err := p.read(cmd, args[:n], env)
			if err == nil {
				j.Source, err = filepath.Abs(j.Source)
			}
			if err != nil {
				return cli.Fail(cli.ExitUsage, err)
			}
			introduce(j)
			env.Output = p.output
			return wrap.Run(cmd.Context(), env, j, wrap.Options{Timeout: p.timeout, AllowEmpty: allowEmpty}, args[n:])
		},
	}
	p.register(cmd)
	cmd.SetFlagErrorFunc(cli.FlagErrors(env, p.mistakes(env)))
	fs := cmd.Flags()
	fs.BoolVar(&allowEmpty, "allow-empty", false, "succeed even if SOURCE holds no package when the command has ended; by default the exit code is 4")
	fs.Lookup("timeout").Usage = "stop publishing this long after the command has ended, such as 30m; 0: never"
	for _, name := range always {
		fs.Lookup(name).Hidden = true
	}
	return cmd
}

// always lists flags of publish whose effect publish exec has always, or never. As settings in the environment
// or in publish.yaml they have no effect, so one environment or file serves both commands.
var always = []string{"keep-going", "verify-source", "json"}
