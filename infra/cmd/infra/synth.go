package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/removal"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// synth writes the assembly and returns its directory.
func (t *tool) synth(c infra.Config) (string, error) {
	if err := c.Validate(); err != nil {
		return "", usage{err}
	}
	if err := haveNode(context.Background()); err != nil {
		return "", err
	}
	return infra.Synth(c, t.outdir())
}

// synthesized writes the assembly and reads its template.
func (t *tool) synthesized(c infra.Config) (string, template.Template, error) {
	dir, err := t.synth(c)
	if err != nil {
		return "", template.Template{}, err
	}
	tpl, err := templateIn(dir, c.StackName)
	return dir, tpl, err
}

// templateIn reads the template of a stack out of an assembly.
func templateIn(dir, stack string) (template.Template, error) {
	b, err := os.ReadFile(filepath.Join(dir, stack+".template.json"))
	if err != nil {
		return template.Template{}, fmt.Errorf("read what was synthesized: %w", err)
	}
	return template.Parse(b)
}

func newSynth(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "synth",
		Short: "Write the CloudFormation template, offline and without credentials",
		Long: `Write the CloudFormation template, offline and without credentials.

Plain cdk starts this command through cdk.json. When cdk has credentials, the settings of
the deployed stack are then used as infra deploy uses them, and what infra deploy refuses
is refused: -c allow=removal:NAME permits it, -c offline=true does not look at the stack.`,
		Args: noArguments,
	}
	t := newTool(cmd, e)
	offline := cmd.Flags().Bool("offline", false, "when cdk starts it: do not look at the deployed stack, so that nothing is remembered and nothing refused")
	allow := newAllow(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if e.getenv("CDK_OUTDIR") == "" {
			return t.synthOffline()
		}
		context, err := cdkContext(e.getenv)
		if err != nil {
			return usage{err}
		}
		if v := context["offline"]; len(v) > 0 && !cmd.Flags().Changed("offline") {
			if *offline, err = strconv.ParseBool(v[0]); err != nil {
				return usage{fmt.Errorf("context offline=%s: want true or false", v[0])}
			}
		}
		for _, v := range context["allow"] {
			if err := cmd.Flags().Set("allow", v); err != nil {
				return usage{fmt.Errorf("context allow=%s: %w", v, err)}
			}
		}
		// cdk says which account its credentials belong to, and nothing when it has none.
		if *offline || e.getenv("CDK_DEFAULT_ACCOUNT") == "" {
			return t.synthForCDK()
		}
		return t.synthBeside(cmd.Context(), allow)
	}
	return cmd
}

func (t *tool) synthOffline() error {
	c, err := t.offline()
	if err != nil {
		return err
	}
	dir, err := t.synth(c)
	if err != nil {
		return err
	}
	t.warn(c)
	fmt.Fprintf(t.stderr, "wrote %s/%s.template.json\n", dir, c.StackName)
	return nil
}

// synthForCDK is quiet: cdk shows the warnings itself.
func (t *tool) synthForCDK() error {
	c, err := t.offline()
	if err != nil {
		return err
	}
	_, err = t.synth(c)
	return err
}

// blind is what to do when cdk has credentials and the app has not.
const blind = "give the app the same credentials as cdk (export AWS_PROFILE=P; --profile reaches only cdk), use infra deploy, " +
	"or, with complete settings, -c offline=true: then nothing is remembered and no removal is refused"

// synthBeside synthesizes for cdk as infra deploy does: beside the deployed stack.
func (t *tool) synthBeside(ctx context.Context, allow *allowed) error {
	s, err := t.online(ctx)
	if err != nil {
		return fallback(err, blind)
	}
	if want := t.getenv("CDK_DEFAULT_ACCOUNT"); s.Account != want {
		return hinted{fmt.Errorf("cdk deploys to account %s, but the credentials here belong to %s", want, s.Account), blind}
	}
	_, next, err := t.synthesized(s.Config)
	if err != nil {
		return err
	}
	return allow.check(s, removal.Between(s.live.template, next), asContext)
}
