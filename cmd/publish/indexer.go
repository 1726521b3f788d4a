package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
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

// An indexer heals mirrors below a destination.
type indexer struct {
	destination *target.Destination
	cdn         *target.CDN
	trust       buildcache.Trust
	healed      func(healedMirror)
}

// A healedMirror is what an indexer did, and left.
type healedMirror struct {
	Mirror     string               `json:"mirror"` // below DESTINATION; empty for DESTINATION itself
	Names      int                  `json:"names"`  // that were told
	Indices    []reindex.Healed     `json:"indices"`
	Left       map[string]string    `json:"left"` // names that are looked at again, and why
	Invalidate *target.Invalidation `json:"invalidation,omitempty"`
	Seconds    float64              `json:"seconds"`
}

// A message is hidden anew three times in this time, which must not be so short that a slow
// request is too late. SQS hides for twelve hours at most.
const (
	shortestTakeover = 10 * time.Second
	longestTakeover  = 12 * time.Hour
)

func indexerCommand(env cli.Env) *cobra.Command {
	i := indexService{config: &daemonConfig{}} // of which an indexer without a file has the two addresses
	var asJSON bool
	cmd := &cobra.Command{
		Use: "indexer DESTINATION", Short: "Keep the indices of a bucket right, by what S3 tells a queue", Long: indexerHelp, Args: arguments,
		Example: "  publish indexer --queue sqs://sqs.us-east-1.amazonaws.com/111122223333/indexer s3://bucket",
		RunE: func(cmd *cobra.Command, args []string) error {
			i.destination = args[0]
			return runIndexer(cmd.Context(), i, asJSON, env)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&i.queue, "queue", "", "`URL` of the queue, as SQS shows it or with sqs:// in front, or its ARN")
	fs.DurationVar(&i.settle, "settle", 3*time.Second, "look at a mirror when nothing has been told of it for this time, or for ten times as long there was always something")
	fs.DurationVar(&i.takeover, "takeover", 2*time.Minute, "another host takes over what a dead one has held for this time")
	fs.StringVar(&i.config.Listen, "listen", "", "loopback `ADDRESS` for the status page, metrics and health, such as 127.0.0.1:9464")
	fs.StringVar(&i.config.Socket, "socket", "", "`PATH` of a socket at which publish status finds the indexer")
	fs.BoolVar(&asJSON, "json", false, "print one JSON document a line, for each time a mirror was looked at")
	cli.StorageFlags(fs, &i.target)
	fs.BoolVar(&i.requireSigned, "require-signed", false, "index no package that is not signed")
	fs.StringVar(&i.trustedKeys, "trusted-keys", "", "`FILE` of armored public keys: index no package that is signed by any other")
	cli.CDNFlags(fs, &i.target.CDN)
	return cmd
}

func runIndexer(ctx context.Context, i indexService, asJSON bool, env cli.Env) error {
	if i.config.Listen != "" {
		if err := onLoopback(i.config.Listen); err != nil {
			return cli.Fail(cli.ExitUsage, fmt.Errorf("--listen %s: %w", i.config.Listen, err))
		}
	}
	i.stalled, i.log, i.healed = defaultStalled, env.Log(), printer(asJSON, env)
	return i.serve(ctx)
}

// An indexService serves a queue, as it is configured.
type indexService struct {
	target           target.Config
	requireSigned    bool
	trustedKeys      string
	destination      string
	queue            string
	settle, takeover time.Duration
	stalled          time.Duration // without progress it is not healthy
	log              *slog.Logger
	healed           func(healedMirror)
	config           *daemonConfig               // says where is answered, and for whom
	load             func(context.Context) error // on SIGHUP, which hangups tells of; nil: that stops it
	hangups          <-chan os.Signal
}

// check returns all that is wrong with it, as errors of package field.
func (i indexService) check() error {
	var errs []error
	if i.settle <= 0 {
		errs = append(errs, field.Wrap("settle", fmt.Errorf("%s: want more than nothing", i.settle)))
	}
	if i.takeover < shortestTakeover || i.takeover > longestTakeover {
		errs = append(errs, field.Wrap("takeover", fmt.Errorf("%s: want %s to %s", i.takeover, shortestTakeover, longestTakeover)))
	}
	if u, err := url.Parse(i.destination); err != nil || u.Scheme != "s3" {
		errs = append(errs, field.Refuse("destination", redact.URL(i.destination), "want s3://bucket[/prefix]: only S3 tells a queue"))
	}
	if _, err := events.Open(aws.Config{}, i.queue); err != nil {
		errs = append(errs, field.Wrap("queue", err))
	}
	return errors.Join(errs...)
}

// serve serves the queue until ctx ends, which is no error.
func (i indexService) serve(ctx context.Context) error {
	trust, err := cli.ReadTrust(i.requireSigned, i.trustedKeys)
	if err = errors.Join(i.check(), i.target.Validate(), err); err != nil {
		return cli.Usage(err)
	}
	x := indexer{trust: trust, healed: i.healed}
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(i.destination, "s3://"), "/")
	host := events.New(events.Config{
		Address: i.queue, Bucket: bucket, Prefix: strings.Trim(prefix, "/"), Heal: x.heal,
		Settle: i.settle, Longest: 10 * i.settle, Hidden: i.takeover, Stalled: i.stalled, Log: i.log,
	})
	metrics := api.NewIndexerMetrics(host, version)
	observe := func(r s3.Request) {
		metrics.Request(r.Operation, strconv.Itoa(r.Status))
		if r.Status != 0 {
			host.Progress()
		}
	}
	if x.destination, err = target.Open(ctx, i.destination, i.target, target.Environment{Log: i.log, Observe: observe, Answered: host.Progress}); err != nil {
		return err
	}
	defer x.destination.Close()
	if x.cdn, err = x.destination.OpenCDN(ctx, nil); err != nil {
		return err
	}
	cfg, err := x.destination.AWSConfig(ctx)
	if err != nil {
		return err
	}
	if host.Queue, err = events.Open(cfg, i.queue); err != nil {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--queue: %w", err))
	}
	return i.attend(ctx, host, metrics)
}

// heal brings a mirror in line with what is there, and then the CDN with the mirror.
func (x *indexer) heal(ctx context.Context, j events.Job) (events.Outcome, error) {
	began := time.Now()
	healed, err := reindex.Heal(ctx, x.destination.Mirror(j.Mirror), x.trust, reindex.Changes{Names: j.Names, Repeated: j.Again})
	if err != nil {
		return turned(healed), err
	}
	out := healedMirror{Mirror: j.Mirror, Names: len(j.Names), Indices: healed, Left: map[string]string{}}
	for _, h := range healed {
		for _, f := range h.Findings {
			if slices.Contains(j.Names, f.File) {
				out.Left[f.File] = f.Reason
			}
		}
	}
	var all target.Changes
	for _, h := range healed {
		all.Add(h.Expectation(j.Mirror), h.Stale)
	}
	came := turned(healed)
	if out.Invalidate, err = x.cdn.Update(ctx, all); err != nil {
		came.Owed = true
		return came, err
	}
	came.Left, came.Told = out.Left, out.Invalidate != nil
	out.Seconds = time.Since(began).Seconds()
	x.healed(out)
	return came, nil
}

// turned is what is known of a mirror's indices.
func turned(healed []reindex.Healed) events.Outcome {
	var o events.Outcome
	for _, h := range healed {
		o.Indices = append(o.Indices, events.Index{Layout: h.Layout, Packages: h.After, Bytes: h.Bytes, Written: h.Changed})
	}
	return o
}

// printer tells what was done, and as text nothing of what was in order already.
func printer(asJSON bool, env cli.Env) func(healedMirror) {
	var mu sync.Mutex // guards the output, while one is printed
	return func(m healedMirror) {
		mu.Lock()
		defer mu.Unlock()
		if asJSON {
			_ = json.NewEncoder(env.Stdout).Encode(m)
			return
		}
		for _, h := range m.Indices {
			if h.Changed {
				escape.Fprintf(env.Stdout, "%s%s index: %s added, %d in all (%.1f s)\n",
					prefixed(m.Mirror), h.Layout, english.Plural(len(h.Indexed), "package", ""), h.After, m.Seconds)
			}
		}
		if n := len(m.Left); n > 0 {
			escape.Fprintf(env.Stdout, "%s%s looked at again later\n", prefixed(m.Mirror), english.Plural(n, "name is", "names are"))
		}
	}
}
