package browse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/sbom"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/escape"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const sbomHelp = `Write a bill of materials of packages in a cache and their runtime dependencies, as SPDX 2.3
or CycloneDX 1.6 in JSON: of packages that match SPEC, of an environment (@spack.lock), of a
view, or of all packages.

Each package has its version, its package URL, the SHA-256 of its tarball and how it was
built. Dependencies that are not in the cache are listed as such. If the document of a package
cannot be read, or the cache does not offer a package of spack.lock, the command fails: nothing is
left out.
` + browseHelp + `
` + queryHelp

// sbomFlags are the flags of publish sbom.
type sbomFlags struct {
	browseFlags
	format, supplier, public string
	types                    []string
	licences                 bool
}

// SBOM returns the command `publish sbom`.
func SBOM(env cli.Env) *cobra.Command {
	var f sbomFlags
	cmd := &cobra.Command{
		GroupID: help.Looking, Use: "sbom DESTINATION|URL [SPEC...|@spack.lock]", Short: "Write a bill of materials of a cache", Long: sbomHelp, Args: cli.AtLeast(1),
		Example: "  publish sbom https://cache.example.org/noble/spack slurm > slurm.spdx.json\n  publish sbom --format cyclonedx s3://bucket/noble/spack @spack.lock > bom.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSbom(cmd, args, &f, env)
		},
	}
	fs := cmd.Flags()
	help.Choice(fs, &f.format, "format", "spdx", "form of the document", "spdx", "cyclonedx")
	fs.StringVar(&f.supplier, "supplier", "", "the organization that distributes the packages, such as \"ACME HPC\"")
	fs.StringVar(&f.public, "public-url", "", "`URL` at which clients find DESTINATION, for the addresses of packages; default: the URL, if one is given")
	help.Choices(fs, &f.types, "deptypes", []string{"link", "run"}, "include dependencies of these `TYPES`: build, link, run, test or all", depTypes...)
	fs.BoolVar(&f.licences, "licenses", false, "name the licence of each package, from the recipe in its tarball, with one more request per package")
	fs.StringVar(&f.view, "view", "", "only the packages of the view `NAME`")
	cli.ReadFlags(fs, &f.target)
	cli.TimeoutFlag(fs, &f.timeout, "stop after this time, such as 30m; 0: never")
	return cmd
}

func runSbom(cmd *cobra.Command, args []string, f *sbomFlags, env cli.Env) error {
	if f.public != "" && !strings.Contains(f.public, "://") {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--public-url %q: want a URL, such as https://cache.example.org/noble/spack", f.public))
	}
	write := map[string]func(*sbom.Stack, io.Writer) error{"spdx": (*sbom.Stack).SPDX, "cyclonedx": (*sbom.Stack).CycloneDX}[f.format]
	if write == nil {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--format %q: want spdx or cyclonedx", f.format))
	}
	types, err := query.ParseDepTypes(f.types)
	if err != nil {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--deptypes: %w", err))
	}
	created, err := creation(env)
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
	if len(mirrors) > 1 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%s has %d mirrors: name one, such as %s", args[0], len(mirrors), mirrors[0].shown))
	}
	s := mirrors[0]
	roots, err := rootsOf(args, mirrors)
	if err != nil {
		return err
	}
	o := sbom.Options{Name: s.shown, Supplier: f.supplier, Licences: f.licences, Base: f.public, Tool: "publish", Version: env.Version, Created: created}
	if o.Base == "" && strings.HasPrefix(args[0], "http") {
		o.Base = s.shown // without its password
	}
	return writeSbom(ctx, env, s, roots, types, o, write)
}

func writeSbom(ctx context.Context, env cli.Env, s shownMirror, roots []*inventory.Build, types query.DepTypes, o sbom.Options, write func(*sbom.Stack, io.Writer) error) error {
	stack, err := sbom.New(ctx, s.reader, s.Inventory, roots, types, o)
	if bad := (*sbom.UnusableError)(nil); errors.As(err, &bad) || errors.Is(err, mirror.ErrNotExist) {
		return cli.Fail(cli.ExitSource, err)
	}
	if err != nil {
		return err
	}
	if err := write(stack, env.Stdout); err != nil {
		return err
	}
	if env.Shows().Quiet {
		return nil
	}
	_, err = escape.Fprintf(env.Stderr, "%s\n", english.Plural(stack.Packages(), "package", ""))
	return err
}

// creation is the time in the document: SOURCE_DATE_EPOCH if it is set.
func creation(env cli.Env) (time.Time, error) {
	text, set := env.Lookup("SOURCE_DATE_EPOCH")
	if !set {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is no number of seconds", text)
	}
	return time.Unix(seconds, 0), nil
}

// rootsOf returns the packages that arguments name.
func rootsOf(args []string, mirrors []shownMirror) ([]*inventory.Build, error) {
	s := mirrors[0]
	if len(args) == 2 && strings.HasPrefix(args[1], "@") && strings.HasSuffix(args[1], ".lock") {
		return locked(args[1][1:], s)
	}
	q, err := parseQuery(args[1:])
	if err != nil {
		return nil, err
	}
	roots := s.Select(q)
	if len(roots) == 0 && !q.All() {
		return nil, nothing(args[0], mirrors, args[1:], q)
	}
	return roots, nil
}

// locked returns the packages of an environment. A missing package is an error.
func locked(file string, s shownMirror) ([]*inventory.Build, error) {
	text, err := userfile.Read(file)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, err)
	}
	lock, err := lockfile.Parse(text)
	if err != nil {
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("%s: %w", file, err))
	}
	var roots []*inventory.Build
	var missing []string
	for _, n := range lock.Needed(false) {
		if b := s.Offers(s.Graph.Node(string(n.Hash))); b != nil {
			roots = append(roots, b)
		} else {
			missing = append(missing, n.ID())
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, cli.Fail(cli.ExitSource, fmt.Errorf("%s does not offer %s of %s: %s", s.shown, english.Plural(len(missing), "package", ""), file, strings.Join(missing, ", ")))
	}
	return roots, nil
}
