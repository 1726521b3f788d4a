// Command publish publishes Spack buildcaches to S3 or to a directory, keeps their indices right and
// invalidates stale objects in CloudFront.
//
// Only this package reads the environment, prints for people, and exits. Results go to standard output,
// progress and messages to standard error.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/once"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// version is the version of the release. It is a constant, so that the same source makes the same binary.
const version = "0.1.0-dev"

func main() {
	if os.Getenv("GOGC") == "" {
		collectLate()
	}
	os.Exit(run(context.Background(), cli.Env{
		Version: version, Args: os.Args[1:], Lookup: os.LookupEnv, Unset: os.Unsetenv, Environ: os.Environ, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}

func run(ctx context.Context, env cli.Env) int {
	return cli.Run(ctx, env, perform)
}

// perform runs the command that env.Args name.
func perform(ctx context.Context, env cli.Env) error { return command(env).ExecuteContext(ctx) }

// command returns the root command with the arguments of env.
func command(env cli.Env) *cobra.Command {
	cmd := rootCommand(env)
	cmd.InitDefaultCompletionCmd(env.Args...)
	refuseUnknown(cmd)
	refuseAsUsage(cmd)
	nameDestination(cmd)
	once.Watch(cmd)
	if len(env.Args) > 0 && strings.HasPrefix(env.Args[0], cobra.ShellCompRequestCmd) {
		help.Complete(cmd)
	}
	cmd.SetArgs(withList(cmd, env.Args))
	return cmd
}

// checkCommand returns an error if env.Args name no command, or have flags or arguments that the command does
// not take.
func checkCommand(_ context.Context, env cli.Env) error {
	root := command(env)
	cmd, args, err := root.Find(withList(root, env.Args))
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(args); err != nil {
		return cmd.FlagErrorFunc()(cmd, err)
	}
	if args = cmd.Flags().Args(); cmd.HasSubCommands() && cmd.HasParent() && len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return cmd.ValidateArgs(args)
}
