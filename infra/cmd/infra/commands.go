package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
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

// online completes the configuration with what the account knows.
func (t *tool) online(ctx context.Context) (infra.Config, aws.Config, error) {
	c, err := t.offline()
	if err != nil {
		return c, aws.Config{}, err
	}
	if c, err = t.askGitHub(ctx, github.CLI(), c); err != nil {
		return c, aws.Config{}, usage{err}
	}
	cfg, err := account(ctx, t.profile)
	if err != nil {
		return c, cfg, err
	}
	id, err := accountID(ctx, cfg)
	if err != nil {
		return c, cfg, err
	}
	if c.Account != "" && c.Account != id {
		return c, cfg, hinted{fmt.Errorf("--account %s, but the credentials belong to %s", c.Account, id), "sign in to the right account, or pass --profile"}
	}
	c.Account = id
	if c.HostedZoneID != "" && c.ZoneName == "" {
		if c.ZoneName, err = zoneName(ctx, cfg, c.HostedZoneID); err != nil {
			return c, cfg, err
		}
	}
	return c, cfg, nil
}

func (t *tool) outdir() string {
	for _, dir := range []string{t.output, t.getenv("CDK_OUTDIR")} {
		if dir != "" {
			return dir
		}
	}
	return "cdk.out"
}

// synth writes the assembly and returns its directory.
func (t *tool) synth(c infra.Config) (string, error) {
	if err := c.Validate(); err != nil {
		return "", usage{err}
	}
	return infra.Synth(c, t.outdir())
}

func newSynth(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "synth",
		Short: "Write the CloudFormation template, offline and without credentials",
		Args:  noArguments,
	}
	t := newTool(cmd, e)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := t.offline()
		if err != nil {
			return err
		}
		dir, err := t.synth(c)
		if err != nil {
			return err
		}
		// When cdk runs this command, it speaks for it, and shows the warnings itself.
		if t.getenv("CDK_OUTDIR") == "" {
			for _, w := range c.Warnings() {
				fmt.Fprintf(t.stderr, "warning: %s\n", w)
			}
			fmt.Fprintf(t.stderr, "wrote %s/%s.template.json\n", dir, c.StackName)
		}
		return nil
	}
	return cmd
}

func newDiff(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff [-- CDK-ARGUMENT...]",
		Short: "Show what deploy would change",
	}
	t := newTool(cmd, e)
	fail := cmd.Flags().Bool("fail", false, "exit 1 when there is a difference")
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		c, _, err := t.online(cmd.Context())
		if err != nil {
			return err
		}
		args := []string{"diff", c.StackName}
		if *fail {
			args = append(args, "--fail")
		}
		return t.call(cmd.Context(), c, append(args, extra...))
	}
	return cmd
}

func newDeploy(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy [-- CDK-ARGUMENT...]",
		Short: "Create or update the stack; adopts buckets that an earlier stack left",
	}
	t := newTool(cmd, e)
	noApproval := cmd.Flags().Bool("no-approval", false, "do not ask before rights are widened")
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		ctx := cmd.Context()
		c, cfg, err := t.online(ctx)
		if err != nil {
			return err
		}
		if t.existingBucket != "" {
			if err := bucketExists(ctx, cfg, t.existingBucket); err != nil {
				return err
			}
		}
		if err := preflight(ctx, cfg, c); err != nil {
			return err
		}
		// The buckets outlive the stack. A new stack takes back those that bear their
		// names instead of failing on them.
		args := []string{"deploy", c.StackName, "--import-existing-resources"}
		if *noApproval {
			args = append(args, "--require-approval", "never")
		}
		return t.call(ctx, c, append(args, extra...))
	}
	return cmd
}

// preflight finds, before CloudFormation spends minutes on it, what would make a first
// deployment fail and roll back.
func preflight(ctx context.Context, cfg aws.Config, c infra.Config) error {
	status, err := stackStatus(ctx, cfg, c.StackName)
	if err != nil {
		return err
	}
	switch {
	case status == "ROLLBACK_COMPLETE" || status == "ROLLBACK_FAILED":
		return hinted{fmt.Errorf("stack %s is in %s: its first deployment failed", c.StackName, status),
			"run infra destroy --force, then deploy again; the buckets are kept and adopted"}
	case status != "" && status != "REVIEW_IN_PROGRESS":
		return checkAdoption(ctx, cloudformation.NewFromConfig(cfg), c)
	case c.OIDCProviderArn != "":
		return nil
	}
	arn, err := githubProvider(ctx, cfg, c.Account)
	if err != nil {
		return err
	}
	if arn != "" {
		return hinted{errors.New("the account has an OIDC provider for GitHub already, and can have only one"), "add --oidc-provider-arn " + arn}
	}
	return nil
}

// call synthesizes and hands over to cdk.
func (t *tool) call(ctx context.Context, c infra.Config, args []string) error {
	dir, err := t.synth(c)
	if err != nil {
		return err
	}
	tool, err := findCDK(ctx, t.cdkPath)
	if err != nil {
		return err
	}
	return tool.run(ctx, t.environment, t.profile, append(args, "--app", dir)...)
}

func newDestroy(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Delete the stack; the buckets and what is in them stay",
		Args:  noArguments,
	}
	t := newTool(cmd, e)
	force := cmd.Flags().BoolP("force", "f", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		c, _, err := t.online(ctx)
		if err != nil {
			return err
		}
		if !*force && !confirmed(t.environment, c) {
			fmt.Fprintln(t.stderr, "nothing was destroyed")
			return exitError(exitFailed)
		}
		if err := t.call(ctx, c, []string{"destroy", c.StackName, "--force"}); err != nil {
			return err
		}
		fmt.Fprint(t.stderr, farewell(c))
		return nil
	}
	return cmd
}

func confirmed(e environment, c infra.Config) bool {
	fmt.Fprintf(e.stderr, "Destroy stack %s in account %s? Readers lose the cache until it is deployed again. [y/N] ", c.StackName, c.Account)
	line, _ := bufio.NewReader(e.stdin).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// farewell says what is left, how to get it back, and how to be rid of it.
func farewell(c infra.Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "retained: s3://%s (the cache, with all versions) and s3://%s (logs)\n", c.Bucket(), c.LogBucket())
	fmt.Fprintf(&b, "infra deploy with the same settings adopts both; to delete them for good, empty them and run\n")
	fmt.Fprintf(&b, "  aws s3api delete-bucket --bucket %s\n  aws s3api delete-bucket --bucket %s\n", c.Bucket(), c.LogBucket())
	if c.ManualUser != "" {
		fmt.Fprintf(&b, "retained too: the IAM user %s, without any right; deploy adopts the user again\n", c.ManualUser)
	}
	if c.OIDCProviderArn == "" {
		fmt.Fprintf(&b, "deleted with the stack: the account's OIDC provider for GitHub; other roles that trusted it stop working\n")
	}
	return b.String()
}

func newBootstrap(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bootstrap [-- CDK-ARGUMENT...]",
		Short: "Prepare the account for CDK, once",
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
	return &cobra.Command{
		Use:   "settings",
		Short: "List every setting of the stack with its environment variable and default, in Markdown",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprint(e.stdout, settingsTable())
			return nil
		},
	}
}
