package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/doctor"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

const doctorHelp = `Check whether a destination can hold a mirror, or whether a daemon can do what its
configuration says, and say what to do where it cannot.

With DESTINATION it checks credentials, permissions, the clock, and the features of the store that
publishing uses: conditional writes, complete listings, checksums, uploads in parts,
Cache-Control. A missing feature that publishing does not need is a note, which says how publishing
works without it. Small objects are written below publish-doctor and publish-doctor.d, and deleted
again if that is allowed.

Without DESTINATION it checks the daemon and each mirror of its configuration: the source,
credentials, permissions, conditional writes, the clock, CloudFront, and whether the bucket discards
unfinished uploads. It writes one small object, publish-doctor, and an invalidation of its path. With
mode: indexer it checks the queue instead of a source; it takes no message and writes no object.

With --no-write it only reads.`

func doctorCommand(env cli.Env) *cobra.Command {
	var config string
	var noWrite bool
	var place target.Config
	cmd := &cobra.Command{
		GroupID: help.Preparing, Use: "doctor [DESTINATION]", Short: "Check a destination, or the daemon's configuration and permissions", Long: doctorHelp,
		Example: "  publish doctor --endpoint-url https://minio.example.org s3://bucket/noble/spack\n  publish doctor --config /etc/slurm-factory-publish/config.yaml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("%d arguments, want: publish doctor [DESTINATION]", len(args)))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if cmd.Flags().Changed("config") {
					return cli.Fail(cli.ExitUsage, errors.New("--config checks a daemon: give it or DESTINATION, not both"))
				}
				if err := errors.Join(cli.CheckPlace(args[0]), place.Validate()); err != nil {
					return cli.Usage(err)
				}
				return doctor.Store(cmd.Context(), env, args[0], place, !noWrite)
			}
			c, err := service.ReadConfig(config)
			if errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config") {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("%w: give a DESTINATION to check it, or --config to check a daemon", err))
			}
			if err != nil {
				return err
			}
			return doctor.Host(cmd.Context(), env, c, !noWrite)
		},
	}
	cmd.Flags().StringVar(&config, "config", service.DefaultConfig, "`FILE` with the configuration of the daemon")
	cmd.Flags().BoolVar(&noWrite, "no-write", false, "only read")
	cli.PlaceFlags(cmd.Flags(), &place)
	return cmd
}
