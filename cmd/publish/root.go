package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// flags are what a user may say about a publish. The help texts are the manual.
type flags struct {
	storage storageFlags
	cdn     cdnFlags

	dryRun, json            bool
	index, ifExists         string
	requireSigned           bool
	trustedKeys             string
	publishKeys             bool
	keepGoing, verifySource bool
	timeout                 time.Duration
	selection               publish.Selection
}

const longHelp = `Publish a Spack mirror, or a tree of mirrors, of layout v3 (v3, blobs) or v2
(build_cache). Mirrors are recognised by what is in them; their paths below SOURCE are
kept below DESTINATION, and nothing is appended.

DESTINATION is s3://bucket[/prefix] or file:///directory.

Nothing is sent unchecked, and the index comes last: whoever looks at any moment has a
mirror that works. Any number of publishers may write one mirror. What is there already
is not sent again; what was interrupted is resumed.

Each flag may be given as PUBLISH_FLAG_NAME in the environment. Without arguments,
source, destination and flags are taken from publish.yaml in the current directory. A
flag wins over the environment, and the environment over the file. A variable PUBLISH_* or
a key that is no setting is an error.

Exit codes: 0 done or nothing to do, 2 usage, 3 credentials, 4 source invalid, 5 upload
failed, 6 index not replaced, 7 published but invalidation failed, 8 published but
not visible, 124 timeout, 129, 130 and 143 stopped by a signal.`

func rootCommand(env cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:           "publish [flags] [SOURCE DESTINATION]",
		Short:         "Publish a Spack buildcache",
		Long:          longHelp,
		Example:       "  publish --dry-run ./buildcache s3://bucket/noble/spack\n  publish ./buildcache file:///srv/mirror",
		Args:          argsOrUsage,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPublish(cmd, args, &f, env)
		},
	}
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		if file, _ := env.Lookup("SSL_CERT_FILE"); file != "" {
			if err := session.CheckSystemBundle(file); err != nil {
				return cli.Fail(cli.ExitUsage, err)
			}
		}
		return nil
	}
	f.register(cmd)
	cmd.SetOut(env.Results) // help and completions are our own words
	cmd.SetErr(env.Stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Fail(cli.ExitUsage, err) })
	cmd.AddCommand(lsCommand(env), showCommand(env), whyCommand(env), duCommand(env), indexCommand(env), indexerCommand(env), verifyCommand(env), benchCommand(env), actionCommand(env),
		daemonCommand(env), pushCommand(env), statusCommand(env), drainCommand(env), retryCommand(env), forgetCommand(env), execCommand(env), doctorCommand(env), versionCommand(env), manCommand())
	return cmd
}

func argsOrUsage(_ *cobra.Command, args []string) error {
	if len(args) != 0 && len(args) != 2 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%s, want SOURCE and DESTINATION: see publish --help", english.Plural(len(args), "argument", "")))
	}
	return nil
}

// refuseAsUsage gives wrong arguments of a command and of those below it the exit code of wrong usage, also
// where cobra checks the arguments.
func refuseAsUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil || cli.IsUsage(err) {
				return err
			}
			return cli.Fail(cli.ExitUsage, err)
		}
	}
	for _, c := range cmd.Commands() {
		refuseAsUsage(c)
	}
}

func (f *flags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.BoolVar(&f.dryRun, "dry-run", false, "print what would be done and do nothing")
	fs.BoolVar(&f.json, "json", false, "print one JSON document (see docs/json-report.md)")
	f.storage.register(fs)
	fs.StringVar(&f.index, "index", string(publish.IndexMerge), "what becomes of the index: merge what is published into it, rebuild it of all that is there, or none")
	f.registerRules(fs)
	fs.StringSliceVar(&f.selection.Files, "files", nil, "publish plain files that match `GLOB` below SOURCE too, each after its .asc and .sha256; repeatable")
	fs.BoolVar(&f.keepGoing, "keep-going", false, "publish what is good although something else is bad; the exit code is 4 all the same")
	fs.BoolVar(&f.verifySource, "verify-source", false, "check the content of packages that the destination holds already, too")
	f.cdn.register(fs)
	fs.DurationVar(&f.timeout, "timeout", 0, "stop after this time, such as 30m; 0: never")
}

// registerRules is the part of register that says which packages may be published.
func (f *flags) registerRules(fs *pflag.FlagSet) {
	fs.StringVar(&f.ifExists, "if-exists", string(publish.Skip), "what becomes of a package that is there with another document: skip, overwrite or error")
	fs.BoolVar(&f.requireSigned, "require-signed", false, "refuse packages that are not signed")
	fs.StringVar(&f.trustedKeys, "trusted-keys", "", "`FILE` of armored public keys: refuse signatures by any other, and publish no other key")
	fs.BoolVar(&f.publishKeys, "publish-keys", true, "publish the public keys of the signers, so that clients can trust them")
	fs.StringSliceVar(&f.selection.Include, "include", nil, "publish only `PATTERN`: name, name@version, /hash or @spack.lock; names and versions may hold * and ?; repeatable")
	fs.StringSliceVar(&f.selection.Exclude, "exclude", nil, "leave out `PATTERN`, as for --include; repeatable")
	fs.StringVar(&f.selection.Layout, "layout", "", "publish only mirrors of this layout, v3 or v2; default: both")
	fs.StringSliceVar(&f.selection.OS, "expect-os", nil, "refuse packages that were built for another operating system than `PATTERN`, such as ubuntu22.04; repeatable")
	fs.StringSliceVar(&f.selection.Target, "expect-target", nil, "refuse packages that were built for another target than `PATTERN`, such as x86_64*; repeatable")
}

// options turns the words of the flags into what package publish understands.
func (f *flags) options() (publish.Options, error) {
	o := publish.Options{
		Selection: f.selection, Index: publish.IndexMode(f.index), IfExists: publish.IfExists(f.ifExists),
		KeepGoing: f.keepGoing, VerifySource: f.verifySource,
	}
	o.Selection.NoKeys = !f.publishKeys
	var errs []error
	if !cli.OneOf(o.Index, publish.IndexMerge, publish.IndexRebuild, publish.IndexNone) {
		errs = append(errs, fmt.Errorf("--index %q: want merge, rebuild or none", f.index))
	}
	if !cli.OneOf(o.IfExists, publish.Skip, publish.Overwrite, publish.Refuse) {
		errs = append(errs, fmt.Errorf("--if-exists %q: want skip, overwrite or error", f.ifExists))
	}
	if err := f.selection.Validate(); err != nil {
		errs = append(errs, err)
	} else if err := o.Selection.ReadLocks(userfile.Read); err != nil {
		errs = append(errs, err)
	}
	if _, err := f.storage.assumed(nil); err != nil {
		errs = append(errs, err)
	}
	if err := f.cdn.check(); err != nil {
		errs = append(errs, err)
	}
	if err := (s3.Options{EndpointURL: f.storage.s3.EndpointURL}).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--endpoint-url: %w", err))
	}
	var err error
	if o.Trust, err = readTrust(f.requireSigned, f.trustedKeys); err != nil {
		errs = append(errs, err)
	}
	return o, cli.Fail(cli.ExitUsage, errors.Join(errs...))
}

func readTrust(require bool, file string) (buildcache.Trust, error) {
	t := buildcache.Trust{RequireSigned: require}
	if file == "" {
		return t, nil
	}
	armored, err := userfile.Read(file)
	if err != nil {
		return t, fmt.Errorf("--trusted-keys: %w", err)
	}
	if t.Keys, err = key.ReadRing(armored); err != nil {
		return t, fmt.Errorf("--trusted-keys %s: %w", file, err)
	}
	return t, nil
}

func runPublish(cmd *cobra.Command, args []string, f *flags, env cli.Env) error {
	source, destination, used, err := cli.ReadSettings(cmd, args, env)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	if source == "" || destination == "" {
		return cli.Fail(cli.ExitUsage, errors.New("no SOURCE and DESTINATION: give both, or a publish.yaml, or PUBLISH_SOURCE and PUBLISH_DESTINATION; see publish --help"))
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	log := env.Log()
	j := job{flags: f, options: o, env: env, log: log, report: env.NewReport(source, destination, f.dryRun, used), observer: cli.Screen{Env: env}}
	err = j.do(ctx, source, destination)
	j.report.Finish(err)
	if printErr := j.report.Print(env.Stdout, f.json); err == nil {
		err = printErr
	}
	return err
}

func versionCommand(env cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: arguments,
		Run: func(*cobra.Command, []string) { fmt.Fprintln(env.Stdout, version) },
	}
}

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "Write the manual pages into a directory", Args: arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			epoch := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Title: "PUBLISH", Section: "1", Source: "publish " + version, Date: &epoch}
			if err := os.MkdirAll(args[0], 0o777); err != nil {
				return cli.Fail(cli.ExitUsage, err)
			}
			return doc.GenManTree(cmd.Root(), header, args[0])
		},
	}
}
