package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
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
	name := cmd.Flags().String("stack-name", infra.Default().StackName, "`name` of the CloudFormation stack")
	profile := cmd.Flags().String("profile", "", "AWS profile")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON document")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		cfg, err := account(ctx, *profile)
		if err != nil {
			return err
		}
		stack, err := doctor.Read(ctx, cloudformation.NewFromConfig(cfg), *name)
		if noSuchStack(err) {
			return hinted{fmt.Errorf("there is no stack %s in %s", *name, infra.Region), "infra deploy creates it; --stack-name and --profile name another"}
		}
		if err != nil {
			return err
		}
		findings := doctor.Doctor{
			Stack:      stack,
			S3:         s3.NewFromConfig(cfg),
			CloudFront: cloudfront.NewFromConfig(cfg),
			ACM:        acm.NewFromConfig(cfg),
			Route53:    route53.NewFromConfig(cfg),
			IAM:        iam.NewFromConfig(cfg),
			SQS:        sqs.NewFromConfig(cfg),
			SNS:        sns.NewFromConfig(cfg),
			CloudWatch: cloudwatch.NewFromConfig(cfg),
			Logs:       cloudwatchlogs.NewFromConfig(cfg),
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
