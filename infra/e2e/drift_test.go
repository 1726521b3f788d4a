package e2e

import (
	"strings"
	"testing"
)

// TestDriftIsShownAndReverted: infra drift shows what CloudFormation finds changed by hand,
// and infra deploy --revert-drift asks it to put that back, although the template is the
// one that is deployed. Without the flag, nothing is asked.
func TestDriftIsShownAndReverted(t *testing.T) {
	needCDK(t)
	account := narrow(t)
	out := t.TempDir()
	if r := infra(t, account.URL, "drift"); r.code != 1 || !strings.Contains(r.stderr, "there is no stack") {
		t.Errorf("no stack: %s", r)
	}
	if r := infra(t, account.URL, "deploy", "--revert-drift", "--output", out); r.code != 1 || !strings.Contains(r.stderr, "there is no stack") {
		t.Errorf("nothing to put back: %s", r)
	}
	mustInfra(t, account.URL, "bootstrap")
	mustInfra(t, account.URL, "deploy", "--no-approval", "--output", out, "--noncurrent-days", "60")
	if r := infra(t, account.URL, "drift", "--output", out); r.code != 0 || !strings.Contains(r.stdout+r.stderr, "No drift detected") {
		t.Errorf("nothing has drifted: %s", r)
	}
	account.drifted = "<member><StackId>1</StackId><LogicalResourceId>BinaryCacheBucketDC4CADE3</LogicalResourceId><PhysicalResourceId>" + bucketName +
		"</PhysicalResourceId><ResourceType>AWS::S3::Bucket</ResourceType><StackResourceDriftStatus>MODIFIED</StackResourceDriftStatus><Timestamp>2026-01-01T00:00:00Z</Timestamp>" +
		"<PropertyDifferences><member><PropertyPath>/VersioningConfiguration/Status</PropertyPath><ExpectedValue>Enabled</ExpectedValue><ActualValue>Suspended</ActualValue>" +
		"<DifferenceType>NOT_EQUAL</DifferenceType></member></PropertyDifferences></member>"
	if r := infra(t, account.URL, "drift", "--output", out); r.code != 1 || !strings.Contains(r.stdout+r.stderr, "Suspended") {
		t.Errorf("a suspended versioning: %s", r)
	}
	account.requests()

	mustInfra(t, account.URL, "deploy", "--no-approval", "--output", out)
	if sets := account.changeSets(); len(sets) != 0 {
		t.Errorf("a deployment of the same template made %d change sets", len(sets))
	}
	mustInfra(t, account.URL, "deploy", "--revert-drift", "--no-approval", "--output", out)
	if sets := account.changeSets(); len(sets) != 1 || sets[0].Get("DeploymentMode") != "REVERT_DRIFT" {
		t.Errorf("change sets %v, want one that reverts drift", sets)
	}
}
