package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
)

const indexerHelp = `Keep the index, the index of keys and the CDN of every mirror below DESTINATION right, whoever
writes to them, by what S3 tells an SQS queue: a plain "spack buildcache push" without
--update-index needs nothing more. It runs until it is stopped, and any number of hosts may
serve one queue.

What is told is looked at as it is now, so late, repeated and reordered messages do no harm, and
a deletion takes nothing out of an index. A message is deleted when the index is
turned and the CDN told. A package whose content is not there yet is looked at again, after
pauses that grow from 30 s to 15 min.

Stopped by a signal, it gives back what it has not finished and exits with 0.`

func indexerCommand(env cli.Env) *cobra.Command {
	i := service.Indexer{}
	var asJSON bool
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "indexer DESTINATION", Short: "Keep the indices of a bucket right, by what S3 tells a queue", Long: indexerHelp, Args: cli.Arguments,
		Example: "  publish indexer --queue sqs://sqs.us-east-1.amazonaws.com/111122223333/indexer s3://bucket",
		RunE: func(cmd *cobra.Command, args []string) error {
			i.Destination = args[0]
			return i.Run(cmd.Context(), env, asJSON)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&i.Queue, "queue", "", "`URL` of the queue, as SQS shows it or with sqs:// in front, or its ARN")
	fs.DurationVar(&i.Settle, "settle", 3*time.Second, "look at a mirror when nothing has been told of it for this time, or for ten times as long there was always something")
	fs.DurationVar(&i.Takeover, "takeover", 2*time.Minute, "another host takes over what a dead one has held for this time")
	fs.StringVar(&i.Listen, "listen", "", "loopback `ADDRESS` for the status page, metrics and health, such as 127.0.0.1:9464")
	fs.StringVar(&i.Socket, "socket", "", "`PATH` of a socket at which publish status finds the indexer")
	fs.BoolVar(&asJSON, "json", false, "print one JSON document a line, for each time a mirror was looked at")
	cli.StorageFlags(fs, &i.Target)
	fs.BoolVar(&i.RequireSigned, "require-signed", false, "index no package that is not signed")
	fs.StringVar(&i.TrustedKeys, "trusted-keys", "", "`FILE` of armored public keys: index no package that is signed by any other")
	cli.CDNFlags(fs, &i.Target.CDN)
	return cmd
}
