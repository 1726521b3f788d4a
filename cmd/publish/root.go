package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/browse"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/given"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/once"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/resume"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/keys"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/past"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/pruning"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/remote"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// A publishing holds the settings of a publish. The help texts of its flags are the manual.
type publishing struct {
	target       target.Config
	rules        cli.Rules
	output       cli.Output
	upstream     []string
	catalog      bool
	route        string // destination of packages that may not be redistributed; empty: they are refused
	dryRun, json bool
	timeout      time.Duration
}

const longHelp = `Publish a Spack mirror, or a tree of mirrors, of layout v3 (v3, blobs) or v2
(build_cache). Mirrors are recognised by their content. A mirror keeps its path: SOURCE/PATH
is published to DESTINATION/PATH.

DESTINATION is s3://bucket[/prefix], file:///directory or the path of a directory.

Everything is checked before it is sent, and the index is written last: readers see a working
mirror at all times. Any number of publishers may write to one mirror. Objects that exist are
not sent again; an interrupted upload is resumed.

Each flag may be given as PUBLISH_FLAG_NAME in the environment. Without arguments,
source, destination and flags are taken from publish.yaml in the current directory. A
flag wins over the environment, and the environment over the file. An unknown variable
PUBLISH_* or key is an error.

Exit codes: 0 done or nothing to do, 2 usage, 3 credentials, 4 source invalid, 5 upload
failed, 6 index not replaced, 7 published but invalidation failed, 8 published but
not visible, 9 published but its page is out of date, 124 timeout, 129, 130 and 143 stopped by a
signal: see publish help exit-codes.`

func rootCommand(env cli.Env) *cobra.Command {
	var p publishing
	env.Shared = new(cli.Output)
	cmd := &cobra.Command{
		Use:           "publish [flags] [SOURCE DESTINATION]",
		Short:         "Publish a Spack buildcache",
		Long:          longHelp,
		Example:       "  publish --dry-run ./buildcache s3://bucket/noble/spack\n  publish ./buildcache file:///srv/mirror",
		Args:          sourceAndDestination,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		// Names of commands are completed as well. Without this, cobra would complete no files.
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPublish(cmd, args, &p, env)
		},
	}
	cmd.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		cmd.SetContext(history.By(cmd.Context(), authorOf(env, cmd.CommandPath())))
		if file, _ := env.Lookup("SSL_CERT_FILE"); file != "" {
			if err := session.CheckSystemBundle(file); err != nil {
				return cli.Fail(cli.ExitUsage, err)
			}
		}
		err := errors.Join(once.Check(cmd), given.NoneEmpty(cmd), given.NoStreams(cmd, args), given.Applicable(cmd, args))
		if cmd.HasParent() && cmd.Name() != "exec" { // the others read all their settings from variables when they run
			err = errors.Join(err, cli.ReadShared(cmd, env))
		}
		return cli.Usage(err)
	}
	p.register(cmd)
	routeFlag(cmd.Flags(), &p.route)
	cmd.SetOut(env.Results) // help and completions hold no foreign text
	cmd.SetErr(env.Stderr)
	cmd.SetFlagErrorFunc(cli.FlagErrors(env, p.mistakes(env)))
	cmd.Flags().BoolP("version", "V", false, "print the version")
	cmd.AddCommand(browse.Ls(env), browse.Show(env), browse.Why(env), browse.Du(env), browse.Usage(env), browse.SBOM(env), past.History(env), past.Diff(env), past.Rollback(env), past.Withdraw(env), browse.Verify(env),
		copyCommand(env), exportCommand(env), importCommand(env), signCommand(env),
		catalogCommand(env), indexCommand(env), keys.Command(env), pruning.Command(env), viewCommand(env),
		benchCommand(env), actionCommand(env), indexerCommand(env),
		daemonCommand(env), remote.Push(env), remote.Status(env), remote.Drain(env), remote.Retry(env), remote.Forget(env), execCommand(env), doctorCommand(env), initCommand(env), versionCommand(env), manCommand(), exitCodesTopic())
	shareOutput(cmd, env.Shared)
	resumesNothing(cmd)
	help.Install(cmd, style.Of(env.Raw.Stdout, env.Lookup))
	return cmd
}

// withoutOutput lists commands without the flags that say how much is shown: those that write a log, and those
// that print one thing.
var withoutOutput = []string{"action", "daemon", "indexer", "man", "version"}

// leavesNothing lists commands that leave nothing for the next run to resume: those that only read, and those whose
// result is complete or missing.
var leavesNothing = []string{"diff", "doctor", "du", "export", "history", "list", "ls", "sbom", "show", "usage", "verify", "why"}

// resumesNothing makes the errors of these commands say that.
func resumesNothing(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		resumesNothing(c)
		if run := c.RunE; run != nil && slices.Contains(leavesNothing, c.Name()) {
			c.RunE = func(cmd *cobra.Command, args []string) error { return resume.Nothing(run(cmd, args)) }
		}
	}
}

// shareOutput adds the flags that say how much is shown to the commands that take this from their environment.
func shareOutput(cmd *cobra.Command, o *cli.Output) {
	for _, c := range cmd.Commands() {
		shareOutput(c, o)
		if c.HasSubCommands() && c.Flags().Lookup("quiet") == nil { // for cobra, which otherwise takes the word after -q for its value
			cli.OutputFlags(c.Flags(), new(cli.Output))
			for _, name := range []string{"quiet", "verbose"} {
				c.Flags().Lookup(name).Hidden = true
			}
			continue
		}
		run := c.RunE
		if run == nil || c.Flags().Lookup("quiet") != nil || slices.Contains(withoutOutput, c.Name()) {
			continue
		}
		cli.OutputFlags(c.Flags(), o)
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if err := o.Check(); err != nil {
				return cli.Usage(err)
			}
			return run(cmd, args)
		}
	}
}

func sourceAndDestination(cmd *cobra.Command, args []string) error {
	if len(args) == 0 || len(args) == 2 {
		return nil
	}
	if meant := help.DidYouMean(args[0], commandNames(cmd)); meant != "" && !strings.ContainsAny(args[0], "/.:") {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%s is no command%s", redact.URL(args[0]), meant))
	}
	if i := slices.IndexFunc(args, func(arg string) bool { return arg == "true" || arg == "false" }); i >= 0 {
		return cli.Fail(cli.ExitUsage, fmt.Errorf("%q is an argument here: the value of a flag that is true or false follows =, as in --publish-keys=%s", args[i], args[i]))
	}
	return cli.Fail(cli.ExitUsage, fmt.Errorf("%s, want SOURCE and DESTINATION: see publish --help", english.Plural(len(args), "argument", "")))
}

// commandNames returns the names of the commands below the root.
func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Root().Commands() {
		names = append(names, c.Name())
	}
	return names
}

// refuseAsUsage gives wrong arguments of a command, and of those below it, the exit code of wrong usage, also
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

func (p *publishing) register(cmd *cobra.Command) {
	p.rules = cli.DefaultRules()
	fs := cmd.Flags()
	fs.BoolVar(&p.dryRun, "dry-run", false, "print what would be done and do nothing")
	fs.BoolVar(&p.json, "json", false, "print one JSON document (see docs/json-report.md)")
	cli.OutputFlags(fs, &p.output)
	cli.StorageFlags(fs, &p.target)
	help.Choice(fs, &p.rules.Index, "index", p.rules.Index, "what to do with the index: merge the published packages into it, rebuild it from all packages of the mirror, or none",
		string(publish.IndexMerge), string(publish.IndexRebuild), string(publish.IndexNone))
	cli.ViewFlag(fs, &p.rules)
	cli.UpstreamFlag(fs, &p.upstream, "do not publish packages that the mirror at this `URL` offers, and refuse packages whose dependencies neither mirror has; repeatable")
	cli.RuleFlags(fs, &p.rules)
	cli.LicenceFlag(fs, &p.rules)
	fs.StringSliceVar(&p.rules.Selection.Files, "files", nil, "also publish plain files below SOURCE that match `GLOB`, each after its .asc and .sha256; repeatable")
	fs.BoolVar(&p.rules.KeepGoing, "keep-going", false, "publish the good packages even if others are bad; the exit code is still 4")
	fs.BoolVar(&p.rules.VerifySource, "verify-source", false, "also check the content of packages that the destination holds already")
	cli.CatalogFlag(fs, &p.catalog)
	cli.CDNFlags(fs, &p.target.CDN)
	cli.TimeoutFlag(fs, &p.timeout, "stop after this time, such as 30m; 0: never")
}

// job returns the publish to run, or all mistakes in its settings, as errors of package field.
func (p *publishing) job(env cli.Env, source, destination string, used []cli.Setting) (*task.Publish, error) {
	p.rules.Signing.ReadSecrets(env.Lookup)
	p.rules.Signing.AWS = p.target.AWS(env.Target())
	o, err := p.rules.Options()
	o.Route = p.route != ""
	if err = errors.Join(err, p.checkRoute(source, destination), p.output.Check(), cli.CheckUpstream(p.upstream), p.target.ValidateAt(destination)); err != nil {
		return nil, err
	}
	env.Output = p.output
	screen := task.NewScreen(env)
	return &task.Publish{
		Source: source, Destination: destination, Target: p.target, Options: o, DryRun: p.dryRun, Upstream: p.upstream, Catalog: p.catalog,
		Environment: env.Target(), Report: task.NewReport(env, source, destination, p.dryRun, used), Observer: screen, Identified: screen.Identified,
	}, nil
}

// mistakes returns a check of the settings for a command line whose flags do not parse.
func (p *publishing) mistakes(env cli.Env) cli.Check {
	return func(cmd *cobra.Command, args []string) error {
		if cmd.HasParent() && cmd.Name() != "exec" {
			return nil
		}
		if args == nil || len(args) == 1 || len(args) > 2 {
			_, err := p.job(env, "", "", nil)
			return cli.Named(err, nil)
		}
		_, err := p.read(cmd, args, env)
		return err
	}
}

// missingPlaces names the places that are not given, or empty.
func missingPlaces(source, destination string) string {
	var missing []string
	for _, place := range []struct{ name, value string }{{"SOURCE", source}, {"DESTINATION", destination}} {
		if place.value == "" {
			missing = append(missing, place.name)
		}
	}
	return strings.Join(missing, " and no ")
}

// read parses a command line. Its error holds all mistakes; nothing is published.
func (p *publishing) read(cmd *cobra.Command, args []string, env cli.Env) (*task.Publish, error) {
	source, destination, used, err := cli.ReadSettings(cmd, args, env)
	if missing := missingPlaces(source, destination); err == nil && missing != "" {
		if _, statErr := os.Stat("publish.yml"); statErr == nil {
			return nil, fmt.Errorf("no %s: publish.yml is not read, %s is", missing, cli.ConfigFile)
		}
		return nil, fmt.Errorf("no %s: give both, or a publish.yaml, or PUBLISH_SOURCE and PUBLISH_DESTINATION; see %s --help", missing, cmd.CommandPath())
	}
	var commands []string
	if !cmd.HasParent() {
		commands = commandNames(cmd)
	}
	var placesErr error
	if source != "" && destination != "" {
		source, destination, placesErr = cli.Places(source, destination, commands)
	}
	j, jobErr := p.job(env, source, destination, used)
	err = errors.Join(err, placesErr, jobErr)
	if _, statErr := os.Stat(source); err != nil && placesErr == nil && !cmd.HasParent() && errors.Is(statErr, fs.ErrNotExist) { // alone it has another exit code
		err = errors.Join(err, fmt.Errorf("SOURCE %s is not there", source))
	}
	return j, cli.Named(err, used)
}

func runPublish(cmd *cobra.Command, args []string, p *publishing, env cli.Env) error {
	j, err := p.read(cmd, args, env)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	ctx, cancel := cli.WithTimeout(cmd.Context(), p.timeout)
	defer cancel()
	introduce(j)
	err = p.output.Tell(p.runRouted(ctx, j, env, j.Run(ctx)))
	j.Report.Finish(err)
	if printErr := p.print(j.Report, env); err == nil {
		err = printErr
	}
	return err
}

// introduce prints SOURCE and DESTINATION as the program understood them.
func introduce(j *task.Publish) {
	if screen, ok := j.Observer.(*task.Screen); ok {
		screen.Introduce(j.Source, j.Destination, "")
	}
}

func versionCommand(env cli.Env) *cobra.Command {
	return &cobra.Command{
		GroupID: help.Other, Use: "version", Short: "Print the version", Args: cli.Arguments,
		Example: "  publish version",
		Run:     func(*cobra.Command, []string) { fmt.Fprintln(env.Stdout, version) },
	}
}

func manCommand() *cobra.Command {
	return &cobra.Command{
		GroupID: help.Other, Use: "man DIRECTORY", Short: "Write the manual pages into a directory", Args: cli.Arguments,
		Example: "  publish man ~/.local/share/man/man1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o777); err != nil {
				return cli.Fail(cli.ExitUsage, err)
			}
			return writeManuals(cmd.Root(), args[0])
		},
	}
}

// writeManuals writes the manual pages of a command and of those below it. They show a version and no date, so
// that the same source makes the same pages.
func writeManuals(cmd *cobra.Command, dir string) error {
	if !cmd.IsAvailableCommand() && cmd.HasParent() || cmd.IsAdditionalHelpTopicCommand() {
		return nil
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	epoch := time.Unix(0, 0).UTC()
	var page bytes.Buffer
	header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "publish " + version, Date: &epoch}
	if err := doc.GenMan(cmd, header, &page); err != nil {
		return err
	}
	text := bytes.Replace(page.Bytes(), []byte(epoch.Format(`"Jan 2006"`)), []byte(`""`), 1)
	if err := os.WriteFile(filepath.Join(dir, name+".1"), text, 0o666); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if err := writeManuals(c, dir); err != nil {
			return err
		}
	}
	return nil
}
