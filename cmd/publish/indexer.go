package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
)

const indexerHelp = `Keep the index, the key index and the CDN of every mirror below DESTINATION up to date, from
the events that S3 sends to an SQS queue, whichever program writes there. A plain "spack
buildcache push" without --update-index is enough. The indexer runs until it is stopped, and any
number of hosts may serve one queue.

The indexer reads the current state of each object that an event names, so late, repeated and
reordered events do no harm, and a deletion removes nothing from an index. A message is deleted
once the index is replaced and the CDN invalidated. A package whose content is missing is
checked again, after pauses that grow from 30 s to 15 min.

Stopped by a signal, it returns unfinished messages to the queue and exits with 0.`

func indexerCommand(env cli.Env) *cobra.Command {
	i := service.Indexer{}
	var asJSON bool
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "indexer DESTINATION", Short: "Keep the indices of a bucket up to date, from S3 events in a queue", Long: indexerHelp, Args: cli.Arguments,
		Example: "  publish indexer --queue sqs://sqs.us-east-1.amazonaws.com/111122223333/indexer s3://bucket",
		RunE: func(cmd *cobra.Command, args []string) error {
			i.Destination = args[0]
			return i.Run(cmd.Context(), env, asJSON)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&i.Queue, "queue", "", "`URL` of the queue, as SQS shows it or with sqs:// in front, or its ARN")
	fs.DurationVar(&i.Settle, "settle", 3*time.Second, "update a mirror after this long without events, or after ten times as long under constant events")
	fs.DurationVar(&i.Takeover, "takeover", 2*time.Minute, "another host takes over the messages of a dead host after this time")
	fs.StringVar(&i.Listen, "listen", "", "loopback `ADDRESS` for the status page, metrics and health, such as 127.0.0.1:9464")
	fs.StringVar(&i.Socket, "socket", "", "`PATH` of a socket at which publish status finds the indexer")
	fs.BoolVar(&asJSON, "json", false, "print one JSON document per line for each update of a mirror")
	cli.StorageFlags(fs, &i.Target)
	fs.BoolVar(&i.RequireSigned, "require-signed", false, "index signed packages only")
	cli.TrustedKeysFlag(fs, &i.TrustedKeys, "`FILE` of armored public keys: index no package that is signed by any other key")
	cli.CatalogFlag(fs, &i.Catalog)
	cli.CDNFlags(fs, &i.Target.CDN)
	return cmd
}
