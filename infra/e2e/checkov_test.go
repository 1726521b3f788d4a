package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// accepted is a finding of checkov's that is accepted for one resource. The list is
// exact: a finding that is not here fails the test, and so does one that is not found.
type accepted struct {
	check, resource, reason string
}

// acceptedByCheckov holds the findings in all templates.
var acceptedByCheckov = []accepted{
	{"CKV_AWS_18", "AWS::S3::Bucket.LogBucket", "The log bucket is where access logs go. Logging it to itself would log each log, without end, " +
		"and another bucket for its log would raise the same question again; --cloudtrail records writes."},
	{"CKV_AWS_18", "AWS::S3::Bucket.ReplicaBucket", "S3 delivers access logs only within a region, and the log bucket is in another one. Nobody but replication writes " +
		"the copy, and readers reach it through CloudFront, which logs them."},
	{"CKV_AWS_68", "AWS::CloudFront::Distribution.Distribution", "The distribution answers only GET, HEAD and OPTIONS for public static objects, where a web ACL " +
		"costs more than it protects. --waf-arn attaches one (docs/infra-security.md)."},
	{"CKV_AWS_174", "AWS::CloudFront::Distribution.Distribution", "Only without a domain: the distribution then has CloudFront's own certificate, for which AWS fixes the minimum " +
		"at TLS 1.0 whatever a template says. With a domain it is TLSv1.2_2021."},
	{"CKV_AWS_86", "AWS::CloudFront::Distribution.Distribution", "Access logs are delivered by CloudFront's logging version 2 (AWS::Logs::Delivery), which the check " +
		"does not know. The older logging needs ACLs, which the log bucket does not have."},
	{"CKV_AWS_40", "AWS::IAM::Policy.ManualUserPolicy", "There is one manual user by intent, so a group would have one member. The policy lies on the user for infra doctor " +
		"to compare, and denies all but uploads without MFA."},
	{"CKV_AWS_67", "AWS::CloudTrail::Trail.WriteTrail", "The trail records writes to one bucket, which lives in one region. A trail over all regions of the account " +
		"is the account owner's to have, and not part of a cache."},
	{"CKV_AWS_35", "AWS::CloudTrail::Trail.WriteTrail", "The trail's files are encrypted by S3 with its own keys (SSE-S3), in a private and versioned bucket. A key of KMS " +
		"costs per request and would protect from nobody who may read the bucket."},
	{"CKV_AWS_27", "AWS::SQS::Queue.IndexerDeadLetters", "The queue is encrypted by SQS with its own keys (SqsManagedSseEnabled), which the check does not know. " +
		"S3 cannot send to a queue with AWS's default key of KMS."},
	{"CKV_AWS_27", "AWS::SQS::Queue.IndexerQueue", "The queue is encrypted by SQS with its own keys (SqsManagedSseEnabled), which the check does not know. " +
		"S3 cannot send to a queue with AWS's default key of KMS."},
	{"CKV_AWS_26", "AWS::SNS::Topic.AlarmTopic", "Alarms name metrics and thresholds, no content and no person, and leave AWS as plain e-mail. CloudWatch " +
		"cannot publish to a topic with AWS's default key of KMS."},
}

// checkov installs the tool where it is missing, and returns where it is.
func checkov(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("../scripts/checkov.sh").Output()
	switch {
	case err == nil:
		return strings.TrimSpace(string(out))
	case os.Getenv("CI") == "true":
		t.Fatalf("install checkov: %v%s", err, stderrOf(err))
	}
	t.Skipf("install checkov: %v", err)
	return ""
}

// TestCheckovFindsOnlyWhatIsAccepted reads every variant.
func TestCheckovFindsOnlyWhatIsAccepted(t *testing.T) {
	needMachine(t)
	bin, dir := checkov(t), t.TempDir()
	args := []string{"--framework", "cloudformation", "--skip-download", "--quiet", "--compact", "--output", "json"}
	for name := range templates {
		for _, file := range variant(t, name).files {
			args = append(args, "--file", file)
		}
	}
	r := run(t, dir, append(os.Environ(), "LOG_LEVEL=ERROR"), bin, args...)
	var report struct {
		Summary struct{ Passed int }
		Results struct {
			Failed []struct {
				Check    string `json:"check_id"`
				Name     string `json:"check_name"`
				Resource string
				File     string `json:"file_path"`
			} `json:"failed_checks"`
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, r)
	}
	if report.Summary.Passed < 100 {
		t.Fatalf("only %d checks passed: were the templates read? %s", report.Summary.Passed, r)
	}
	found := map[int]bool{}
	for _, f := range report.Results.Failed {
		i := slices.IndexFunc(acceptedByCheckov, func(a accepted) bool {
			// The logical id of a construct ends in eight hex digits.
			return a.check == f.Check && strings.HasPrefix(f.Resource, a.resource) && len(f.Resource) <= len(a.resource)+8
		})
		if found[i] = true; i < 0 {
			t.Errorf("%s: %s %s: %s", f.File, f.Check, f.Resource, f.Name)
		}
	}
	for i, a := range acceptedByCheckov {
		if !found[i] {
			t.Errorf("checkov no longer finds %s at %s: remove it from the list", a.check, a.resource)
		}
		if n := len(strings.Fields(a.reason)); n < 20 {
			t.Errorf("%s %s: the reason has %d words, want 20 that a reviewer can judge", a.check, a.resource, n)
		}
	}
}
