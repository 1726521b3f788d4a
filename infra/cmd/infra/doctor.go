package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
	"github.com/vantagecompute/slurm-factory-publish/infra/github"
)

func newDoctor(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the deployed cache and say what is wrong and how to mend it",
		Args:  noArguments,
	}
	p := newPlace(cmd, e)
	asJSON := cmd.Flags().Bool("json", false, "print one JSON document")
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
		stack, err := p.deployed(ctx, cfg, name)
		if err != nil {
			return err
		}
		findings := doctor.Doctor{
			Stack:      stack,
			S3:         openS3(cfg),
			CloudFront: cloudfront.NewFromConfig(cfg),
			ACM:        acm.NewFromConfig(cfg),
			Route53:    route53.NewFromConfig(cfg),
			IAM:        iam.NewFromConfig(cfg),
			SQS:        sqs.NewFromConfig(cfg),
			SNS:        sns.NewFromConfig(cfg),
			CloudWatch: cloudwatch.NewFromConfig(cfg),
			Logs:       cloudwatchlogs.NewFromConfig(cfg),
			AWS:        cfg,
			Replica:    replicaOf(cfg, name, stack),
			GitHub:     github.CLI(),
			HTTP: &http.Client{
				Timeout:       20 * time.Second,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
			Lookup:    net.DefaultResolver.LookupHost,
			BucketURL: func(bucket string) string { return "https://" + bucket + ".s3." + infra.Region + ".amazonaws.com/" },
			Now:       time.Now,
		}.Examine(ctx)
		if err := report(e, findings, *asJSON); err != nil {
			return err
		}
		if doctor.Failed(findings) {
			return exitError(exitFailed)
		}
		return nil
	}
	return cmd
}

// deployed reads the stack as CloudFormation has it.
func (p *place) deployed(ctx context.Context, cfg aws.Config, name string) (doctor.Stack, error) {
	l, err := readStack(ctx, cfg, name)
	if err != nil {
		return doctor.Stack{}, err
	}
	// A first deployment that failed is a finding; a stack without a template is none.
	if !l.exists() && l.status != types.StackStatusRollbackComplete && l.status != types.StackStatusRollbackFailed {
		return doctor.Stack{}, notThere(name, l.status)
	}
	stack, err := doctor.Read(ctx, cloudformation.NewFromConfig(cfg), name)
	if err != nil {
		return doctor.Stack{}, err
	}
	return stack, isOurs(name, stack.Template)
}

// replicaOf reads the stack in the second region that a stack remembers. nil: there is none.
func replicaOf(cfg aws.Config, name string, stack doctor.Stack) func(context.Context) (doctor.Stack, *s3.Client, error) {
	settings, err := infra.Remembered(stack.Template)
	region := strings.Join(settings["replica-region"], "")
	if err != nil || orNone(region) == "" {
		return nil
	}
	there := cfg.Copy()
	there.Region = region
	return func(ctx context.Context) (doctor.Stack, *s3.Client, error) {
		replica, err := doctor.Read(ctx, cloudformation.NewFromConfig(there), infra.Config{StackName: name}.ReplicaStack())
		return replica, openS3(there), err
	}
}

func report(e environment, findings []doctor.Finding, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(findings)
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(e.stdout, "%-4s  %s: %s\n", f.Severity, f.Check, f.Detail); err != nil {
			return err
		}
		if f.Fix != "" {
			fmt.Fprintf(e.stdout, "      fix: %s\n", f.Fix)
		}
	}
	return nil
}
