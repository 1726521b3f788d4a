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

const execHelp = `Run a command and publish what it builds while it runs, and the rest when it has ended.

Before the command is started, credentials, the right to list the destination and conditional writes are
tried; nothing is stored by that. If one fails, the command is not started.

SOURCE is where the command leaves packages, such as a mirror that Spack pushes to. They are published
as soon as they are complete, and so are those that are there already. SOURCE, DESTINATION and flags are
those of publish, and may be given as for it: in the environment, or in publish.yaml. The command
finds the socket of the daemon in PUBLISH_SOCKET, so a hook of it may call publish push.

With --dry-run the command runs, and what it has built is planned, and not published. What can be done
only once, --files and --index rebuild, is done when the command has ended and all else is published.

The exit code is that of the command, if that is not 0, and else that of publishing: 4 if packages
were refused or are not complete, 5 if the destination cannot be used, 7 if an
invalidation failed.`

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
					return cli.Fail(cli.ExitUsage, fmt.Errorf("--%s: publish exec takes no such flag: it checks everything, publishes what is good, and prints what COMMAND prints; give it to publish", name))
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
	fs.BoolVar(&allowEmpty, "allow-empty", false, "SOURCE may hold no package when the command has ended; without this the exit code is 4")
	fs.Lookup("timeout").Usage = "stop publishing when the command has ended for so long, such as 30m; 0: never"
	for _, name := range always {
		fs.Lookup(name).Hidden = true
	}
	return cmd
}

// always are flags of publish whose effect publish exec has always, or never. As settings in the environment or
// publish.yaml they have no effect, so that these do for both.
var always = []string{"keep-going", "verify-source", "json"}
