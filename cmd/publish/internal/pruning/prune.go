// Package pruning is the command publish prune, which deletes unneeded objects.
package pruning

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/prune"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/roots"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
)

const longHelp = `Show the objects of a mirror, or of each mirror of a tree, that are no longer needed. With --yes,
delete them.

Without rules, all packages stay. Only objects without references are deleted: superseded indices,
leftovers of interrupted publishers and prunes, and unfinished uploads. Rules say which packages to
keep: the packages that any rule selects, those of named indices, and the dependencies of all
these. All other packages are deleted.

Publishers and clients may be at work. The order of publishing is reversed: first the package
leaves the index, then, after the grace period, its document is deleted, then, after another grace
period, its content. Before it deletes, a prune checks again. Publishers of this release keep it
from deleting objects that they are about to use; --min-age protects Spack's own push.

No other command deletes. The plan, which is printed first, takes only read requests.`

// The shortest times that keep a prune and publishers apart: see package notice.
const (
	leastGrace = 2 * notice.Fresh
	leastAge   = 2 * notice.Young
)

// A pruning holds the settings of a prune.
type pruning struct {
	target    target.Config
	options   prune.Options
	lists     []string
	locks     []string
	roots     []string
	used      time.Duration
	usage     []string
	inventory string
	yes, json bool
	timeout   time.Duration
	plans     map[string]*prune.Plan // plans made before, by the path of the mirror
}

// Command returns the command `publish prune`.
func Command(env cli.Env) *cobra.Command {
	x := pruning{options: prune.Defaults()}
	cmd := &cobra.Command{
		GroupID: help.Maintaining, Use: "prune DESTINATION", Short: "Delete unneeded packages and objects", Long: longHelp, Args: cli.Arguments,
		Example: "  publish prune s3://bucket/noble/spack\n  publish prune --keep-newer 90d --keep-versions 2 --yes s3://bucket/noble/spack",
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, args[0], &x, env)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&x.yes, "yes", false, "delete; without it only the plan is shown")
	fs.BoolVar(&x.json, "json", false, "print one JSON document (see docs/json-report.md)")
	help.Group(fs, "What is kept", x.register)
	cli.StorageFlags(fs, &x.target)
	cli.CDNFlags(fs, &x.target.CDN)
	fs.StringVar(&x.inventory, "inventory", "", "plan with this S3 Inventory instead of listing content: `URL` of its manifest.json, s3://bucket/.../manifest.json")
	cli.TimeoutFlag(fs, &x.timeout, "stop after this time, such as 2h; 0: never")
	return cmd
}

func (x *pruning) register(fs *pflag.FlagSet) {
	k := &x.options.Keep
	fs.Var(quantity.Age(&k.Newer), "keep-newer", "keep packages stored less than this `AGE` ago, such as 90d")
	fs.IntVar(&k.Versions, "keep-versions", 0, "keep the packages of this many newest versions of each name")
	fs.StringSliceVar(&x.lists, "keep-list", nil, "keep the packages in this `FILE`: one hash a line, as for spack buildcache prune; repeatable")
	fs.StringSliceVar(&x.locks, "keep-lock", nil, "keep the packages of this spack.lock `FILE`; repeatable")
	fs.StringArrayVar(&x.roots, "keep-root", nil, "keep the packages that match this `SPEC`, in Spack's syntax; repeatable")
	fs.Var(quantity.Age(&x.used), "keep-used", "keep the packages that clients have fetched less than this `AGE` ago, according to --usage")
	fs.StringArrayVar(&x.usage, "usage", nil, "access logs: a file, a directory or s3://bucket/prefix `PLACE`, of CloudFront or S3; repeatable")
	fs.BoolVar(&k.Views, "keep-views", k.Views, "keep the packages of named indices; alone it is not a rule")
	fs.IntVar(&k.Generations, "keep-generations", k.Generations, "keep the indices of this many newest generations; if given, also the packages in them")
	fs.Var(quantity.Age(&k.Withdrawn), "keep-withdrawn", "keep what an undo of withdrawn packages needs for this `AGE`; 0: for ever")
	fs.BoolVar(&x.options.AllowEmpty, "allow-empty", false, "allow rules that keep no package of a mirror")
	fs.Var(quantity.Age(&x.options.MinAge), "min-age", "keep everything stored less than this `AGE` ago; at least 1h")
	fs.Var(quantity.Age(&x.options.Grace), "grace", "wait this `AGE` between the steps, for clients with an older index; at least 10m")
	fs.BoolVar(&x.options.Alone, "alone", false, "do not wait, and ignore the age of objects: only if no publisher and no client uses the mirror now")
}

// check reads the files that the rules name, and returns all mistakes in the rules.
func (x *pruning) check(set func(string) bool) error {
	var errs []error
	wrong := func(flag string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	o := &x.options
	if o.Keep.Versions < 0 || o.Keep.Versions == 0 && set("keep-versions") {
		wrong("keep-versions", errors.New("want at least 1"))
	}
	if o.Keep.Newer == 0 && set("keep-newer") {
		wrong("keep-newer", errors.New("want an age, such as 90d"))
	}
	if (x.used > 0) != (len(x.usage) > 0) {
		wrong("keep-used", errors.New("it wants an age such as 180d, and --usage with the place of access logs"))
	}
	if x.inventory != "" && !strings.HasPrefix(x.inventory, "s3://") {
		wrong("inventory", fmt.Errorf("%q: want s3://bucket/.../manifest.json", redact.URL(x.inventory)))
	}
	if o.Keep.Generations < 0 {
		wrong("keep-generations", errors.New("want 0 or more"))
	}
	o.Keep.Offered = set("keep-generations") && o.Keep.Generations > 0
	for _, file := range x.lists {
		wrong("keep-list "+file, x.keep(file, prune.ParseList))
	}
	for _, file := range x.locks {
		wrong("keep-lock "+file, x.keep(file, hashesOf))
	}
	for _, text := range x.roots {
		q, err := query.Parse(text)
		if err == nil && q.All() {
			err = errors.New("it matches every package: to keep all, give no rule")
		}
		wrong("keep-root", err)
		o.Keep.Roots = append(o.Keep.Roots, prune.Root{Query: q, Text: text})
	}
	switch {
	case o.Alone && (set("grace") || set("min-age")):
		wrong("alone", errors.New("it does not wait: give neither --grace nor --min-age"))
	case o.Alone:
		o.Grace, o.MinAge, o.Settle = 0, 0, 0
	default:
		if o.Grace < leastGrace {
			wrong("grace", fmt.Errorf("want at least %s, or --alone if nobody publishes or installs", leastGrace))
		}
		if o.MinAge < leastAge {
			wrong("min-age", fmt.Errorf("want at least %s, or --alone if nobody publishes or installs", leastAge))
		}
	}
	return cli.Usage(errors.Join(errors.Join(errs...), x.target.Validate()))
}

// keep adds the packages in a file.
func (x *pruning) keep(file string, parse func([]byte) ([]spec.Hash, error)) error {
	text, err := userfile.Read(file)
	if err != nil {
		return err
	}
	all, err := parse(text)
	if err != nil {
		return err
	}
	if x.options.Keep.Hashes == nil {
		x.options.Keep.Hashes = make(map[spec.Hash]bool)
	}
	for _, h := range all {
		x.options.Keep.Hashes[h] = true
	}
	return nil
}

func hashesOf(text []byte) ([]spec.Hash, error) {
	lock, err := lockfile.Parse(text)
	if err != nil {
		return nil, err
	}
	return lock.Hashes(), nil
}

func run(cmd *cobra.Command, where string, x *pruning, env cli.Env) error {
	if err := x.check(cmd.Flags().Changed); err != nil {
		return err
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), x.timeout)
	defer cancel()
	debug.SetMemoryLimit(prune.Memory) // a soft limit: larger mirrors take more
	d, cdn, err := cli.OpenServed(ctx, env, where, x.target)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := x.readUsage(ctx, env); err != nil {
		return err
	}
	list, err := x.openInventory(ctx, env, where)
	if err != nil {
		return err
	}
	defer list.Close()
	r := report{Version: cli.ReportVersion, Deletes: x.yes, Mirrors: []*prunedMirror{}}
	err = x.refuseUnmatched(ctx, d, list)
	if err == nil {
		err = roots.Each(ctx, d.Mirror(""), func(path string) error {
			return cli.Below(path, x.mirror(ctx, env, d, cdn, path, list, &r))
		})
	}
	if x.json {
		return errors.Join(err, cli.WriteJSON(env.Stdout, r))
	}
	if err == nil {
		err = r.end(env.Told(), where)
	}
	return err
}

// mirror prunes one mirror. The plan is shown before anything is deleted.
func (x *pruning) mirror(ctx context.Context, env cli.Env, d *target.Destination, cdn *target.CDN, path string, list *inventory, r *report) error {
	p, err := x.plan(ctx, d, path, list)
	if err != nil {
		return err
	}
	m := newMirror(path, p)
	r.Mirrors = append(r.Mirrors, m)
	if !x.json {
		m.print(env.Told(), env.Stdout)
	}
	if !x.yes {
		return nil
	}
	out, err := p.Apply(ctx, d.Mirror(path), d.Deleter(path), &progress{to: env.Stderr, path: path, cdn: cdn})
	m.done(out)
	if !x.json {
		m.printOutcome(env.Told())
	}
	return emptied(err)
}

func (x *pruning) plan(ctx context.Context, d *target.Destination, path string, list *inventory) (*prune.Plan, error) {
	if p := x.plans[path]; p != nil {
		delete(x.plans, path)
		return p, nil
	}
	o := x.options
	o.Listing = list.objects(ctx, path)
	p, err := prune.New(ctx, d.Mirror(path), o)
	return p, emptied(err)
}

// emptied makes an error of usage of rules that keep nothing, at the plan or at the check before deleting.
func emptied(err error) error {
	if empty := (*prune.EmptyError)(nil); errors.As(err, &empty) {
		return cli.WithHint(cli.Fail(cli.ExitUsage, err), "correct the rules: `publish ls` lists the packages; with --allow-empty all of them are deleted")
	}
	return err
}

// refuseUnmatched returns an error before anything is deleted if a rule matches no package in any mirror: a
// misspelt rule would not keep its packages. It plans mirrors until each rule has matched, and keeps the plan
// of the first.
func (x *pruning) refuseUnmatched(ctx context.Context, d *target.Destination, list *inventory) error {
	if !x.yes || len(x.options.Keep.Roots)+len(x.options.Keep.Hashes) == 0 {
		return nil
	}
	var unmatched map[string]string
	matched := errors.New("each rule has matched")
	err := roots.Each(ctx, d.Mirror(""), func(path string) error {
		p, err := x.plan(ctx, d, path, list)
		if err != nil {
			return cli.Below(path, err)
		}
		if x.plans == nil {
			x.plans = map[string]*prune.Plan{path: p}
		}
		unmatched = prune.BothUnmatched(unmatched, p.Unmatched)
		if unmatched != nil && len(unmatched) == 0 {
			return matched
		}
		return nil
	})
	switch {
	case err == nil && len(unmatched) > 0:
	case errors.Is(err, matched):
		return nil
	default:
		return err
	}
	var errs []error
	for _, rule := range slices.Sorted(maps.Keys(unmatched)) {
		flag := "--keep-root " + rule
		if rule == "" {
			flag = "--keep-list, --keep-lock"
		}
		errs = append(errs, fmt.Errorf("%s: %s", flag, unmatched[rule]))
	}
	return cli.WithHint(cli.Fail(cli.ExitUsage, errors.Join(errs...)), "correct the rule, or leave it out: `publish ls` lists the packages")
}
