// Package remote holds the commands that talk to a running daemon or indexer: push, status, drain, retry and
// forget.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
)

// socketFlag is the flag for the socket of the daemon.
type socketFlag struct{ path string }

func (f *socketFlag) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.path, "socket", "", "socket of the daemon; default: PUBLISH_SOCKET, or "+service.DefaultSocket)
}

// dial returns a client of the daemon.
func (f *socketFlag) dial(env cli.Env) *api.Client {
	path := f.path
	if path == "" {
		path = env.Getenv(cli.Variable(cli.SocketSetting))
	}
	if path == "" {
		path = service.DefaultSocket
	}
	return api.Dial(path)
}

// waitValue says what to wait for.
type waitValue string

func (w *waitValue) String() string { return string(*w) }
func (w *waitValue) Type() string   { return "WHAT" }

// Words are the values of --wait.
func (w *waitValue) Words() []string { return []string{"published", "cdn"} }

func (w *waitValue) Set(s string) error {
	if s != "published" && s != "cdn" {
		return fmt.Errorf("%q: want published or cdn", s)
	}
	*w = waitValue(s)
	return nil
}

const pushHelp = `Hand packages over to the daemon, which publishes them.

PATH is the document of a package (...spec.manifest.json, or .spec.json of layout v2), or a
directory with such documents. The command returns within milliseconds, when the daemon has stored
the jobs on disk, so build hooks can call it. Pushing a known package again does nothing.`

// Push returns the command `publish push`.
func Push(env cli.Env) *cobra.Command {
	var socket socketFlag
	var wait waitValue
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		GroupID: help.Serving, Use: "push [flags] PATH...", Short: "Hand packages over to the daemon", Long: pushHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Fail(cli.ExitUsage, errors.New("no PATH: want publish "+cmd.Use))
			}
			if _, err := os.Lstat(args[0]); wait == "published" && (args[0] == "cdn" || args[0] == "published") && err != nil {
				return cli.Fail(cli.ExitUsage, fmt.Errorf("there is no %s here: did you mean --wait=%[1]s?", args[0]))
			}
			return nil
		},
		Example: "  publish push /srv/buildcache\n  publish push --wait=cdn --timeout 10m /srv/buildcache",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := cli.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c := socket.dial(env)
			defer c.Close()
			return cli.Stopped(ctx, push(ctx, env, c, args, string(wait), asJSON))
		},
	}
	socket.register(cmd.Flags())
	cmd.Flags().Var(&wait, "wait", "wait until the packages are published, or with --wait=cdn until clients see them")
	cmd.Flags().Lookup("wait").NoOptDefVal = "published"
	cli.TimeoutFlag(cmd.Flags(), &timeout, "wait no longer than this; 0: for as long as it takes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func push(ctx context.Context, env cli.Env, c *api.Client, paths []string, wait string, asJSON bool) error {
	for i, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return cli.Fail(cli.ExitUsage, err)
		}
		paths[i] = abs
	}
	jobs, err := c.Push(ctx, paths...)
	if err != nil {
		return err
	}
	if wait != "" {
		if err := await(ctx, c, jobs.Jobs, wait); err != nil {
			return err
		}
	}
	if asJSON {
		err = cli.WriteJSON(env.Stdout, jobs)
	} else {
		err = printJobs(env, jobs.Jobs, wait)
	}
	if bad := countFailed(jobs.Jobs); bad > 0 && err == nil {
		err = cli.Fail(cli.ExitSource, fmt.Errorf("%s not published", english.Plural(bad, "package was", "packages were")))
		if wait == "" { // it was pushed before and failed
			err = cli.WithHint(err, "repair the named packages and run `publish retry`: a push does not retry failed jobs")
		}
	}
	return err
}

// await waits for each job, and records its result.
func await(ctx context.Context, c *api.Client, jobs []queue.Job, wait string) error {
	for i := range jobs {
		for {
			w, err := c.Wait(ctx, jobs[i].ID, wait)
			if err != nil {
				return err
			}
			jobs[i] = w.Job
			if w.Done {
				break
			}
		}
	}
	return nil
}

func countFailed(jobs []queue.Job) (n int) {
	for _, j := range jobs {
		if j.State == queue.Failed || j.State == queue.Cancelled {
			n++
		}
	}
	return n
}

func printJobs(env cli.Env, jobs []queue.Job, wait string) error {
	var all []remark
	for _, j := range jobs {
		if env.Shows().Quiet && countFailed([]queue.Job{j}) == 0 {
			continue
		}
		state := string(j.State)
		if j.Reason != "" {
			state += ": " + j.Reason
		}
		if wait == "cdn" && j.State == queue.Published {
			state += ", and clients see it"
		}
		all = append(all, remark{j.Mirror, j.Package, j.File, state})
	}
	var b strings.Builder
	printRemarks(&b, "", all, env.Shows())
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}
