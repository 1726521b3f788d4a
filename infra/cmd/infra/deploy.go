package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/preflight"
	"github.com/vantagecompute/slurm-factory-publish/infra/removal"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

func newDiff(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff [-- CDK-ARGUMENT...]",
		Short: "Show what deploy would change",
		Args:  onlyForCDK,
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
		losses := removal.Between(s.live.template, next)
		allow.warnUnused(t.stderr, isLost(losses))
		if refused := allow.check(s, losses, asFlag); refused != nil {
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
		Args: onlyForCDK,
	}
	t := newTool(cmd, e)
	noApproval := cmd.Flags().Bool("no-approval", false, "do not ask before rights are widened")
	revert := cmd.Flags().Bool("revert-drift", false, "compare with the resources themselves, and put back what was changed by hand")
	allow := newAllow(cmd)
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		ctx := cmd.Context()
		s, err := t.online(ctx)
		if err != nil {
			return err
		}
		if err := s.Validate(); err != nil {
			return usage{err}
		}
		if *revert && !s.live.exists() {
			return notThere(s.StackName, s.live.status)
		}
		if existing := orNone(t.existingBucket); existing != "" {
			if err := bucketExists(ctx, s.aws, existing); err != nil {
				return err
			}
		}
		if err := deployable(ctx, s); err != nil {
			return err
		}
		// A person is asked last: what is refused anyway needs no answer.
		if err := t.askForAddress(&s); err != nil {
			return err
		}
		dir, next, err := t.synthesized(s.Config)
		if err != nil {
			return err
		}
		losses := removal.Between(s.live.template, next)
		allow.warnUnused(t.stderr, isLost(losses))
		if err := allow.check(s, losses, asFlag); err != nil {
			return err
		}
		if err := t.namesAreFree(ctx, s, dir, next); err != nil {
			return err
		}
		// The buckets outlive the stack. A new stack takes back those that bear their
		// names instead of failing on them.
		args := []string{"deploy", s.StackName}
		if *revert {
			args = append(args, "--revert-drift")
		} else {
			args = append(args, "--import-existing-resources")
		}
		if *noApproval {
			args = append(args, "--require-approval", "never")
		}
		if err := liftPolicy(ctx, s, losses); err != nil {
			return err
		}
		err = t.cdk(ctx, dir, append(args, extra...))
		settled := settlePolicy(ctx, s)
		if err == nil {
			t.sayWhatIsLeft(s)
			return settled
		}
		if settled != nil {
			fmt.Fprintf(t.stderr, "warning: %v\n", settled)
		}
		if hint := t.whyFailed(ctx, s); hint != "" {
			fmt.Fprintf(t.stderr, "hint: %s\n", hint)
		}
		return err
	}
	return cmd
}

// askForAddress asks a person who receives the alarms, once: the answer is a setting, and
// so is that nobody does. Where there is no person, a warning says it.
func (t *tool) askForAddress(s *site) (err error) {
	if !s.Alarms || s.AlarmEmail != "" || t.flags.Changed("alarm-email") || !t.terminal {
		return nil
	}
	fmt.Fprint(t.stderr, "Address that receives the alarms, or none: ")
	line, err := bufio.NewReader(t.stdin).ReadString('\n')
	if err != nil { // no person after all: what follows begins a line of its own
		fmt.Fprintln(t.stderr)
	}
	answer := strings.TrimSpace(line)
	if answer == "" {
		return nil
	}
	if err := t.flags.Set("alarm-email", answer); err != nil {
		return usage{err}
	}
	account := s.Account
	if s.Config, err = t.stack(); err != nil {
		return usage{err}
	}
	s.Account = account
	return nil
}

// deployable refuses what the status of the stack rules out.
func deployable(ctx context.Context, s site) error {
	status := string(s.live.status)
	switch {
	case status == "ROLLBACK_COMPLETE" || status == "ROLLBACK_FAILED":
		return hinted{fmt.Errorf("stack %s is in %s: its first deployment failed", s.StackName, status),
			"run infra destroy --force, then infra deploy with the settings, which went with it (--config FILE); the buckets are kept and adopted"}
	case status == "UPDATE_ROLLBACK_FAILED":
		return hinted{fmt.Errorf("stack %s is in %s: it could not go back to what was there before", s.StackName, status),
			"aws cloudformation continue-update-rollback --stack-name " + s.StackName}
	case status == "DELETE_FAILED":
		return hinted{fmt.Errorf("stack %s is in %s: only its deletion can be tried again", s.StackName, status), "infra destroy " + asFlag(removalOf+s.StackName) + ", then infra deploy with the settings that it prints (--config FILE)"}
	case strings.HasSuffix(status, "_IN_PROGRESS") && status != "REVIEW_IN_PROGRESS":
		return hinted{fmt.Errorf("stack %s is in %s: another deployment is under way", s.StackName, status), "wait until it is done, or see what it does with infra doctor"}
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

// namesAreFree refuses a deployment that would stumble over a name, all of them at once.
func (t *tool) namesAreFree(ctx context.Context, s site, dir string, next template.Template) error {
	here := preflight.NewSite(s.aws, s.Account, infra.Region, s.StackName)
	here.Prefix = s.NamePrefix
	r := here.Check(ctx, s.live.template, next)
	if s.ReplicaRegion != "" {
		replica, err := checkReplica(ctx, s, dir)
		if err != nil {
			replica.Unseen = append(replica.Unseen, err.Error())
		}
		r.Conflicts = append(r.Conflicts, replica.Conflicts...)
		r.Unseen = append(r.Unseen, replica.Unseen...)
	}
	for _, u := range r.Unseen {
		fmt.Fprintf(t.stderr, "warning: whether the name is free could not be seen: %s\n", u)
	}
	if len(r.Conflicts) == 0 {
		return nil
	}
	var list []string
	for _, c := range r.Conflicts {
		list = append(list, fmt.Sprintf("\n  %s %s\n    fix: %s", c.What, c.Why, c.Fix))
	}
	return hinted{fmt.Errorf("stack %s cannot be deployed, and nothing was made:%s", s.StackName, strings.Join(list, "")),
		"does the stack exist under another name or in another account? --stack-name, --name-prefix and --profile"}
}

// checkReplica looks for the names of the stack in the second region.
func checkReplica(ctx context.Context, s site, dir string) (preflight.Report, error) {
	next, err := templateIn(dir, s.ReplicaStack())
	if err != nil {
		return preflight.Report{}, err
	}
	there := s.aws.Copy()
	there.Region = s.ReplicaRegion
	deployed, err := readStack(ctx, there, s.ReplicaStack())
	if err != nil {
		return preflight.Report{}, err
	}
	other := preflight.NewSite(there, s.Account, s.ReplicaRegion, s.ReplicaStack())
	other.Prefix = s.NamePrefix
	return other.Check(ctx, deployed.template, next), nil
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
