package remote

import (
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// Retry returns the command `publish retry`.
func Retry(env cli.Env) *cobra.Command {
	var socket socketFlag
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "retry [ID...]", Short: "Make the daemon retry failed jobs", Args: cobra.ArbitraryArgs,
		Long:    "Make the daemon retry failed jobs: those with the given IDs, which `publish status` shows, or all of them.",
		Example: "  publish retry\n  publish retry 17 23",
		RunE: func(cmd *cobra.Command, args []string) error {
			var ids []int64
			for _, a := range args {
				id, err := strconv.ParseInt(a, 10, 64)
				if err != nil {
					return cli.Fail(cli.ExitUsage, fmt.Errorf("%q is no ID: want a number that `publish status` shows", a))
				}
				ids = append(ids, id)
			}
			c := socket.dial(env)
			defer c.Close()
			n, err := c.Retry(cmd.Context(), ids...)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Told(), "trying %s again\n", english.Plural(n.Jobs, "package", ""))
			return err
		},
	}
	socket.register(cmd.Flags())
	return cmd
}
