package main

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

const signInHint = "sign in first: aws configure, or aws sso login --profile P and --profile P here; aws sts get-caller-identity must work"

// hintFor is what to do about an error: its own hint, or one for what any call to AWS can
// fail with.
func hintFor(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	var noProfile awsconfig.SharedConfigProfileNotExistError
	if errors.As(err, &noProfile) {
		return "aws configure list-profiles shows those that there are"
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "ExpiredToken", "ExpiredTokenException", "RequestExpired":
			return "the credentials have expired: " + signInHint
		case "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure":
			return "AWS does not know these credentials: " + signInHint
		case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
			return "these credentials may not do that: use an administrator's, or those of docs/infra-security.md"
		}
	}
	// The SDK has no type for having no credentials at all.
	for _, words := range []string{"get credentials", "failed to refresh cached credentials", "no EC2 IMDS role found", "static credentials are empty"} {
		if strings.Contains(err.Error(), words) {
			return "there are no credentials: " + signInHint
		}
	}
	return ""
}

// oldestNode is the first version of Node that CDK supports.
const oldestNode = 20

// haveNode refuses to start what needs Node where there is none, or one too old: CDK would
// fail with the words of another program.
func haveNode(ctx context.Context) error {
	const hint = "install Node.js 22 or later (20 works) and have it in PATH"
	path, err := exec.LookPath("node")
	if err != nil {
		return hinted{errors.New("there is no node, in which CDK runs"), hint}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return hinted{errors.New("node --version: " + err.Error()), hint}
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestNode {
		return hinted{errors.New("node is " + version + ", too old for CDK"), hint}
	}
	return nil
}

// whyFailed looks for the cause of a deployment that cdk gave up, and says what to do. It
// is a second look of its own: cdk's words go to the terminal unseen.
func (t *tool) whyFailed(ctx context.Context, s site) string {
	ctx = context.WithoutCancel(ctx)
	if hint := whereNotBootstrapped(ctx, s); hint != "" {
		return hint
	}
	status, err := readStatus(ctx, s.aws, s.StackName)
	if err != nil {
		return ""
	}
	events := "aws cloudformation describe-stack-events --stack-name " + s.StackName + " --max-items 20"
	switch status {
	case "REVIEW_IN_PROGRESS":
		return "the change set was not carried out, and stack " + s.StackName + " is in REVIEW_IN_PROGRESS: infra deploy with the same settings tries again, " +
			"aws cloudformation delete-stack --stack-name " + s.StackName + " removes the empty stack"
	case "ROLLBACK_COMPLETE", "ROLLBACK_FAILED":
		return events + " says why; then infra destroy --force, and infra deploy with the same settings"
	case "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED":
		return events + " says why; the stack is as it was before"
	}
	return ""
}

// whereNotBootstrapped says in which region of the deployment the account lacks what cdk needs,
// and how to make it. Empty: nothing lacks, or nobody may look.
func whereNotBootstrapped(ctx context.Context, s site) string {
	if toolkit, err := readStatus(ctx, s.aws, "CDKToolkit"); err == nil && toolkit == "" {
		hint := "the account is not bootstrapped in " + infra.Region + ": infra bootstrap, once"
		if s.ReplicaRegion == "" {
			return hint
		}
		return hint + "; with the region of the copy: " + bootstrapOf(s)
	}
	if s.ReplicaRegion == "" {
		return ""
	}
	there := s.aws.Copy()
	there.Region = s.ReplicaRegion
	if toolkit, err := readStatus(ctx, there, "CDKToolkit"); err == nil && toolkit == "" {
		return "the account is not bootstrapped in " + s.ReplicaRegion + ", the region of the copy: " + bootstrapOf(s) + ", once"
	}
	return ""
}

// bootstrapOf prepares the second region as well.
func bootstrapOf(s site) string {
	return "infra bootstrap -- aws://" + s.Account + "/" + s.ReplicaRegion
}

// readStatus is the status of a stack, empty when there is none.
func readStatus(ctx context.Context, cfg aws.Config, name string) (string, error) {
	l, err := describe(ctx, cfg, name)
	return string(l.status), err
}
