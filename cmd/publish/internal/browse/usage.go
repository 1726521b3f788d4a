package browse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/downloads"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const usageHelp = `Show from access logs of CloudFront and S3 which packages of a mirror are downloaded, how often
and when last, which are not, and what share of the requests the CDN answers.

It keeps totals, but no addresses of clients. --output writes the totals to a file for publish du
and publish catalog.
` + browseHelp

// usageFlags are the flags of publish usage.
type usageFlags struct {
	browseFlags
	logs         []string
	since        time.Duration
	path, output string
	top          int
	pathIsGiven  bool
}

// Usage returns the command `publish usage`.
func Usage(env cli.Env) *cobra.Command {
	var f usageFlags
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "usage DESTINATION|URL", Short: "Show which packages are downloaded", Long: usageHelp, Args: cli.Arguments,
		Example: "  publish usage --logs s3://my-cache-logs/AWSLogs --since 90d s3://my-cache/noble/spack\n  publish usage --logs file:///var/log/cdn --path noble/spack --output usage.json file:///srv/mirror",
		RunE: func(cmd *cobra.Command, args []string) error {
			f.pathIsGiven = cmd.Flags().Changed("path")
			return runUsage(cmd, args[0], &f, env)
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&f.logs, "logs", nil, "`PLACE` of access logs: s3://bucket/prefix or file:///directory; CloudFront's (JSON or text) and S3's, packed or not; repeatable")
	fs.Var(quantity.Age(&f.since), "since", "ignore requests older than this `AGE`, such as 90d; default: all")
	fs.StringVar(&f.path, "path", "", "`PATH` of the mirror in the logs, such as noble/spack; default: the prefix of DESTINATION, or the path of URL")
	fs.StringVar(&f.output, "output", "", "write the totals to `FILE`, in JSON: for publish du and publish catalog")
	fs.IntVar(&f.top, "top", 20, "show only this many packages; 0: all. --json and --output always have all")
	f.registerPlain(fs)
	return cmd
}

func runUsage(cmd *cobra.Command, where string, f *usageFlags, env cli.Env) error {
	switch {
	case len(f.logs) == 0:
		return cli.Fail(cli.ExitUsage, errors.New("--logs is missing: the place of the access logs"))
	case f.top < 0:
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--top %d: want 0 or more", f.top))
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	mirrors, done, err := f.browse(ctx, where, env)
	if err != nil {
		return err
	}
	defer done()
	if len(mirrors) > 1 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%s has %d mirrors: name one, such as %s", redact.URL(where), len(mirrors), mirrors[0].shown))
	}
	documents, err := inventory.Documents(ctx, mirrors[0].reader, mirrors[0].Builds)
	if err != nil {
		return err
	}
	counter := downloads.NewCounter(documents, f.pathOf(where, mirrors[0].path))
	var since time.Time
	if f.since > 0 {
		since = time.Now().UTC().Add(-f.since)
	}
	for _, place := range f.logs {
		if err := f.readLogs(ctx, env, counter, place, since); err != nil {
			return err
		}
	}
	return f.show(env, mirrors[0].shown, counter.Report(time.Now()))
}

// pathOf returns the path of a mirror in logs.
func (f *usageFlags) pathOf(where, below string) string {
	if f.pathIsGiven {
		return f.path
	}
	path := ""
	if _, prefix, err := target.BucketAndPrefix(where); err == nil {
		path = prefix
	} else if _, rest, ok := strings.Cut(where, "://"); ok && strings.HasPrefix(where, "http") {
		_, path, _ = strings.Cut(rest, "/")
	}
	return strings.Trim(path+"/"+below, "/")
}

func (f *usageFlags) readLogs(ctx context.Context, env cli.Env, c *downloads.Counter, place string, since time.Time) error {
	config := f.target
	config.S3.Region = "" // the region of the mirror
	at, done, err := cli.OpenReaders(ctx, env, place, config)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer done()
	logs, ok := at("").(downloads.Logs)
	if !ok {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--logs %s: it cannot be listed: want s3://bucket/prefix or file:///directory", redact.URL(place)))
	}
	return c.Read(ctx, logs, since)
}

func (f *usageFlags) show(env cli.Env, mirror string, r *downloads.Report) error {
	if r.Files == 0 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("there are no logs in %s", strings.Join(f.logs, " and ")))
	}
	if f.output != "" {
		var text bytes.Buffer
		if err := cli.WriteJSON(&text, r); err != nil {
			return err
		}
		if err := os.WriteFile(f.output, text.Bytes(), 0o644); err != nil {
			return cli.Fail(cli.ExitUsage, err)
		}
	}
	if f.json {
		return cli.WriteJSON(env.Stdout, r)
	}
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', tabwriter.AlignRight)
	escape.Fprintf(t, "%s\t%s\t%s\t\n", "DOWNLOADS", "SENT", "LAST")
	for i, p := range r.Packages {
		if p.Downloads == 0 || f.top > 0 && i >= f.top {
			break
		}
		escape.Fprintf(t, "%d\t%s\t%s\t  %s@%s/%.7s\n", p.Downloads, cli.Size(p.Bytes), p.Last, p.Name, p.Version, p.Hash)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	period := "no request"
	if r.From != "" {
		period = fmt.Sprintf("%s to %s: %d requests, %s, %.1f %% answered by the CDN", r.From, r.To, r.Requests, cli.Size(r.Bytes), 100*r.HitRate())
	}
	escape.Fprintf(env.Stdout, "%s: %s; not downloaded: %d of %d packages, %s", mirror, period, r.Unread.Packages, len(r.Packages), cli.Size(r.Unread.Bytes))
	if r.Strange > 0 {
		escape.Fprintf(env.Stdout, "; %d lines were not understood", r.Strange)
	}
	_, err := escape.Fprintf(env.Stdout, "\n")
	return err
}

// usageFile is a flag for a report of publish usage.
func usageFile(file string) (*downloads.Report, error) {
	text, err := userfile.Read(file)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("--usage: %w", err))
	}
	r, err := downloads.Parse(text)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("--usage %s: %w", file, err))
	}
	return r, nil
}
