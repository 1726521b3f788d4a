// Command bench measures what publishing costs, with this program and with others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/work"
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
	"make": runMake,
	"sink": runSink,
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if command := commands[args[0]]; command != nil {
			return command(ctx, args[1:])
		}
	}
	return errors.New("want sink or make")
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
