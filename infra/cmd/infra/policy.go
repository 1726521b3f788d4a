package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

func newPolicy(e environment) *cobra.Command {
	names := strings.Join(infra.PolicyNames(), " or ")
	cmd := &cobra.Command{
		Use:   "policy NAME",
		Short: "Print a policy for an administrator to put into the account: " + names,
		Long: `Print a policy for an administrator to put into the account, as JSON.

  execution  what CloudFormation needs to deploy the stack, in place of administrator
             rights: aws iam create-policy, then bootstrap with
             --cloudformation-execution-policies
  boundary   the most that a role or user of the stack may ever do: aws iam
             create-policy, then deploy with --permissions-boundary

Give the settings of the deployment: both name its resources. It is offline.`,
		ValidArgs: infra.PolicyNames(),
	}
	t := newStackFlags(cmd, e)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage{fmt.Errorf("want one name of a policy: %s", names)}
		}
		c, err := t.offline()
		if err != nil {
			return err
		}
		if c.Account == "" {
			return usage{errors.New("--account is needed: the policy names resources of the account")}
		}
		if err := c.Validate(); err != nil {
			return usage{err}
		}
		d, ok := infra.Policies(c)[args[0]]
		if !ok {
			return usage{fmt.Errorf("policy %q: want %s", args[0], names)}
		}
		enc := json.NewEncoder(t.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(d)
	}
	return cmd
}
