package browse

import (
	"context"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const showHelp = `Show details of the packages that match SPEC: variants, compilers, dependencies and whether the
cache has them, size, date, and the key that signed them.

The signature is not checked: "publish verify --trusted-keys" does that. If a package was copied under rules,
and DESTINATION can be listed, it shows when and from where the package was copied, by whom, and the rules.
` + browseHelp + `
` + queryHelp

// Show returns the command `publish show`.
func Show(env cli.Env) *cobra.Command {
	var f browseFlags
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "show DESTINATION|URL SPEC...", Short: "Show the details of a package", Long: showHelp, Args: cli.AtLeast(2),
		Example: "  publish show s3://bucket/noble/spack openmpi@5\n  publish show --json https://cache.example.org/noble/spack /hyibvwk",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runShow(cmd, args, &f, env)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// A detail holds the details of one build.
type detail struct {
	packageJSON
	Layout       string           `json:"layout"`
	Document     string           `json:"document,omitempty"`
	Stored       *time.Time       `json:"stored,omitempty"`
	Bytes        int64            `json:"bytes"`
	Digest       string           `json:"sha256,omitempty"` // of the tarball
	Signed       bool             `json:"signed"`
	Signer       string           `json:"signer,omitempty"`
	Problem      string           `json:"problem,omitempty"`
	Promotion    *promotionJSON   `json:"promotion,omitempty"`
	Dependencies []dependencyJSON `json:"dependencies"`

	node *query.Node
}

// A promotionJSON is the newest record of a copy of a package under rules. The mirror holds it, unsigned.
type promotionJSON struct {
	Record string    `json:"record"` // name of the record
	Time   time.Time `json:"time"`
	history.Author
	promotion.Terms
	SHA256 string `json:"sha256"` // of the document at that time
	// Current reports whether the package still has that document.
	Current bool `json:"current"`
}

// promotions returns the records of packages, if they can be listed: a web server lists none.
func promotions(ctx context.Context, r mirror.Reader, documents []*inventory.Document) (map[spec.Hash]promotion.Evidence, error) {
	l, ok := r.(promotion.Lister)
	if !ok {
		return nil, nil
	}
	var all []spec.Hash
	for _, d := range documents {
		all = append(all, spec.Hash(d.Node.Hash))
	}
	return promotion.Find(ctx, l, all)
}

type dependencyJSON struct {
	packageJSON
	Types    []string `json:"deptypes"`
	Virtuals []string `json:"virtuals"`
}

type details struct {
	Mirror   string   `json:"mirror"`
	Packages []detail `json:"packages"`
}

func runShow(cmd *cobra.Command, args []string, f *browseFlags, env cli.Env) error {
	q, err := parseQuery(args[1:])
	if err != nil {
		return err
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	mirrors, done, err := f.browse(ctx, args[0], env)
	if err != nil {
		return err
	}
	defer done()
	all := []details{}
	found := false
	for _, s := range mirrors {
		d, err := detailsOf(ctx, s, q)
		if err != nil {
			return err
		}
		found = found || len(d.Packages) > 0
		all = append(all, *d)
	}
	if !found {
		return nothing(args[0], mirrors, args[1:], q)
	}
	if f.json {
		return cli.WriteJSON(env.Stdout, struct {
			Version int       `json:"version"`
			Mirrors []details `json:"mirrors"`
		}{cli.ReportVersion, all})
	}
	for i, d := range all {
		for _, p := range d.Packages {
			if err := p.print(env, mirrors[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func detailsOf(ctx context.Context, s shownMirror, q *query.Query) (*details, error) {
	documents, err := inventory.Documents(ctx, s.reader, s.Select(q))
	if err != nil {
		return nil, err
	}
	evidence, err := promotions(ctx, s.reader, documents)
	if err != nil {
		return nil, err
	}
	all := &details{s.shown, []detail{}}
	for _, doc := range documents {
		d := detail{
			packageJSON: jsonOf(s.Inventory, doc.Node), Layout: doc.Layout(), Document: doc.Name, Bytes: doc.Bytes(),
			Signed: doc.Signed, Signer: doc.Signer, Dependencies: []dependencyJSON{}, node: doc.Node,
		}
		if !doc.Stored.IsZero() {
			d.Stored = &doc.Stored
		}
		if t := doc.Tarball(); t != nil {
			d.Digest = t.Digest.String()
		}
		if e, ok := evidence[spec.Hash(doc.Node.Hash)]; ok {
			d.Promotion = &promotionJSON{promotion.Name(e.ID), e.Time, e.Author, e.Terms, e.Package.SHA256, e.Package.SHA256 == doc.SHA256.String()}
		}
		if doc.Unusable != nil {
			d.Problem = doc.Unusable.Error()
		}
		for _, e := range doc.Dependencies {
			d.Dependencies = append(d.Dependencies, dependencyJSON{jsonOf(s.Inventory, e.To), e.Types.Names(), append([]string{}, e.Virtuals...)})
		}
		all.Packages = append(all.Packages, d)
	}
	return all, nil
}

func (d *detail) print(env cli.Env, s shownMirror) error {
	escape.Fprintf(env.Stdout, "%s\n", d.Name+"@"+d.Version+"/"+d.Hash)
	t := tabwriter.NewWriter(env.Stdout, 2, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		escape.Fprintf(t, "  %s\t", name)
		escape.Fprintf(t, format+"\n", args...)
	}
	row("mirror", "%s, layout %s", s.shown, d.Layout)
	row("built for", "%s", d.node.Architecture())
	row("built with", "%s", strings.Join(d.Compilers, ", "))
	if d.Namespace != "" {
		row("recipe", "%s.%s", d.Namespace, d.Name)
	}
	var words []string
	for _, v := range d.node.Variants {
		words = append(words, v.String())
	}
	row("variants", "%s", strings.Join(words, " "))
	for _, name := range slices.Sorted(maps.Keys(d.Flags)) {
		row(name, "%s", strings.Join(d.Flags[name], " "))
	}
	switch {
	case d.Problem != "":
		row("problem", "%s", d.Problem)
	case !d.Signed:
		row("signature", "none")
	default:
		row("signature", "by %s, not checked", d.Signer)
	}
	if d.Stored != nil {
		row("stored", "%s, %s", day(*d.Stored), cli.Size(d.Bytes))
		row("sha256", "%s", d.Digest)
	}
	if p := d.Promotion; p != nil {
		at := ""
		if p.Endpoint != "" {
			at = " at " + p.Endpoint
		}
		row("promoted", "%s, from %s%s%s", p.Time.UTC().Format(time.RFC3339), strings.Join(p.From, ", "), at, by(p.By))
		row("", "rules: %s", p.Rules)
		if p.Run != "" {
			row("", "%s", p.Run)
		}
		row("", "evidence in %s", p.Record)
		if !p.Current {
			row("", "its document has been replaced since then")
		}
	}
	for i, e := range d.Dependencies {
		name := ""
		if i == 0 {
			name = "depends on"
		}
		row(name, "%s  %s%s", id(d.node.Dependencies[i].To), strings.Join(e.Types, ","), notOffered(s.Inventory, d.node.Dependencies[i].To))
	}
	row("install", "spack install --cache-only /%s", d.Hash)
	return t.Flush()
}

// by says on whose behalf something was done, if known.
func by(who string) string {
	if who == "" {
		return ""
	}
	return ", by " + who
}
