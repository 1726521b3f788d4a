package remote

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

// watchEvery is how often a watched status is refreshed.
const watchEvery = 2 * time.Second

// Status returns the command `publish status`.
func Status(env cli.Env) *cobra.Command {
	var socket socketFlag
	var asJSON, watch bool
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "status", Short: "Show what the daemon is doing", Args: cli.Arguments,
		Example: "  publish status --watch\n  publish status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := socket.dial(env)
			defer c.Close()
			if !watch {
				return showStatus(cmd.Context(), env, c, asJSON)
			}
			return watchStatus(cmd.Context(), env, c, asJSON)
		},
	}
	socket.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	cmd.Flags().BoolVar(&watch, "watch", false, "refresh the status until interrupted")
	return cmd
}

func watchStatus(ctx context.Context, env cli.Env, c *api.Client, asJSON bool) error {
	onScreen := style.Of(env.Raw.Stdout, env.Lookup).Terminal() && !asJSON
	seen := false // after that, a missing daemon is restarting
	for {
		if onScreen {
			fmt.Fprint(env.Raw.Stdout, "\x1b[H\x1b[2J") // clear the screen
		}
		if err := showStatus(ctx, env, c, asJSON); err != nil {
			switch {
			case ctx.Err() != nil:
				return nil
			case !seen:
				return err
			}
			escape.Fprintf(env.Stderr, "%v: trying again\n", err)
		} else {
			seen = true
		}
		select {
		case <-ctx.Done():
			return nil // an interrupt is the normal end
		case <-time.After(watchEvery):
		}
		if !onScreen && !asJSON {
			fmt.Fprintln(env.Stdout)
		}
	}
}

func showStatus(ctx context.Context, env cli.Env, c *api.Client, asJSON bool) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return cli.WriteJSON(env.Stdout, s)
	}
	var b strings.Builder
	if s.Indexer != nil {
		indexerText(&b, *s.Indexer, env.Shows())
	} else {
		statusText(&b, s.Status, env.Shows())
	}
	_, err = io.WriteString(env.Stdout, b.String())
	return err
}

func statusText(b *strings.Builder, s daemon.Status, o cli.Output) {
	switch {
	case !s.Healthy:
		escape.Fprintf(b, "not healthy: %s\n", s.Problem)
	case s.Stopping:
		fmt.Fprintln(b, "stopping")
	}
	if s.Trouble != "" {
		escape.Fprintf(b, "the queue cannot be used: %s\n", s.Trouble)
	}
	w := tableOn(b, o)
	fmt.Fprintln(w, "MIRROR\tWAITING\tSIZE\tPUBLISHED\tFAILED\tLAST PUBLISH\tINDEX")
	older := 0 // failures before the listed ones
	for _, m := range s.Mirrors {
		older += m.Jobs[queue.Failed]
		packages := 0
		for _, x := range m.Indices {
			packages += x.Packages
		}
		escape.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\t%d\n", m.Name, m.Waiting, cli.Size(m.Bytes), m.Jobs[queue.Published], m.Jobs[queue.Failed], ago(s.At, m.Published, "never"), packages)
	}
	w.Flush()
	for _, m := range s.Mirrors {
		for _, r := range m.Running {
			if o.Quiet {
				break
			}
			escape.Fprintf(b, "%s: %s\n", m.Name, runText(r))
		}
		if m.Paused != "" {
			escape.Fprintf(b, "%s: waits for its destination: %s\n", m.Name, m.Paused)
		}
	}
	var failed []remark
	for _, j := range s.Failed {
		failed = append(failed, remark{j.Mirror, fmt.Sprintf("%s (job %d)", j.Package, j.ID), j.File, j.Reason})
	}
	printRemarks(b, "failed: ", failed, o)
	if older -= len(s.Failed); older > 0 {
		fmt.Fprintf(b, "failed: %d more before these\n", older)
	}
	for _, p := range s.Stuck {
		escape.Fprintf(b, "stuck: %s %s for %s: %s\n", p.Mirror, cmp.Or(p.Package, p.File), since(s.At, p.Since), p.Reason)
	}
	for _, p := range s.Incomplete {
		escape.Fprintf(b, "not complete yet: %s %s for %s: %s\n", p.Mirror, cmp.Or(p.Package, p.File), since(s.At, p.Since), p.Reason)
	}
	for _, o := range s.Obligations {
		escape.Fprintf(b, "caches: %s: invalidation due for %s: %s\n", o.Mirror, since(s.At, o.Since), o.Reason)
	}
}

// tableOn returns a writer for a table, which --quiet leaves out.
func tableOn(b *strings.Builder, o cli.Output) *tabwriter.Writer {
	to := io.Writer(b)
	if o.Quiet {
		to = io.Discard
	}
	return tabwriter.NewWriter(to, 2, 8, 2, ' ', 0)
}

func indexerText(b *strings.Builder, s events.Status, o cli.Output) {
	switch {
	case !s.Healthy:
		escape.Fprintf(b, "not healthy: %s\n", s.Problem)
	case s.Stopping:
		fmt.Fprintln(b, "stopping")
	}
	if s.Queue.Error != "" {
		escape.Fprintf(b, "the queue cannot be read: %s\n", s.Queue.Error)
	}
	w := tableOn(b, o)
	fmt.Fprintln(w, "QUEUE\tIN HAND\tOLDEST\tHANDLED\tLEFT\tDEAD")
	escape.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\n\n", s.Queue.Address, s.Queue.Held, ago(s.At, s.Queue.Oldest, "none"), s.Queue.Handled, s.Queue.Left, s.Queue.Dead)
	fmt.Fprintln(w, "MIRROR\tWAITING\tLAST JOB\tLAST SWITCH\tINDEX")
	for _, m := range s.Mirrors {
		packages := 0
		for _, x := range m.Indices {
			packages += x.Packages
		}
		var last *time.Time
		if m.Last != nil {
			last = &m.Last.At
		}
		escape.Fprintf(w, "%s\t%d\t%s\t%s\t%d\n", m.Name, m.Waiting, ago(s.At, last, "never"), ago(s.At, m.Switched, "never"), packages)
	}
	w.Flush()
	for _, m := range s.Mirrors {
		if m.Last != nil && m.Last.Error != "" {
			escape.Fprintf(b, "%s: not in order: %s\n", m.Name, m.Last.Error)
		}
	}
	for _, l := range s.Dead {
		escape.Fprintf(b, "dead: %s after %d deliveries: %s\n", cmp.Or(l.Object, "message "+l.ID), l.Deliveries, l.Reason)
	}
	for _, l := range s.Left {
		escape.Fprintf(b, "left: %s, delivery %d: %s\n", cmp.Or(l.Object, "message "+l.ID), l.Deliveries, l.Reason)
	}
	for _, o := range s.Obligations {
		escape.Fprintf(b, "caches: %s: invalidation due for %s: %s\n", o.Mirror, since(s.At, o.Since), o.Reason)
	}
}

func ago(now time.Time, then *time.Time, never string) string {
	if then == nil {
		return never
	}
	return since(now, *then) + " ago"
}

func runText(r daemon.Sending) string {
	step := r.Step
	if step == "" {
		step = "plan"
	}
	text := fmt.Sprintf("%s of %s packages", step, humanize.Comma(int64(r.Packages)))
	if r.Total >= 0 {
		text += fmt.Sprintf(", %s of %s, %s/s", cli.Size(r.Sent), cli.Size(r.Total), cli.Size(r.Rate))
	}
	if r.Retrying != "" {
		text += ", " + r.Retrying
	}
	if r.Left >= 0 {
		text += fmt.Sprintf(", %s left", (time.Duration(r.Left) * time.Second).String())
	}
	return text
}

func since(now, then time.Time) string { return max(now.Sub(then), 0).Round(time.Second).String() }

// Drain returns the command `publish drain`.
func Drain(env cli.Env) *cobra.Command {
	var socket socketFlag
	var wait, asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "drain", Short: "Make the daemon publish everything now", Args: cli.Arguments,
		Long: `Make the daemon scan all its sources now, and retry waiting work now.

With --wait it publishes without waiting for more packages, and the command returns when everything
is published and clients can see it. The exit code says whether it is: 4 if packages have failed or
are incomplete, 5 if a destination cannot be used, 7 if an invalidation failed.`,
		Example: "  publish drain --wait --timeout 30m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := cli.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c := socket.dial(env)
			defer c.Close()
			if !wait {
				return c.Flush(ctx)
			}
			left, err := c.Drain(ctx, func(daemon.Drained) {})
			if err != nil {
				return cli.Stopped(ctx, err)
			}
			return PrintDrained(env.Stdout, env.Shows(), left, asJSON)
		},
	}
	socket.register(cmd.Flags())
	cmd.Flags().BoolVar(&wait, "wait", false, "return when everything is published")
	cli.TimeoutFlag(cmd.Flags(), &timeout, "wait no longer than this; 0: for as long as it takes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}
