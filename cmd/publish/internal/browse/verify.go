package browse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/alike"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/shell"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const verifyHelp = `Check a mirror as fsck checks a file system: pointers resolve, sizes and digests agree, the
index offers exactly the packages of the mirror, and keys have the right fingerprints. The command
changes nothing.

DESTINATION is s3://bucket[/prefix] or file:///directory. An http:// or https:// URL is read as
clients read it, beginning with its index. With damage the exit code is 8.`

// A verifying holds the settings of publish verify.
type verifying struct {
	target        target.Config
	requireSigned bool
	trustedKeys   userfile.Names
	output        cli.Output
	views         []string
	upstream      []string
	deep, json    bool
	timeout       time.Duration
}

// Verify returns the command `publish verify`.
func Verify(env cli.Env) *cobra.Command {
	var v verifying
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "verify DESTINATION|URL", Short: "Check a mirror for damage", Long: verifyHelp, Args: cli.Arguments,
		Example: "  publish verify --deep s3://bucket/noble/spack\n  publish verify https://cache.example.org/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd, args[0], &v, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&v.deep, "deep", false, "download and hash every blob")
	fs.StringSliceVar(&v.views, "view", nil, "require the view `NAME`; a URL is read from its views instead of its index; repeatable")
	cli.UpstreamFlag(fs, &v.upstream, "accept dependencies that the mirror at this `URL` offers; others must be in DESTINATION; repeatable")
	fs.BoolVar(&v.json, "json", false, "print one JSON document")
	cli.OutputFlags(fs, &v.output)
	cli.ReadFlags(fs, &v.target)
	cli.ConcurrencyFlag(fs, &v.target)
	fs.BoolVar(&v.requireSigned, "require-signed", false, "treat unsigned packages as damage")
	cli.TrustedKeysFlag(fs, &v.trustedKeys, "`FILE` of armored public keys: treat signatures by any other key as damage")
	cli.TimeoutFlag(fs, &v.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

func runVerify(cmd *cobra.Command, where string, v *verifying, env cli.Env) error {
	ctx, cancel := cli.WithTimeout(cmd.Context(), v.timeout)
	defer cancel()
	trust, err := cli.ReadTrust(v.requireSigned, v.trustedKeys)
	for _, name := range v.views {
		err = errors.Join(err, field.Wrap("view", layout.CheckView(name)))
	}
	if err = errors.Join(err, v.output.Check(), cli.CheckUpstream(v.upstream)); err != nil {
		return cli.Usage(err)
	}
	env.Output = v.output
	at, done, err := cli.OpenReaders(ctx, env, where, v.target)
	if err != nil {
		return err
	}
	defer done()
	upstream, err := cli.OfferedBy(ctx, v.upstream, v.target, env.Target())
	if err != nil {
		return err
	}
	found, err := verifyAll(ctx, where, at, verify.Options{Deep: v.deep, Trust: trust, Views: v.views, Upstream: upstream})
	if err != nil {
		return err
	}
	if err := found.print(env, v); err != nil {
		return err
	}
	if found.Damaged {
		return cli.Fail(cli.ExitVerification, cli.ErrReported)
	}
	return nil
}

// verifications are the results of a mirror, or of each mirror of a tree.
type verifications struct {
	Version int            `json:"version"`
	Damaged bool           `json:"damaged"`
	Mirrors []verification `json:"mirrors"`
}

type verification struct {
	Mirror string `json:"mirror"`
	*verify.Report
}

// verifyAll verifies the mirror at a place or, if there is none, the mirrors below it.
func verifyAll(ctx context.Context, where string, at func(path string) mirror.Reader, o verify.Options) (*verifications, error) {
	found := &verifications{Version: cli.ReportVersion}
	add := func(path string) error {
		v, err := verify.Mirror(ctx, at(path), o)
		if err != nil {
			return err
		}
		found.Mirrors = append(found.Mirrors, verification{strings.TrimSuffix(redact.URL(where)+"/"+path, "/"), v})
		found.Damaged = found.Damaged || v.Damaged()
		return nil
	}
	if lister, ok := at("").(mirror.Lister); ok {
		return found, roots.Each(ctx, lister, add)
	}
	return found, add("")
}

func (found *verifications) print(env cli.Env, v *verifying) error {
	if v.json {
		return cli.WriteJSON(env.Stdout, found)
	}
	var b strings.Builder
	for _, m := range found.Mirrors {
		m.print(&b, v)
	}
	_, err := io.WriteString(env.Results, coloured(escape.Text(b.String()), style.Of(env.Raw.Stdout, env.Lookup)))
	return err
}

// The words of a result that are coloured on a terminal.
const (
	whole       = "no damage"
	damaged     = "damaged"
	repairTitle = "to repair it:"
)

// coloured is a result as a terminal shows it. Its lines begin and end with our words, so names between them do
// not matter.
func coloured(text string, look style.Style) string {
	if !look.Terminal() {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		begin, rest, _ := strings.Cut(l, "  ")
		switch {
		case begin == string(buildcache.Error):
			l = look.Bad(begin) + "  " + rest
		case begin == string(buildcache.Warning):
			l = look.Warning(begin) + "  " + rest
		case l == repairTitle:
			l = look.Bold(l)
		case strings.HasSuffix(l, ": "+whole):
			l = strings.TrimSuffix(l, whole) + look.Good(whole)
		case strings.HasSuffix(l, ": "+damaged):
			l = strings.TrimSuffix(l, damaged) + look.Bad(damaged)
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}

// print writes the findings of a mirror, their number, and how to repair it.
func (m verification) print(b *strings.Builder, v *verifying) {
	counts := make(map[buildcache.Severity]int)
	for _, severity := range []buildcache.Severity{buildcache.Error, buildcache.Warning} {
		some := slices.DeleteFunc(slices.Clone(m.Findings), func(f buildcache.Finding) bool { return f.Severity != severity })
		for _, l := range alike.Lines(some, v.output.Verbose) {
			escape.Fprintf(b, "%-7s  %s\n", severity, l)
		}
		counts[severity] = len(some)
	}
	if v.output.Quiet {
		return
	}
	for _, a := range m.Audiences {
		escape.Fprintf(b, "%s: %s: %s\n", m.Mirror, a.Readers, english.Plural(a.Packages, "package", ""))
	}
	verdict := whole
	if m.Damaged() {
		verdict = damaged
	}
	escape.Fprintf(b, "%s: layout %s, %d packages, %d objects, %s, %d keys, %d unreferenced blobs: %s\n",
		m.Mirror, strings.Join(m.Layouts, " and "), m.Packages, m.Objects, cli.Size(m.Bytes), m.Keys, m.Orphans, verdict)
	if len(m.Findings) > 0 {
		fmt.Fprintf(b, "%s, %s\n", english.Plural(counts[buildcache.Error], "error", ""), english.Plural(counts[buildcache.Warning], "warning", ""))
	}
	if m.Repair.Needed() {
		fmt.Fprintln(b, repairTitle)
		for _, line := range repairs(m.Mirror, m.Repair, v) {
			escape.Fprintf(b, "  %s\n", line)
		}
	}
}

// shownRepairs bounds the commands of a kind, and the packages that one names. The JSON report has all.
const shownRepairs = 10

// repairs returns commands that repair a mirror at a place.
func repairs(where string, r verify.Repair, v *verifying) []string {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		return []string{"run publish verify at the destination itself, as s3://bucket/prefix or as a directory: it says how"}
	}
	t := v.target
	aws := ""
	for _, f := range []struct{ name, value string }{{"endpoint-url", t.S3.EndpointURL}, {"region", t.S3.Region}, {"profile", t.Profile}} {
		if f.value != "" {
			aws += " --" + f.name + " " + shell.Quote(redact.URL(f.value))
		}
	}
	flags := aws
	if t.Role != "" {
		flags += " --role-to-assume " + shell.Quote(t.Role)
	}
	to := shell.Quote(where)
	var lines []string
	for i, name := range r.Remove {
		if i == shownRepairs {
			lines = append(lines, fmt.Sprintf("... and remove %d more objects, which --json names", len(r.Remove)-i))
			break
		}
		remove := "aws s3 rm" + aws + " " + shell.Quote(where+"/"+name)
		if dir, err := target.Path(where); err == nil && !strings.HasPrefix(where, "s3://") {
			remove = "rm " + shell.Quote(dir+"/"+name)
		}
		lines = append(lines, remove)
	}
	if n := len(r.Publish); n > 0 {
		include := ""
		for _, hash := range r.Publish[:min(n, shownRepairs)] {
			include += " --include /" + hash[:min(len(hash), 7)]
		}
		if n > shownRepairs {
			include = ""
		}
		lines = append(lines, "publish"+include+flags+" SOURCE "+to+"  # SOURCE is where "+english.PluralWord(n, "the package was", fmt.Sprint(n)+" packages were")+" built")
	}
	if r.Index {
		lines = append(lines, "publish index"+flags+" "+to)
	}
	for _, view := range r.Views {
		lines = append(lines, "publish view set"+flags+" "+to+" "+view+" PACKAGE ...  # what it is to offer, or --empty")
	}
	if v.deep {
		flags += " --deep"
	}
	for _, u := range v.upstream {
		flags += " --upstream " + shell.Quote(redact.URL(u))
	}
	return append(lines, "publish verify"+flags+" "+to)
}
