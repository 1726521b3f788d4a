package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/bench"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// runSoak lets a daemon work for long, and fails if it takes more and more.
func runSoak(ctx context.Context, args []string) error {
	o := bench.SoakOptions{Log: os.Stderr}
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.DurationVar(&o.For, "for", 20*time.Minute, "how long")
	flags.DurationVar(&o.Every, "every", 10*time.Second, "how often a sample is taken")
	out := flags.String("out", "", "write a page and a plot into this `directory`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	defer program.Clean()
	var err error
	if o.Binaries, err = binaries(); err != nil {
		return err
	}
	s, err := bench.RunSoak(ctx, o)
	if err != nil {
		return err
	}
	s.Print(os.Stdout)
	if *out != "" {
		err = s.Write(*out, strings.TrimSpace(fmt.Sprintf("make soak SOAK=%q", strings.Join(args, " "))))
	}
	if !s.Flat() {
		err = errors.Join(err, errors.New("something grows"))
	}
	return err
}
