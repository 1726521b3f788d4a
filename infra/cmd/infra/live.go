package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// live is a stack as it is in the account. The zero value is a stack that is not there.
type live struct {
	status    types.StackStatus
	protected bool // from termination
	body      string
	template  template.Template
	settings  map[string][]string
}

// exists says whether anything was ever deployed: a stack in review is only a name with
// a change set, and one whose creation failed has nothing left in it.
func (l live) exists() bool {
	switch l.status {
	case "", types.StackStatusReviewInProgress, types.StackStatusRollbackComplete, types.StackStatusRollbackFailed, types.StackStatusDeleteComplete:
		return false
	}
	return true
}

// cacheBucket is the logical id of the bucket in every stack of this app and of the Python
// app. It never changes: the bucket would be replaced.
const cacheBucket = "BinaryCacheBucketDC4CADE3"

// isOurs refuses a stack that another app has deployed: a deployment would take away what
// is in it, and a deletion as well.
func isOurs(name string, t template.Template) error {
	if t.Resources[cacheBucket].Type == "AWS::S3::Bucket" {
		return nil
	}
	return hinted{fmt.Errorf("stack %s is another app's: it has no cache bucket", name),
		"--stack-name and --name-prefix name the stack of the cache, and --profile its account"}
}

// describe asks CloudFormation for the stack, without its template.
func describe(ctx context.Context, cfg aws.Config, name string) (live, error) {
	cf := cloudformation.NewFromConfig(cfg)
	out, err := cf.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(name)})
	if noSuchStack(err) || err == nil && len(out.Stacks) == 0 {
		return live{}, nil
	}
	if err != nil {
		return live{}, fmt.Errorf("look for stack %s: %w", name, err)
	}
	return live{status: out.Stacks[0].StackStatus, protected: aws.ToBool(out.Stacks[0].EnableTerminationProtection)}, nil
}

// readStack asks CloudFormation for the stack and for what it was made from.
func readStack(ctx context.Context, cfg aws.Config, name string) (live, error) {
	l, err := describe(ctx, cfg, name)
	if err != nil || !l.exists() {
		return l, err
	}
	got, err := cloudformation.NewFromConfig(cfg).GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: aws.String(name), TemplateStage: types.TemplateStageOriginal})
	if err != nil {
		return live{}, fmt.Errorf("get template of %s: %w", name, err)
	}
	l.body = aws.ToString(got.TemplateBody)
	if l.template, err = template.Parse([]byte(l.body)); err != nil {
		return live{}, hinted{fmt.Errorf("stack %s: %w", name, err), "is it another app's? --stack-name names the stack"}
	}
	l.settings, err = infra.Remembered(l.template)
	return l, err
}

// notThere says that there is no such stack, or only the name of one.
func notThere(name string, status types.StackStatus) error {
	switch status {
	case types.StackStatusReviewInProgress:
		return hinted{fmt.Errorf("stack %s is in REVIEW_IN_PROGRESS: a change set was made for it and never carried out", name),
			"infra deploy makes the stack; aws cloudformation delete-stack --stack-name " + name + " removes the empty one"}
	case types.StackStatusRollbackComplete, types.StackStatusRollbackFailed:
		return hinted{fmt.Errorf("stack %s is in %s: its first deployment failed and nothing is left of it", name, status),
			"infra destroy --force, then infra deploy with the settings, which went with it (--config FILE); the buckets are kept and adopted"}
	}
	return hinted{fmt.Errorf("there is no stack %s in %s", name, infra.Region),
		"infra deploy creates it; --stack-name, --name-prefix, --config and --profile name another"}
}
