// Package doctor examines a deployed cache: does it serve, is it private where it must
// be, may the publishers publish, and is everything still as the stack says.
//
// It reads and never changes anything. Each finding names what is wrong and says what
// to do. What cannot be examined is a finding too: silence means that it is well.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/github"
)

// A Severity says how bad a finding is.
type Severity string

const (
	// OK is what was examined and is well.
	OK Severity = "ok"
	// Warn works today and deserves a look.
	Warn Severity = "warn"
	// Fail is broken, or open where it must be closed.
	Fail Severity = "fail"
)

// A Finding is the result of one examination.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Detail   string   `json:"detail"`
	Fix      string   `json:"fix,omitempty"`
}

// A Doctor examines one stack with the clients of its account.
type Doctor struct {
	Stack      Stack
	S3         *s3.Client
	CloudFront *cloudfront.Client
	ACM        *acm.Client
	Route53    *route53.Client
	IAM        *iam.Client
	SQS        *sqs.Client
	SNS        *sns.Client
	CloudWatch *cloudwatch.Client
	Logs       *cloudwatchlogs.Client
	// AWS is the configuration with which KMS is called, which has no client here.
	AWS aws.Config
	// Replica reads the stack in the second region and opens S3 there. nil: there is none.
	Replica func(context.Context) (Stack, *s3.Client, error)
	// GitHub is asked about environments. nil: gh is not there.
	GitHub github.API
	// HTTP is how a reader without credentials sees the cache. It must not follow
	// redirects.
	HTTP *http.Client
	// Lookup resolves a host name as a reader would.
	Lookup func(ctx context.Context, host string) ([]string, error)
	// BucketURL is where the bucket would answer if it were public.
	BucketURL func(bucket string) string
	// Now is the time by which certificates expire.
	Now func() time.Time
}

// An examination looks at one thing.
type examination struct {
	check string
	run   func(context.Context) ([]Finding, error)
}

// Examine makes every examination, in the order in which a person would.
func (d Doctor) Examine(ctx context.Context) []Finding {
	var all []Finding
	for _, x := range []examination{
		{"stack", d.stack},
		{"bucket", d.bucket},
		{"log bucket", d.logBucket},
		{"audit bucket", d.auditBucket},
		{"replica bucket", d.replicaBucket},
		{"direct access", d.directAccess},
		{"distribution", d.distribution},
		{"certificate", d.certificate},
		{"dns", d.dns},
		{"public url", d.publicURL},
		{"oidc provider", d.provider},
		{"roles", d.roles},
		{"signing key", d.signingKey},
		{"users", d.users},
		{"environments", d.environments},
		{"log delivery", d.delivery},
		{"alarms", d.alarms},
		{"alarm e-mail", d.subscriptions},
		{"indexer", d.indexer},
	} {
		found, err := x.run(ctx)
		if err != nil {
			found = append(found, unexamined(x.check, err))
		}
		all = append(all, found...)
	}
	return all
}

// Failed says whether anything is broken.
func Failed(all []Finding) bool {
	for _, f := range all {
		if f.Severity == Fail {
			return true
		}
	}
	return false
}

// denied says what to do when the examiner itself lacks a right.
func denied(err error) string {
	switch code(err) {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return "examine with credentials that may read CloudFormation, S3, CloudFront, ACM, Route53, IAM, KMS, SQS, SNS and CloudWatch (AWS's ReadOnlyAccess is enough)"
	}
	return "try again; if it stays, look at the service's health page"
}

// code is the error code of AWS, empty for another error.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func well(check, format string, args ...any) []Finding {
	return []Finding{{Check: check, Severity: OK, Detail: fmt.Sprintf(format, args...)}}
}

func broken(check, fix, format string, args ...any) Finding {
	return Finding{Check: check, Severity: Fail, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

func doubtful(check, fix, format string, args ...any) Finding {
	return Finding{Check: check, Severity: Warn, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

// orWell is the findings, or that all is well when there are none.
func orWell(found []Finding, check, format string, args ...any) []Finding {
	if len(found) > 0 {
		return found
	}
	return well(check, format, args...)
}

func (d Doctor) stack(context.Context) ([]Finding, error) {
	switch d.Stack.Status {
	case "CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE":
		return well("stack", "%s is in %s", d.Stack.Name, d.Stack.Status), nil
	case "UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE":
		return []Finding{doubtful("stack", "`aws cloudformation describe-stack-events --stack-name "+d.Stack.Name+" --max-items 20` says why; then `infra deploy`",
			"%s is in %s: the last deployment was taken back and what was there before is in force", d.Stack.Name, d.Stack.Status)}, nil
	case "ROLLBACK_COMPLETE", "ROLLBACK_FAILED":
		return []Finding{broken("stack", "`infra destroy --force`, then `infra deploy` with the settings; the buckets are kept and adopted",
			"%s is in %s: its first deployment failed", d.Stack.Name, d.Stack.Status)}, nil
	case "UPDATE_ROLLBACK_FAILED":
		return []Finding{broken("stack", "`aws cloudformation continue-update-rollback --stack-name "+d.Stack.Name+"`",
			"%s is in %s: it could not go back to what was there before", d.Stack.Name, d.Stack.Status)}, nil
	case "DELETE_FAILED":
		return []Finding{broken("stack", "`aws cloudformation describe-stack-events --stack-name "+d.Stack.Name+"` names what resisted; delete that by hand and run `infra destroy --allow removal:"+d.Stack.Name+"` again",
			"%s is in %s", d.Stack.Name, d.Stack.Status)}, nil
	}
	return []Finding{doubtful("stack", "wait until it is done; `aws cloudformation cancel-update-stack --stack-name "+d.Stack.Name+"` takes an update back",
		"%s is in %s", d.Stack.Name, d.Stack.Status)}, nil
}
