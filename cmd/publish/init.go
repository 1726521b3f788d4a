package main

import (
	"fmt"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/setup"
)

const initHelp = `Write a first publish.yaml into the current directory, with an explanation of each setting.

On a terminal it asks for what is not given. Elsewhere DESTINATION must be given, and SOURCE
too, unless exactly one directory here holds mirrors. Optional settings that are not given are
written as comments, with the region and the keys found here. On a terminal it also asks AWS which
CloudFront distribution serves the bucket.

With --workflow it also writes .github/workflows/publish.yml, a GitHub workflow that publishes with
the action. The workflow takes the role from the variable AWS_ROLE_ARN of the repository or, with
--endpoint-url, keys from its secrets.

The settings are checked as publish checks them, without a request. Existing files are never
overwritten: if one of the files exists, nothing is written.`

func initCommand(env cli.Env) *cobra.Command {
	var s setup.Settings
	cmd := &cobra.Command{
		GroupID: help.Preparing, Use: "init [flags] [[SOURCE] DESTINATION]", Short: "Write a first publish.yaml, and a GitHub workflow", Long: initHelp,
		Example: "  publish init\n  publish init --workflow --region eu-central-1 ./buildcache s3://bucket/noble/spack",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("%s, want: publish init [flags] [[SOURCE] DESTINATION]", english.Plural(len(args), "argument", "")))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			given := cmd.Flags().Changed
			if n := len(args); n > 0 {
				s.Destination = args[n-1]
				if n == 2 {
					s.Source = args[0]
				}
			}
			return s.Run(cmd.Context(), env, func(name string) bool {
				return given(name) || name == "source" && s.Source != "" || name == "destination" && s.Destination != ""
			})
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&s.Workflow, "workflow", false, "write a GitHub workflow for the action, too")
	fs.StringVar(&s.Region, "region", "", "region of the bucket; default: publish asks AWS")
	fs.StringVar(&s.Endpoint, "endpoint-url", "", "`URL` of an S3 that is not Amazon's: MinIO, Ceph, R2")
	fs.StringVar(&s.Distribution, "distribution-id", "", "CloudFront distribution in which to invalidate changed objects, such as E2QWRUHAPOMQZL")
	fs.StringVar(&s.PublicURL, "public-url", "", "`URL` at which clients find DESTINATION: the new index is read back through it")
	fs.BoolVar(&s.RequireSigned, "require-signed", false, "refuse packages that are not signed")
	cli.TrustedKeysFlag(fs, &s.TrustedKeys, "`FILE` of armored public keys: refuse signatures by any other key")
	return cmd
}
