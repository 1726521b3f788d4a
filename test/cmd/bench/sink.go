package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/sink"
)

// runSink serves S3 until it is told to stop. It prints one line: its URL, the address of
// its control, and its URL without a port if it has one.
func runSink(ctx context.Context, args []string) error {
	var o sink.Options
	flags := flag.NewFlagSet("sink", flag.ContinueOnError)
	flags.DurationVar(&o.Latency, "latency", 0, "delay of every answer")
	mbps := flags.Float64("conn-mbps", 0, "MB a second that one connection gives at most; 0: no limit")
	flags.Float64Var(&o.Errors, "error-rate", 0, "share of requests answered by 500 and SlowDown: 0.01 is one of a hundred")
	flags.Float64Var(&o.Resets, "reset-rate", 0, "share of requests whose connection is reset")
	flags.Int64Var(&o.Keep, "keep", 1<<20, "bytes up to which a body is kept; longer ones read as zeroes")
	flags.IntVar(&o.Sample, "sample", 0, "of so many large bodies, one has its SHA-256 and MD5 checked (default 16)")
	ca := flags.String("tls", "", "speak TLS, and write the certificate into this `FILE`")
	list := flags.Bool("log", false, "list requests on standard error")
	leash := flags.Bool("leash", false, "stop when standard input ends")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.ConnRate = int64(*mbps * 1e6)
	if *list {
		o.Log = os.Stderr
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if *leash {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	scheme, secure := "http://", func(l net.Listener) net.Listener { return l }
	if *ca != "" {
		config, cert, err := sink.Secure()
		if err != nil {
			return err
		}
		if err := os.WriteFile(*ca, cert, 0o644); err != nil {
			return err
		}
		scheme, secure = "https://", func(l net.Listener) net.Listener { return tls.NewListener(l, config) }
	}
	l, err := sink.Listen(sink.Loopback, o.ConnRate)
	if err != nil {
		return err
	}
	control, err := sink.Listen(sink.Loopback, 0)
	if err != nil {
		return err
	}
	s := sink.New(o)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Serve(ctx, secure(l)) })
	g.Go(func() error { return s.ServeControl(ctx, control) })
	also := ""
	if l, err := sink.Listen(sink.WellKnown(*ca != ""), o.ConnRate); err == nil {
		host, _, _ := net.SplitHostPort(l.Addr().String())
		also = scheme + host
		g.Go(func() error { return s.Serve(ctx, secure(l)) })
	}
	fmt.Println(scheme+l.Addr().String(), control.Addr(), also)
	return g.Wait()
}
