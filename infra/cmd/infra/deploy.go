package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra/removal"
)

func newDiff(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff [-- CDK-ARGUMENT...]",
		Short: "Show what deploy would change",
	}
	t := newTool(cmd, e)
	fail := cmd.Flags().Bool("fail", false, "exit 1 when there is a difference")
	allow := newAllow(cmd)
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		ctx := cmd.Context()
		s, err := t.online(ctx)
		if err != nil {
			return err
		}
		dir, next, err := t.synthesized(s.Config)
		if err != nil {
			return err
		}
		args := []string{"diff", s.StackName}
		if *fail {
			args = append(args, "--fail")
		}
		err = t.cdk(ctx, dir, append(args, extra...))
		if refused := allow.check(s, removal.Between(s.live.template, next), asFlag); refused != nil {
			fmt.Fprintf(t.stderr, "warning: deploy will refuse this: %v\n", refused)
		}
		return err
	}
	return cmd
}

func newDeploy(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy [-- CDK-ARGUMENT...]",
		Short: "Create or update the stack; adopts buckets that an earlier stack left",
		Long: `Create or update the stack; adopts buckets that an earlier stack left.

The stack remembers its settings. Settings that are given here, by flag, variable or file,
change; the others stay as they were deployed. "none" takes a setting back.

What readers and publishers depend on, such as the domain, a bucket or a role, is only
taken away when --allow removal:NAME names it.`,
	}
	t := newTool(cmd, e)
	noApproval := cmd.Flags().Bool("no-approval", false, "do not ask before rights are widened")
	allow := newAllow(cmd)
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		ctx := cmd.Context()
		s, err := t.online(ctx)
		if err != nil {
			return err
		}
		if existing := orNone(t.existingBucket); existing != "" {
			if err := bucketExists(ctx, s.aws, existing); err != nil {
				return err
			}
		}
		if err := preflight(ctx, s); err != nil {
			return err
		}
		dir, next, err := t.synthesized(s.Config)
		if err != nil {
			return err
		}
		losses := removal.Between(s.live.template, next)
		if err := allow.check(s, losses, asFlag); err != nil {
			return err
		}
		// The buckets outlive the stack. A new stack takes back those that bear their
		// names instead of failing on them.
		args := []string{"deploy", s.StackName, "--import-existing-resources"}
		if *noApproval {
			args = append(args, "--require-approval", "never")
		}
		if err := liftPolicy(ctx, s, losses); err != nil {
			return err
		}
		err = t.cdk(ctx, dir, append(args, extra...))
		if settled := settlePolicy(ctx, s); err == nil {
			return settled
		} else if settled != nil {
			fmt.Fprintf(t.stderr, "warning: %v\n", settled)
		}
		return err
	}
	return cmd
}

// preflight finds, before CloudFormation spends minutes on it, what would make a first
// deployment fail and roll back.
func preflight(ctx context.Context, s site) error {
	switch {
	case s.live.status == "ROLLBACK_COMPLETE" || s.live.status == "ROLLBACK_FAILED":
		return hinted{fmt.Errorf("stack %s is in %s: its first deployment failed", s.StackName, s.live.status),
			"run infra destroy --force, then deploy again; the buckets are kept and adopted"}
	case s.live.exists():
		return checkAdoption(s.Config, s.live.body)
	case s.OIDCProviderArn != "":
		return nil
	}
	arn, err := githubProvider(ctx, s.aws, s.Account)
	if err != nil {
		return err
	}
	if arn != "" {
		return hinted{errors.New("the account has an OIDC provider for GitHub already, and can have only one"), "add --oidc-provider-arn " + arn}
	}
	return nil
}

// liftPolicy lets the coming update take away what it was allowed to. The rest of the
// stack stays under its policy.
func liftPolicy(ctx context.Context, s site, losses []removal.Loss) error {
	var ids []string
	for _, l := range losses {
		ids = append(ids, l.IDs...)
	}
	if len(ids) == 0 {
		return nil
	}
	cf := cloudformation.NewFromConfig(s.aws)
	now, err := stackPolicy(ctx, cf, s.StackName)
	if err != nil || now == "" {
		return err
	}
	return setStackPolicy(ctx, cf, s.StackName, removal.StackPolicy(s.live.template, ids...))
}

// settlePolicy gives the stack the policy that fits what is deployed now, whether the
// deployment succeeded or was taken back.
func settlePolicy(ctx context.Context, s site) error {
	// Also after Ctrl-C: a lifted policy must not stay.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	now, err := readStack(ctx, s.aws, s.StackName)
	if err != nil || !now.exists() {
		return err
	}
	cf := cloudformation.NewFromConfig(s.aws)
	have, err := stackPolicy(ctx, cf, s.StackName)
	if err != nil {
		return err
	}
	want := removal.StackPolicy(now.template)
	if !s.Protect {
		if have == "" {
			return nil
		}
		want = removal.NoPolicy()
	}
	if have == want {
		return nil
	}
	if strings.HasSuffix(string(now.status), "_IN_PROGRESS") {
		return hinted{fmt.Errorf("stack %s is still in %s, so its policy was left as it is", s.StackName, now.status), "run infra deploy again when it is done"}
	}
	return setStackPolicy(ctx, cf, s.StackName, want)
}

// stackPolicy is the stack's policy, empty when none was ever set.
func stackPolicy(ctx context.Context, cf *cloudformation.Client, name string) (string, error) {
	out, err := cf.GetStackPolicy(ctx, &cloudformation.GetStackPolicyInput{StackName: aws.String(name)})
	if err != nil {
		return "", fmt.Errorf("get the policy of stack %s: %w", name, err)
	}
	return aws.ToString(out.StackPolicyBody), nil
}

func setStackPolicy(ctx context.Context, cf *cloudformation.Client, name, body string) error {
	if _, err := cf.SetStackPolicy(ctx, &cloudformation.SetStackPolicyInput{StackName: aws.String(name), StackPolicyBody: aws.String(body)}); err != nil {
		return hinted{fmt.Errorf("set the policy of stack %s: %w", name, err),
			"it protects what must not be replaced, and needs the right cloudformation:SetStackPolicy; --protect=false goes without"}
	}
	return nil
}
