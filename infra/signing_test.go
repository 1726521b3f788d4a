package infra

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

func TestSigningKey(t *testing.T) {
	id := startingWithType(t, "everything", "AWS::KMS::Key", "SigningKey")
	has(t, "everything", "AWS::KMS::Key", props{"KeySpec": "RSA_4096", "KeyUsage": "SIGN_VERIFY", "PendingWindowInDays": 30, "MultiRegion": assertions.Match_Absent()})
	has(t, "everything", "AWS::KMS::Alias", props{"AliasName": "alias/slurm-factory-signing", "TargetKeyId": props{"Fn::GetAtt": []any{id, "Arn"}}})
	outputs := parsed(t, "everything").Outputs
	if v := outputs["SigningKeyName"].Value; v != "awskms:///alias/slurm-factory-signing" {
		t.Errorf("the key is called %v", v)
	}
	if _, ok := outputs["SigningKeyArn"]; !ok {
		t.Error("no output SigningKeyArn")
	}
}

// TestAKeyOfBeforeSignsAgain: the stack makes no key beside the one that it is given, and the name of
// the key stays the same.
func TestAKeyOfBeforeSignsAgain(t *testing.T) {
	counts(t, "resigned", "AWS::KMS::Key", 0)
	has(t, "resigned", "AWS::KMS::Alias", props{"AliasName": "alias/slurm-factory-signing", "TargetKeyId": testKey})
	outputs := parsed(t, "resigned").Outputs
	if outputs["SigningKeyName"].Value != "awskms:///alias/slurm-factory-signing" || outputs["SigningKeyArn"].Value != testKey {
		t.Errorf("outputs %v", outputs)
	}
	id := startingWith(t, parsed(t, "resigned"), "GitHubActionsRole")
	same(t, "the signer", inlinePolicies(t, "resigned", id)["sign"], SigningPermissions(testKey))
}

func TestSigningAliasHasThePrefix(t *testing.T) {
	if got := (Config{NamePrefix: "staging"}).SigningAlias(); got != "alias/staging-slurm-factory-signing" {
		t.Error(got)
	}
}

// TestOnlyThePublishingRoleSigns asks KMS's question of every role of the stack, and of an
// administrator: a request is allowed if both the key's policy and one of the caller's own allow it.
func TestOnlyThePublishingRoleSigns(t *testing.T) {
	const root = "arn:aws:iam::" + testAccount + ":root"
	tpl := parsed(t, "everything")
	id := startingWithType(t, "everything", "AWS::KMS::Key", "SigningKey")
	ofKey := livePolicy(t, tpl, id, "KeyPolicy")
	callers := map[string][]policy.Document{
		"administrator": {policy.New(policy.Statement{Effect: policy.Allow, Action: policy.Strings{"*"}, Resource: policy.Strings{"*"}})},
	}
	for _, role := range tpl.OfType("AWS::IAM::Role") {
		name, _ := tpl.Resources[role].Properties["RoleName"].(string)
		callers[name] = slices.Collect(maps.Values(inlinePolicies(t, "everything", role)))
	}
	if len(callers) != 7 {
		t.Fatalf("callers %v", slices.Sorted(maps.Keys(callers)))
	}
	const signer = "slurm-factory-github-actions"
	both := []string{"administrator", signer}
	for _, row := range []struct {
		name, action string
		keys         map[string]string
		want         []string // who may
	}{
		{"sign a digest as publish does", "kms:Sign", map[string]string{"kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_512", "kms:MessageType": "DIGEST"}, []string{signer}},
		{"sign a message that KMS hashes", "kms:Sign", map[string]string{"kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_512", "kms:MessageType": "RAW"}, nil},
		{"sign by an algorithm that OpenPGP lacks", "kms:Sign", map[string]string{"kms:SigningAlgorithm": "RSASSA_PSS_SHA_512", "kms:MessageType": "DIGEST"}, nil},
		{"sign with a weaker hash", "kms:Sign", map[string]string{"kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256", "kms:MessageType": "DIGEST"}, nil},
		{"read the public key", "kms:GetPublicKey", nil, both},
		{"read when the key was made", "kms:DescribeKey", nil, append(both, "slurm-factory-infra-deploy")},
		{"let others sign", "kms:CreateGrant", nil, nil},
		{"change who may sign", "kms:PutKeyPolicy", nil, []string{"administrator"}},
		{"delete the key", "kms:ScheduleKeyDeletion", nil, []string{"administrator"}},
	} {
		for name, own := range callers {
			keys := map[string]string{"aws:PrincipalArn": "arn:aws:iam::" + testAccount + ":role/" + name}
			maps.Copy(keys, row.keys)
			r := policy.Request{Action: row.action, Resource: "arn:" + id, Principal: policy.Principal{"AWS": {root}}, Keys: keys}
			byKey, err := ofKey.Decide(r)
			if err != nil {
				t.Fatal(err)
			}
			byOwn, err := policy.Decide(r, own...)
			if err != nil {
				t.Fatal(err)
			}
			if got := byKey.Allowed && byOwn.Allowed; got != slices.Contains(row.want, name) {
				t.Errorf("%s: %s: %v by the key, %v by their own", row.name, name, byKey, byOwn)
			}
		}
	}
	r := policy.Request{Action: "kms:Sign", Resource: "arn:" + id, Principal: policy.Principal{"AWS": {"arn:aws:iam::999999999999:root"}}, Keys: map[string]string{
		"aws:PrincipalArn": "arn:aws:iam::" + testAccount + ":role/" + signer, "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_512", "kms:MessageType": "DIGEST"}}
	decide(t, "another account", ofKey, r, false)
}

// TestTheRoleThatPromotesSigns: with sign=true of another publisher, that one signs in place of the first, both by the key's policy
// and by its own.
func TestTheRoleThatPromotesSigns(t *testing.T) {
	id := startingWithType(t, "staged", "AWS::KMS::Key", "SigningKey")
	tpl := parsed(t, "staged")
	ofKey := livePolicy(t, tpl, id, "KeyPolicy")
	for _, role := range tpl.OfType("AWS::IAM::Role") {
		name, _ := tpl.Resources[role].Properties["RoleName"].(string)
		want := name == "slurm-factory-promote"
		own := inlinePolicies(t, "staged", role)
		if _, may := own["sign"]; may != want {
			t.Errorf("%s: a right to sign: %v", name, may)
		}
		decide(t, name, ofKey, policy.Request{
			Action: "kms:Sign", Resource: "arn:" + id, Principal: policy.Principal{"AWS": {"arn:aws:iam::" + testAccount + ":root"}},
			Keys: map[string]string{
				"aws:PrincipalArn": "arn:aws:iam::" + testAccount + ":role/" + name, "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_512", "kms:MessageType": "DIGEST",
			},
		}, want)
	}
	if table := PermissionsTable(variants()["staged"]); !strings.Contains(table, "| role `slurm-factory-promote` | `KEY` | `kms:Sign`") || strings.Count(table, "kms:Sign") != 1 {
		t.Errorf("the table of permissions:\n%s", table)
	}
}

// inlinePolicies are the policies of a role of a variant, by name, with every reference standing for itself.
func inlinePolicies(t *testing.T, variant, id string) map[string]policy.Document {
	t.Helper()
	tpl := parsed(t, variant)
	all := map[string]policy.Document{}
	for _, p := range tpl.Resources[id].Properties["Policies"].([]any) {
		named := p.(map[string]any)
		tpl.Resources["Inline"] = template.Resource{Properties: named}
		all[named["PolicyName"].(string)] = livePolicy(t, tpl, "Inline", "PolicyDocument")
	}
	return all
}

// TestOnlyTheFirstPublisherHasTheRight, and what --signing-key adds is that right alone.
func TestOnlyTheFirstPublisherHasTheRight(t *testing.T) {
	c := variants()["shared"]
	before := PermissionsTable(c)
	c.SigningKey = newKey
	var added []string
	for line := range strings.Lines(PermissionsTable(c)) {
		if !strings.Contains(before, line) {
			added = append(added, line)
		}
	}
	want := []string{"| role `slurm-factory-github-actions` | `KEY` | `kms:Sign` or `kms:DescribeKey` or `kms:GetPublicKey` |\n"}
	if !slices.Equal(added, want) {
		t.Errorf("added %q", added)
	}
}
