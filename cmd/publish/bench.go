package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/price"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/tune"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const benchHelp = `Measure how fast a bucket takes large files from here, with several settings of
--concurrency and --part-size, and print the best.

Bytes, time, requests and the price of the requests are bounded, and the bounds are printed
first. All objects are stored below one new directory of DESTINATION and removed at the end,
also when the command is stopped. With --dry-run only the bounds are printed.

It needs permission to delete the objects that it stores. Publishing does not.`

// A benchFlags holds the settings of a benchmark.
type benchFlags struct {
	target       target.Config
	bounds       tune.Bounds
	dryRun, json bool
}

func benchCommand(env cli.Env) *cobra.Command {
	f := benchFlags{bounds: tune.Bounds{Bytes: 8 << 30, Time: time.Minute}}
	cmd := &cobra.Command{
		GroupID: help.Preparing, Use: "bench DESTINATION", Short: "Measure which settings upload fastest to a bucket", Long: benchHelp, Args: cli.Arguments,
		Example: "  publish bench --dry-run s3://bucket/scratch\n  publish bench --max-time 30s s3://bucket/scratch",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBench(cmd.Context(), args[0], &f, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the bounds and do nothing")
	fs.BoolVar(&f.json, "json", false, "print one JSON document")
	fs.Var(quantity.Bytes(&f.bounds.Bytes), "max-bytes", "send at most about this much, such as 2GiB")
	fs.DurationVar(&f.bounds.Time, "max-time", f.bounds.Time, "measure for at most this time, such as 30s")
	cli.PlaceFlags(fs, &f.target)
	return cmd
}

// Smaller measurements are not reliable.
const (
	leastBytes = 512 << 20
	leastTime  = 2 * time.Second
)

func runBench(ctx context.Context, where string, f *benchFlags, env cli.Env) error {
	bucket, prefix, err := target.BucketAndPrefix(where)
	switch {
	case err != nil:
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%w: publish bench measures S3 only", err))
	case f.bounds.Bytes < leastBytes:
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--max-bytes %d: want at least 512MiB", f.bounds.Bytes))
	case f.bounds.Time < leastTime:
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--max-time %v: want at least %v", f.bounds.Time, leastTime))
	}
	if err := f.target.Validate(); err != nil {
		return cli.Usage(err)
	}
	below := "publish-bench-" + strings.ToLower(rand.Text()[:10])
	requests := f.bounds.Requests()
	escape.Fprintf(env.Stderr, "this sends at most about %s in at most %v, and makes at most about %d requests that S3 charges for: $%.3f\n",
		cli.Size(f.bounds.Bytes), f.bounds.Time, requests, price.Requests(requests))
	escape.Fprintf(env.Stderr, "everything goes below %s/%s and is removed at the end\n", strings.TrimSuffix(where, "/"), below)
	if f.dryRun {
		return nil
	}
	b := bench{f: f, bucket: bucket, prefix: path.Join(prefix, below), env: env}
	if !f.json {
		fmt.Fprintf(env.Stdout, "concurrency  part size             sent\n")
	}
	best, err := tune.Run(ctx, func(s tune.Setting) (tune.Place, error) { return b.open(ctx, s) }, f.bounds, b.add)
	if err != nil {
		return err
	}
	return b.print(best)
}

// A bench is one run of the command.
type bench struct {
	f              *benchFlags
	bucket, prefix string // the directory of its objects
	env            cli.Env
	trials         []tune.Trial
}

// A benchPlace is a mirror in S3 with the permission to delete.
type benchPlace struct {
	*s3.Mirror
	*s3.Deleter
}

func (b *bench) open(ctx context.Context, s tune.Setting) (tune.Place, error) {
	c := b.f.target
	c.S3.Concurrency, c.S3.PartSize = s.Concurrency, s.PartSize
	bucket, _, err := target.OpenBucket(ctx, b.bucket, c, b.env.Target())
	if err != nil {
		return nil, err
	}
	m := bucket.Mirror(b.prefix)
	return benchPlace{m, m.Deleter()}, nil
}

// add records and prints the result of a trial.
func (b *bench) add(t tune.Trial) {
	b.trials = append(b.trials, t)
	if !b.f.json {
		escape.Fprintf(b.env.Stdout, "%11d  %9s  %15s\n", t.Concurrency, mebibytes(t.PartSize), cli.Size(int64(t.Rate))+"/s")
	}
}

func (b *bench) print(best tune.Trial) error {
	if b.f.json {
		return json.NewEncoder(b.env.Stdout).Encode(struct {
			Version int          `json:"version"`
			Trials  []tune.Trial `json:"trials"`
			Best    tune.Setting `json:"best"`
		}{cli.ReportVersion, b.trials, best.Setting})
	}
	_, err := escape.Fprintf(b.env.Stdout, "best: --concurrency %d --part-size %s\n", best.Concurrency, mebibytes(best.PartSize))
	return err
}

// mebibytes formats a part size as --part-size takes it.
func mebibytes(n int64) string { return fmt.Sprintf("%dMiB", n>>20) }
