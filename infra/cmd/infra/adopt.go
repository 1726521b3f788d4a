package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// customProvider is how the Python stack made GitHub's identity provider: by a Lambda,
// which deletes the provider when the resource leaves the template. Every role that
// trusts the provider, ours and others', would stop working.
const customProvider = "Custom::AWSCDKOpenIdConnectProvider"

func newAdopt(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Prepare the stack of the Python CDK app to be taken over by deploy",
		Long: `Prepare the stack of the Python CDK app to be taken over by deploy.

The Python app made the OIDC provider through a Lambda that deletes it again as soon as
it leaves the template. This marks it in the deployed stack as to be retained, changes
nothing else, and prints the flag with which deploy then uses it. Doing it twice is
harmless.`,
		Args: noArguments,
	}
	p := newPlace(cmd, e)
	force := cmd.Flags().BoolP("force", "f", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		name, err := p.stackAt()
		if err != nil {
			return err
		}
		cfg, err := account(ctx, p.profile)
		if err != nil {
			return err
		}
		id, err := accountID(ctx, cfg)
		if err != nil {
			return err
		}
		cf := cloudformation.NewFromConfig(cfg)
		body, err := adoptable(ctx, cf, name)
		if err != nil {
			// A stack without anything in it has no template, or one of nothing.
			if l, unseen := describe(ctx, cfg, name); unseen == nil && l.status != "" && !l.exists() {
				return notThere(name, l.status)
			}
			return err
		}
		if !strings.Contains(body, customProvider) {
			fmt.Fprintf(e.stderr, "stack %s has no OIDC provider of the Python app, so there is nothing to adopt: infra deploy updates it\n", name)
			return nil
		}
		retained, changed, err := retainProvider(body)
		if err != nil {
			return err
		}
		if changed {
			if !*force && !agreed(e, name) {
				fmt.Fprintln(e.stderr, "nothing was changed")
				return exitError(exitFailed)
			}
			if err := updateStack(ctx, cf, name, retained); err != nil {
				return err
			}
		}
		fmt.Fprintf(e.stderr, "stack %s keeps its OIDC provider. Now, with all the settings of the Python app, which did not store them:\n  infra deploy --config FILE --oidc-provider-arn %s\n", name, infra.ProviderArn(id))
		return nil
	}
	return cmd
}

func agreed(e environment, name string) bool {
	fmt.Fprintf(e.stderr, "Mark the OIDC provider of stack %s as retained? Nothing else changes. [y/N] ", name)
	line, _ := bufio.NewReader(e.stdin).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "y")
}

// adoptable is the template of a deployed stack of the cache.
func adoptable(ctx context.Context, cf *cloudformation.Client, name string) (string, error) {
	body, err := deployedTemplate(ctx, cf, name)
	if err != nil {
		return "", err
	}
	tpl, err := template.Parse([]byte(body))
	if err != nil {
		return "", hinted{fmt.Errorf("stack %s: %w", name, err), "is it another app's? --stack-name names the stack"}
	}
	return body, isOurs(name, tpl)
}

func deployedTemplate(ctx context.Context, cf *cloudformation.Client, name string) (string, error) {
	out, err := cf.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: aws.String(name), TemplateStage: types.TemplateStageOriginal})
	if noSuchStack(err) {
		return "", hinted{fmt.Errorf("there is no stack %s in %s", name, infra.Region), "without it there is nothing to adopt: infra deploy"}
	}
	if err != nil {
		return "", fmt.Errorf("get template of %s: %w", name, err)
	}
	return aws.ToString(out.TemplateBody), nil
}

// retainProvider marks the custom resources as retained and says whether that changed
// anything.
func retainProvider(body string) (string, bool, error) {
	var t map[string]any
	if err := json.Unmarshal([]byte(body), &t); err != nil {
		return "", false, fmt.Errorf("the deployed template is not CDK's JSON: %w", err)
	}
	resources, _ := t["Resources"].(map[string]any)
	changed := false
	for _, r := range resources {
		r, _ := r.(map[string]any)
		if r["Type"] != customProvider || r["DeletionPolicy"] == "Retain" {
			continue
		}
		r["DeletionPolicy"] = "Retain"
		// CloudFormation ignores an update that changes nothing but a DeletionPolicy.
		r["Metadata"] = map[string]any{"retained": "adopted by slurm-factory-publish"}
		changed = true
	}
	out, err := json.Marshal(t)
	return string(out), changed, err
}

// updateStack sends the template and waits until CloudFormation is done with it.
func updateStack(ctx context.Context, cf *cloudformation.Client, name, body string) error {
	described, err := cf.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(name)})
	if err != nil {
		return fmt.Errorf("describe stack %s: %w", name, err)
	}
	var parameters []types.Parameter
	for _, p := range described.Stacks[0].Parameters {
		parameters = append(parameters, types.Parameter{ParameterKey: p.ParameterKey, UsePreviousValue: aws.Bool(true)})
	}
	if _, err := cf.UpdateStack(ctx, &cloudformation.UpdateStackInput{
		StackName: aws.String(name), TemplateBody: aws.String(body), Parameters: parameters,
		Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam},
	}); err != nil {
		return fmt.Errorf("update stack %s: %w", name, err)
	}
	if err := cloudformation.NewStackUpdateCompleteWaiter(cf).Wait(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(name)}, 15*time.Minute); err != nil {
		return fmt.Errorf("wait for stack %s: %w", name, err)
	}
	return nil
}

// checkAdoption refuses to deploy over a Python stack whose provider would be deleted.
func checkAdoption(c infra.Config, body string) error {
	if !strings.Contains(body, customProvider) {
		return nil
	}
	_, unprepared, err := retainProvider(body)
	switch {
	case err != nil:
		return err
	case unprepared:
		return hinted{fmt.Errorf("stack %s is the Python app's, and this deployment would delete the account's OIDC provider for GitHub", c.StackName),
			"run infra adopt first (docs/infra-adopt.md)"}
	case c.OIDCProviderArn == "":
		return hinted{fmt.Errorf("stack %s leaves its OIDC provider in the account, which can have only one", c.StackName),
			"add --oidc-provider-arn " + infra.ProviderArn(c.Account)}
	}
	return nil
}
