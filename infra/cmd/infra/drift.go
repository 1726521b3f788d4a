package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newDrift(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drift [-- CDK-ARGUMENT...]",
		Short: "Show what was changed by hand: where the resources differ from the deployed template",
		Long: `Show what was changed by hand: where the resources differ from the deployed template.

CloudFormation compares; cdk shows the result. infra deploy --revert-drift puts the
resources back as the template says. infra doctor sees what CloudFormation does not
compare.`,
		Args: onlyForCDK,
	}
	t := newTool(cmd, e)
	fail := cmd.Flags().Bool("fail", true, "exit 1 when something has drifted")
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		ctx := cmd.Context()
		s, err := t.online(ctx)
		if err != nil {
			return err
		}
		if !s.live.exists() {
			return notThere(s.StackName, s.live.status)
		}
		dir, err := t.synth(s.Config)
		if err != nil {
			return err
		}
		args := []string{"drift", s.StackName}
		if s.ReplicaRegion != "" && s.ReplicaRegion == strings.Join(s.live.settings["replica-region"], "") {
			args = append(args, s.ReplicaStack())
		}
		if *fail {
			args = append(args, "--fail")
		}
		return t.cdk(ctx, dir, append(args, extra...))
	}
	return cmd
}
