// Command bench measures what publishing costs, with this program and with others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/bench"
	"github.com/vantagecompute/slurm-factory-publish/test/bench/work"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// commands are what the benchmark runs as processes of their own.
var commands = map[string]func(context.Context, []string) error{
	"make":            runMake,
	"sink":            runSink,
	"read":            runRead,
	"soak":            runSoak,
	"rotate":          runRotate,
	"manager":         runSDK(withManager),
	"transfermanager": runSDK(withTransferManager),
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if command := commands[args[0]]; command != nil {
			return command(ctx, args[1:])
		}
	}
	return runBench(ctx, args)
}

const usage = `usage: bench [flags]

Measures what publishing costs, beside what it costs with other programs that put a
directory on S3. See docs/benchmarks/README.md.

`

func runBench(ctx context.Context, args []string) error {
	o := bench.Options{Scale: work.Full, Behind: 1.3, Log: os.Stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.Dir, "dir", filepath.Join(os.TempDir(), "publish-bench"), "`directory` that keeps workloads (8 GB) and peers from one run to the next")
	flags.StringVar(&o.Store, "store", store(), "`directory` in which real servers keep what they get: 5 GB")
	flags.IntVar(&o.Rounds, "rounds", 3, "how often each client runs")
	flags.DurationVar(&o.Limit, "limit", 30*time.Second, "how long one run may take")
	flags.BoolVar(&o.Install, "install", true, "install peers that are not there")
	quick := flags.Bool("quick", false, "one round of smaller workloads, nothing is installed: a look, not a measurement")
	works := flags.String("work", "", "only these workloads, such as cache,big")
	scenarios := flags.String("scenario", "", "only these scenarios, such as fast,far")
	clients := flags.String("client", "", "only clients that match this regular expression")
	flags.Func("crowd", "how many `publishers` begin at once, in workloads called many: 1,12,48,200", func(text string) error {
		for _, n := range list(text) {
			size, err := strconv.Atoi(n)
			if err != nil || size < 1 || size > work.Crowd {
				return fmt.Errorf("%q is no number from 1 to %d", n, work.Crowd)
			}
			o.Crowd = append(o.Crowd, size)
		}
		return nil
	})
	out := flags.String("out", "", "write page, plots and raw results into this `directory`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		o.Scale, o.Rounds, o.Install = work.Quick, 1, false
	}
	o.Works, o.Scenarios = list(*works), list(*scenarios)
	var err error
	if o.Clients, err = regexp.Compile(*clients); err != nil {
		return err
	}
	defer program.Clean()
	if o.Binaries, err = binaries(); err != nil {
		return err
	}
	// What was measured before something went wrong, or before Ctrl-C, is worth keeping.
	results, err := bench.Run(ctx, o)
	if results == nil {
		return err
	}
	results.Print(os.Stdout)
	if *out == "" {
		return err
	}
	return errors.Join(err, results.Write(*out, fmt.Sprintf("make bench BENCH=%q", strings.Join(args, " "))))
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// store is a RAM disk if there is one: what a disk takes is not what we want to know.
func store() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

func binaries() (bench.Binaries, error) {
	var b bench.Binaries
	var err error
	if b.Bench, err = os.Executable(); err != nil {
		return b, err
	}
	if b.Publish, err = program.Publish(); err != nil {
		return b, err
	}
	b.Unchecked, err = program.Unchecked()
	return b, err
}

// runMake makes workloads. It is a process of its own, since it takes more memory than a
// process may have whose children are measured: theirs is counted from its own.
func runMake(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("make", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory that holds all workloads (required)")
	scale := flags.Int("scale", int(work.Full), "divide everything by this")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, name := range flags.Args() {
		if err := work.Make(*dir, name, work.Scale(*scale)); err != nil {
			return err
		}
	}
	return nil
}
