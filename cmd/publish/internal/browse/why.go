package browse

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const whyHelp = `Show why a package is in a cache: which packages depend on it, directly or indirectly.

If several packages match SPEC, it shows the packages that depend on any of them. SPEC may also
match a dependency that is not in the cache.
` + browseHelp + `
` + queryHelp

// depTypes are the types of dependencies, as flags accept them.
var depTypes = []string{"build", "link", "run", "test", "all"}

// Why returns the command `publish why`.
func Why(env cli.Env) *cobra.Command {
	var f browseFlags
	var types []string
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "why DESTINATION|URL SPEC...", Short: "Show which packages depend on a package", Long: whyHelp, Args: cli.AtLeast(2),
		Example: "  publish why s3://bucket/noble/spack libxml2\n  publish why file:///srv/mirror --deptypes link,run zlib@1.3",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runWhy(cmd, args, &f, types, env)
		},
	}
	f.register(cmd.Flags())
	help.Choices(cmd.Flags(), &types, "deptypes", []string{"all"}, "follow only dependencies of these `TYPES`: build, link, run, test or all", depTypes...)
	return cmd
}

// A reason holds the dependents of the matching packages in one mirror.
type reason struct {
	Mirror     string          `json:"mirror"`
	Packages   []packageJSON   `json:"packages"`
	Dependents []dependentJSON `json:"dependents"`
}

type dependentJSON struct {
	packageJSON
	Distance int      `json:"distance"`
	Types    []string `json:"deptypes"`
	Through  string   `json:"through"` // the hash of its dependency on the way
}

func runWhy(cmd *cobra.Command, args []string, f *browseFlags, types []string, env cli.Env) error {
	q, err := parseQuery(args[1:])
	if err != nil {
		return err
	}
	follow, err := query.ParseDepTypes(types)
	if err != nil {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--deptypes: %w", err))
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	mirrors, done, err := f.browse(ctx, args[0], env)
	if err != nil {
		return err
	}
	defer done()
	reasons := []reason{}
	found := false
	for _, s := range mirrors {
		on := slices.SortedFunc(s.Nodes(q), inventory.Compare)
		found = found || len(on) > 0
		dependents := s.Dependents(on, follow)
		if f.json {
			reasons = append(reasons, reasonOf(s, on, dependents))
		} else if len(on) > 0 {
			if err := printReason(env, s, on, dependents); err != nil {
				return err
			}
		}
	}
	if !found {
		return nothing(args[0], mirrors, args[1:], q)
	}
	if f.json {
		return cli.WriteJSON(env.Stdout, struct {
			Version int      `json:"version"`
			Mirrors []reason `json:"mirrors"`
		}{cli.ReportVersion, reasons})
	}
	return nil
}

func reasonOf(s shownMirror, on []*query.Node, dependents []inventory.Dependent) reason {
	r := reason{s.shown, []packageJSON{}, []dependentJSON{}}
	for _, n := range on {
		r.Packages = append(r.Packages, jsonOf(s.Inventory, n))
	}
	for _, d := range dependents {
		r.Dependents = append(r.Dependents, dependentJSON{jsonOf(s.Inventory, d.Node), d.Distance, d.Types.Names(), d.Through.Hash})
	}
	return r
}

func printReason(env cli.Env, s shownMirror, on []*query.Node, dependents []inventory.Dependent) error {
	var ids []string
	for _, n := range on {
		ids = append(ids, id(n)+notOffered(s.Inventory, n))
	}
	escape.Fprintf(env.Stdout, "%s: %s\n", s.shown, strings.Join(ids, ", "))
	if len(dependents) == 0 {
		_, err := escape.Fprintf(env.Stdout, "  no package here depends on it\n")
		return err
	}
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', 0)
	for _, d := range dependents {
		escape.Fprintf(t, "  %s\t%s\tdepends on %s%s\n", id(d.Node), d.Types, id(d.Through), notOffered(s.Inventory, d.Node))
	}
	return t.Flush()
}

func notOffered(inv *inventory.Inventory, n *query.Node) string {
	switch {
	case inv.Offers(n) != nil:
		return ""
	case n.External:
		return " (external)"
	}
	return " (not in the cache)"
}
