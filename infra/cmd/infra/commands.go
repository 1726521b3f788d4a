package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/github"
)

// tool is what the commands that call cdk have in common.
type tool struct {
	environment
	*settings
	profile, cdkPath, output string
}

// newStackFlags adds the stack's flags to a command.
func newStackFlags(cmd *cobra.Command, e environment) *tool {
	t := &tool{environment: e, settings: newSettings()}
	cmd.Flags().AddFlagSet(t.settings.flags)
	return t
}

// newTool adds the stack's flags and the tool's own to a command.
func newTool(cmd *cobra.Command, e environment) *tool {
	t := newStackFlags(cmd, e)
	cmd.Flags().StringVar(&t.profile, "profile", "", "AWS profile (default: the SDK's own search for credentials)")
	cmd.Flags().StringVar(&t.cdkPath, "cdk", "", "CDK command line tool (default: node_modules/.bin/cdk here or in infra/, then PATH)")
	cmd.Flags().StringVarP(&t.output, "output", "o", "", "directory for the synthesized assembly (default $CDK_OUTDIR, else cdk.out)")
	return t
}

// offline is the configuration from flags, environment and file alone.
func (t *tool) offline() (infra.Config, error) {
	if err := t.fill(t.getenv); err != nil {
		return infra.Config{}, usage{err}
	}
	c, err := t.stack()
	if err != nil {
		return c, usage{err}
	}
	return c, nil
}

// A site is a configuration with the account that it is for and the stack that is there.
type site struct {
	infra.Config
	aws  aws.Config
	live live
}

// online completes the configuration with what the account knows: its number, the settings
// that the deployed stack remembers, and the zone's name.
func (t *tool) online(ctx context.Context) (site, error) {
	c, err := t.offline()
	if err != nil {
		return site{}, err
	}
	s := site{Config: c}
	if s.aws, err = account(ctx, t.profile); err != nil {
		return s, err
	}
	id, err := accountID(ctx, s.aws)
	if err != nil {
		return s, err
	}
	if c.Account != "" && c.Account != id {
		return s, hinted{fmt.Errorf("--account %s, but the credentials belong to %s", c.Account, id), t.signIn()}
	}
	if s.live, err = readStack(ctx, s.aws, c.StackName); err != nil {
		return s, err
	}
	if s.live.exists() {
		if err := isOurs(c.StackName, s.live.template); err != nil {
			return s, err
		}
	}
	if err := t.remember(s.live.settings); err != nil {
		return s, err
	}
	if s.Config, err = t.stack(); err != nil {
		return s, usage{err}
	}
	if s.Config, err = t.askGitHub(ctx, github.CLI(), s.Config); err != nil {
		return s, usage{err}
	}
	if t.hostedZoneID != "" && !t.given("zone-name") {
		name, err := zoneName(ctx, s.aws, t.hostedZoneID)
		if err != nil {
			return s, err
		}
		if err := t.flags.Set("zone-name", name); err != nil {
			return s, err
		}
	}
	if err := t.shareProvider(ctx, s, id); err != nil {
		return s, err
	}
	if s.Config, err = t.stack(); err != nil {
		return s, usage{err}
	}
	s.Account = id
	return s, nil
}

// shareProvider lets a second deployment use the account's identity provider for GitHub,
// of which there can be only one.
func (t *tool) shareProvider(ctx context.Context, s site, account string) error {
	if s.live.exists() || orNone(t.namePrefix) == "" || t.flags.Changed("oidc-provider-arn") {
		return nil
	}
	arn, err := githubProvider(ctx, s.aws, account)
	if err != nil || arn == "" {
		return err
	}
	fmt.Fprintf(t.stderr, "the account has an OIDC provider for GitHub, which this deployment shares: %s\n", arn)
	return t.flags.Set("oidc-provider-arn", arn)
}

func (t *tool) signIn() string {
	if t.getenv("CDK_OUTDIR") != "" {
		return blind
	}
	return "sign in to the right account, or pass --profile"
}

func (t *tool) outdir() string {
	for _, dir := range []string{t.output, t.getenv("CDK_OUTDIR")} {
		if dir != "" {
			return dir
		}
	}
	return "cdk.out"
}

// cdk runs the CDK tool on an assembly.
func (t *tool) cdk(ctx context.Context, dir string, args []string) error {
	tool, err := findCDK(ctx, t.cdkPath)
	if err != nil {
		return err
	}
	return tool.run(ctx, t.environment, t.profile, append(args, "--app", dir)...)
}

// warn says what is allowed and should not be chosen lightly.
func (t *tool) warn(c infra.Config) {
	for _, w := range c.Warnings() {
		fmt.Fprintf(t.stderr, "warning: %s\n", w)
	}
}

func newBootstrap(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bootstrap [-- CDK-ARGUMENT...]",
		Short: "Prepare the account for CDK, once",
		Args:  onlyForCDK,
	}
	region := cmd.Flags().String("region", infra.Region, "AWS region")
	id := cmd.Flags().String("account", "", "AWS account id (default: of the current credentials)")
	profile := cmd.Flags().String("profile", "", "AWS profile")
	path := cmd.Flags().String("cdk", "", "CDK command line tool (default: node_modules/.bin/cdk here or in infra/, then PATH)")
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		ctx := cmd.Context()
		if *region != infra.Region {
			return usage{fmt.Errorf("--region %s: the stack lives in %s", *region, infra.Region)}
		}
		if *id == "" {
			cfg, err := account(ctx, *profile)
			if err != nil {
				return err
			}
			if *id, err = accountID(ctx, cfg); err != nil {
				return err
			}
		}
		tool, err := findCDK(ctx, *path)
		if err != nil {
			return err
		}
		// Where there is a cdk.json, cdk would start the app in it before anything else.
		if tool.dir, err = os.MkdirTemp("", "infra-bootstrap-"); err != nil {
			return err
		}
		defer os.RemoveAll(tool.dir)
		return tool.run(ctx, e, *profile, append([]string{"bootstrap", "aws://" + *id + "/" + *region}, extra...)...)
	}
	return cmd
}

func newPermissions(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "permissions",
		Short: "Show what each role may do, from the same policies that are deployed",
		Args:  noArguments,
	}
	t := newStackFlags(cmd, e)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := t.offline()
		if err != nil {
			return err
		}
		fmt.Fprint(t.stdout, infra.PermissionsTable(c))
		return nil
	}
	return cmd
}

func newSettingsList(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settings",
		Short: "List every setting with its variable and default, or those that the stack remembers",
		Args:  noArguments,
	}
	t := newStackFlags(cmd, e)
	deployed := cmd.Flags().Bool("deployed", false, "print what the deployed stack remembers, as a file for --config")
	cmd.Flags().StringVar(&t.profile, "profile", "", "AWS profile")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*deployed {
			fmt.Fprint(e.stdout, settingsTable())
			return nil
		}
		return t.showRemembered(cmd.Context())
	}
	return cmd
}

func (t *tool) showRemembered(ctx context.Context) error {
	c, err := t.offline()
	if err != nil {
		return err
	}
	cfg, err := account(ctx, t.profile)
	if err != nil {
		return err
	}
	l, err := readStack(ctx, cfg, c.StackName)
	switch {
	case err != nil:
		return err
	case !l.exists():
		return notThere(c.StackName, l.status)
	case isOurs(c.StackName, l.template) != nil:
		return isOurs(c.StackName, l.template)
	case l.settings == nil:
		return hinted{fmt.Errorf("stack %s was deployed by a version that did not store its settings", c.StackName), "give them all once: infra deploy --config FILE"}
	}
	fmt.Fprint(t.stdout, asFile(l.settings))
	return nil
}
