package preflight

import (
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// TestTheFixOfATakenRoleWorks: most roles of the stack have no setting for their name, and a
// prefix that is given already renames nothing.
func TestTheFixOfATakenRoleWorks(t *testing.T) {
	const first, another = "--name-prefix staging", "another --name-prefix than staging"
	for id, want := range map[string][]string{
		"GitHubActionsRole4F1BBA26": {"--role-name"},
		"MaintainRole12345678":      {another, "--maintain-environment none"},
		"InfraDeployRole12345678":   {another, "--deployer none"},
		"InfraDiffRole12345678":     {another, "--deployer none"},
		"IndexerRole12345678":       {another, "--indexer-queue=false"},
		"ReplicationRole12345678":   {another, "--stack-name", "--replica-region none"},
		"SlurmRole12345678":         {"role= of the --publisher"},
		"MaintainRoleRole12345678":  {"role= of the --publisher"},
	} {
		a := newAccount(t)
		a.there = true
		next := template.Template{Resources: map[string]template.Resource{id: resource("AWS::IAM::Role", map[string]any{"RoleName": "taken"})}}
		for prefix, wanted := range map[string][]string{"staging": want, "": {strings.Replace(want[0], another, first, 1)}} {
			s := NewSite(a.config(), testAccount, "us-east-1", testStack)
			s.Prefix = prefix
			r := s.Check(t.Context(), template.Template{}, next)
			if len(r.Conflicts) != 1 {
				t.Fatalf("%s: %+v", id, r)
			}
			fix := r.Conflicts[0].Fix
			for _, w := range append(wanted, "aws iam delete-role --role-name taken") {
				if !strings.Contains(fix, w) {
					t.Errorf("%s with prefix %q: %q, want %q", id, prefix, fix, w)
				}
			}
			if prefix != "" && strings.Contains(fix, "--name-prefix "+prefix) {
				t.Errorf("%s: %q: the prefix is given already", id, fix)
			}
			if renames := strings.Contains(fix, "give another name: --role-name"); renames != strings.HasPrefix(id, "GitHubActionsRole") {
				t.Errorf("%s: %q: --role-name is that of the first publisher", id, fix)
			}
		}
	}
}

// TestDeletionsOfCloudFrontAreWhole: CloudFront deletes by id, and wants the version.
func TestDeletionsOfCloudFrontAreWhole(t *testing.T) {
	n := 0
	for _, row := range named {
		if !strings.HasPrefix(row.resource.Type, "AWS::CloudFront::") || row.resource.Type == "AWS::CloudFront::Distribution" {
			continue
		}
		n++
		a := newAccount(t)
		a.there = true
		for _, c := range a.check(template.Template{}, one(row.resource)).Conflicts {
			if !strings.Contains(c.Fix, "--id E1 --if-match $(aws cloudfront get-") {
				t.Errorf("%s: %q", row.what, c.Fix)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d kinds, want 3", n)
	}
}
