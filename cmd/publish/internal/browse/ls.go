package browse

import (
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/query"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const lsHelp = `List the packages that a cache offers.
` + browseHelp + `
` + queryHelp + `

--format is as in "spack find": {name}{@version}{/hash:7}. Attributes are name, version,
hash, namespace, fullname, compilers, arch, platform, os, target, variants, variants.NAME.`

// Ls returns the command `publish ls`.
func Ls(env cli.Env) *cobra.Command {
	var f browseFlags
	var format string
	var withdrawn bool
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "ls DESTINATION|URL [QUERY...]", Short: "List the packages of a cache", Long: lsHelp, Args: cli.AtLeast(1),
		Example: "  publish ls s3://bucket/noble/spack\n  publish ls https://cache.example.org/noble/spack 'hdf5@1.14: +mpi target=zen4'\n  publish ls file:///srv/mirror --format '{name} {version} {hash}'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if withdrawn {
				return runWithdrawn(cmd, args, &f, format, env)
			}
			return runLs(cmd, args, &f, format, env)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "", "print each package in this `FORMAT`, one per line")
	cmd.Flags().BoolVar(&withdrawn, "withdrawn", false, "list withdrawn packages instead, with the reasons: see publish withdraw")
	return cmd
}

// A listing holds the matching packages of one mirror.
type listing struct {
	Mirror   string        `json:"mirror"`
	Packages []packageJSON `json:"packages"`
}

func runLs(cmd *cobra.Command, args []string, f *browseFlags, format string, env cli.Env) error {
	q, err := parseQuery(args[1:])
	if err != nil {
		return err
	}
	parsed, err := query.ParseFormat(format)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	mirrors, done, err := f.browse(ctx, args[0], env)
	if err != nil {
		return err
	}
	defer done()
	if f.json {
		all := []listing{}
		for _, s := range mirrors {
			l := listing{s.shown, []packageJSON{}}
			for _, b := range s.Select(q) {
				l.Packages = append(l.Packages, jsonOf(s.Inventory, b.Node))
			}
			all = append(all, l)
		}
		return cli.WriteJSON(env.Stdout, struct {
			Version int       `json:"version"`
			Mirrors []listing `json:"mirrors"`
		}{cli.ReportVersion, all})
	}
	matched := 0
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', 0)
	for _, s := range mirrors {
		for _, b := range s.Select(q) {
			matched++
			switch {
			case parsed != nil:
				if _, err := t.Write([]byte(parsed.Of(b.Node, line) + "\n")); err != nil {
					return err
				}
				continue
			case matched == 1:
				header := "NAME\tVERSION\tHASH\tCOMPILER\tOS\tTARGET"
				if len(mirrors) > 1 {
					header += "\tMIRROR"
				}
				if _, err := t.Write([]byte(header + "\n")); err != nil {
					return err
				}
			}
			escape.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s", b.Name, b.Version, b.Hash[:min(7, len(b.Hash))], strings.Join(b.Compilers(), ","), b.OS, b.Target)
			if len(mirrors) > 1 {
				escape.Fprintf(t, "\t%s", s.path)
			}
			escape.Fprintf(t, "\n")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, u := range unknown(mirrors, q) {
		escape.Fprintf(env.Stderr, "publish: %s\n", u)
	}
	if parsed == nil && !env.Shows().Quiet {
		escape.Fprintf(env.Stderr, "%s\n", english.Plural(matched, "package", ""))
	}
	return nil
}
