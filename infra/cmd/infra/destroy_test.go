package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

// TestFarewellNamesWhatStays: buckets, the user, the signing key, the copy in another region, and the
// settings, which went with the stack.
func TestFarewellNamesWhatStays(t *testing.T) {
	c := infra.Default()
	c.ReplicaRegion = "eu-west-1"
	d := demolition{site: site{Config: c, live: live{settings: map[string][]string{"domain": {"cache.example.com"}, "signing-key": {"new"}}}},
		buckets: []string{"cache", "cache-logs"}, user: "james", signingKey: "arn:aws:kms:us-east-1:123456789012:key/1", ownsProvider: true}
	var out bytes.Buffer
	d.farewell(&out)
	for _, want := range []string{
		"s3://cache, with all", "s3://cache-logs", "aws s3api delete-bucket --bucket cache\n", "IAM user james",
		"stack SlurmFactoryInfraStack-replica in eu-west-1", "delete-stack --region eu-west-1 --stack-name SlurmFactoryInfraStack-replica",
		"--signing-key arn:aws:kms:us-east-1:123456789012:key/1 signs", "schedule-key-deletion --pending-window-in-days 30 --key-id arn:aws:kms:us-east-1:123456789012:key/1\n",
		"OIDC provider", `domain: "cache.example.com"`, `signing-key: "arn:aws:kms:us-east-1:123456789012:key/1"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestHintsForStacksThatCannotBeUpdated: the hint is the command that works. A stack whose
// deletion failed is protected again, and must be named.
func TestHintsForStacksThatCannotBeUpdated(t *testing.T) {
	for status, want := range map[types.StackStatus]string{
		"ROLLBACK_COMPLETE":      "infra destroy --force, then infra deploy with the settings",
		"DELETE_FAILED":          "infra destroy --allow removal:SlurmFactoryInfraStack, then infra deploy with the settings",
		"UPDATE_ROLLBACK_FAILED": "continue-update-rollback --stack-name SlurmFactoryInfraStack",
		"UPDATE_IN_PROGRESS":     "wait until it is done",
	} {
		err := deployable(context.Background(), site{Config: infra.Default(), live: live{status: status, protected: true}})
		if got := hintFor(err); err == nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, hint %q, want %q", status, err, got, want)
		}
	}
}

// TestDestroyAsksForNames: a protected stack, and a provider that others trust, are named
// by the one who destroys them. A stack whose creation failed holds nothing.
func TestDestroyAsksForNames(t *testing.T) {
	whole := live{status: "UPDATE_COMPLETE", protected: true}
	for _, row := range []struct {
		name     string
		live     live
		trusting []string
		allow    string
		want     string
	}{
		{"protected", whole, nil, "", "is protected from termination"},
		{"protected, and named", whole, nil, "removal:SlurmFactoryInfraStack", ""},
		{"not protected", live{status: "CREATE_COMPLETE"}, nil, "", ""},
		{"others trust the provider", whole, []string{"other"}, "removal:SlurmFactoryInfraStack", "which other roles trust: other"},
		{"others trust it, and it is named", whole, []string{"other"}, "removal:SlurmFactoryInfraStack,removal:token.actions.githubusercontent.com", ""},
		{"its deletion failed, and it was protected again", live{status: "DELETE_FAILED", protected: true}, nil, "", "is protected from termination"},
		{"its creation failed", live{status: "ROLLBACK_COMPLETE", protected: true}, nil, "", ""},
	} {
		allow := &allowed{}
		if row.allow != "" {
			if err := allow.Set(row.allow); err != nil {
				t.Fatal(err)
			}
		}
		d := demolition{site: site{Config: infra.Default(), live: row.live}, trusting: row.trusting}
		err := d.permitted(allow)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}
