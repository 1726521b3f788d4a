package remote

import (
	"fmt"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const forgetHelp = `Make the daemon forget mirrors that are no longer in its configuration.

The running daemon still invalidates caches for a mirror that was removed from the configuration. After a
restart it has no destination for these invalidations, and ` + "`publish status`" + ` shows them until this command
removes them, with the jobs of the mirror. Nothing is deleted from a source or a destination. If the mirror
is configured again, its packages are found again.

MIRROR is a name in the status. Without one, all mirrors that are not in the configuration are forgotten.`

// Forget returns the command `publish forget`.
func Forget(env cli.Env) *cobra.Command {
	var socket socketFlag
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "forget [MIRROR...]", Short: "Make the daemon forget removed mirrors", Args: cobra.ArbitraryArgs, Long: forgetHelp,
		Example: "  publish forget\n  publish forget '/srv/buildcache -> s3://my-cache/noble/spack'",
		RunE: func(cmd *cobra.Command, args []string) error {
			c := socket.dial(env)
			defer c.Close()
			f, err := c.Forget(cmd.Context(), args...)
			if err != nil {
				return err
			}
			if len(f.Mirrors) == 0 {
				_, err = fmt.Fprintln(env.Told(), "nothing to forget: every mirror that the daemon knows is in its configuration")
			}
			for _, m := range f.Mirrors {
				if err == nil {
					_, err = fmt.Fprintf(env.Told(), "forgot %s: %s, %s\n", m.Mirror, english.Plural(m.Jobs, "job", ""), english.Plural(m.Obligations, "obligation", ""))
				}
			}
			return err
		},
	}
	socket.register(cmd.Flags())
	return cmd
}
