package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// mendKey is, by the state of a key that does not sign, what makes it sign again.
var mendKey = map[string]string{
	"Disabled":        "`aws kms enable-key --key-id %[1]s`",
	"PendingDeletion": "`aws kms cancel-key-deletion --key-id %[1]s && aws kms enable-key --key-id %[1]s`, before it is gone for good",
}

// signingKey examines whether the alias leads to the key, whether that can sign, and whether its
// policy still names who may. A stack without --signing-key has nothing to examine.
func (d Doctor) signingKey(ctx context.Context) ([]Finding, error) {
	const check = "signing key"
	alias := d.Stack.first("AWS::KMS::Alias")
	if alias == "" {
		return nil, nil
	}
	var about struct {
		KeyMetadata struct{ Arn, KeyState string }
	} //nolint:revive // the names of KMS
	err := awsjson.Call(ctx, d.AWS, "kms", "TrentService.DescribeKey", map[string]string{"KeyId": alias}, &about)
	if code(err) == "NotFoundException" {
		return []Finding{broken(check, remake, "%s does not exist: nothing can be signed by this name", alias)}, nil
	}
	if err != nil {
		return nil, err
	}
	key, want := about.KeyMetadata, d.Stack.Outputs["SigningKeyArn"]
	if key.Arn != want {
		return []Finding{broken(check, redeploy, "%s leads to %s, the stack says %s: signatures of another key are refused", alias, key.Arn, want)}, nil
	}
	var found []Finding
	if key.KeyState != "Enabled" {
		fix := "`aws kms describe-key --key-id %[1]s` says more"
		if mend, ok := mendKey[key.KeyState]; ok {
			fix = mend
		}
		found = append(found, broken(check, fmt.Sprintf(fix, key.Arn[strings.LastIndexByte(key.Arn, '/')+1:]), "%s is in the state %s: nothing can be signed", key.Arn, key.KeyState))
	}
	changed, err := d.keyPolicy(ctx, check, key.Arn)
	if err != nil {
		changed = append(changed, unexamined(check, err))
	}
	return orWell(append(found, changed...), check, "%s signs as %s", key.Arn, alias), nil
}

// keyPolicy compares the policy of the stack's own key with the stack's. A key that was given has one of its own.
func (d Doctor) keyPolicy(ctx context.Context, check, key string) ([]Finding, error) {
	own := d.Stack.Template.OfType("AWS::KMS::Key")
	if len(own) == 0 {
		return nil, nil
	}
	want, err := d.Stack.documentOf(d.Stack.Template.Resources[own[0]].Properties["KeyPolicy"])
	if err != nil {
		return nil, err
	}
	var live struct{ Policy string } //nolint:revive // the name of KMS
	if err := awsjson.Call(ctx, d.AWS, "kms", "TrentService.GetKeyPolicy", map[string]string{"KeyId": key, "PolicyName": "default"}, &live); err != nil {
		return nil, err
	}
	have, err := policy.Parse([]byte(live.Policy))
	switch {
	case errors.Is(err, policy.ErrNotModelled):
		return []Finding{broken(check, redeploy, "its policy was changed by hand: %v", err)}, nil
	case err != nil:
		return nil, err
	case !alike(have, want):
		return []Finding{broken(check, redeploy, "its policy was changed, so that others may sign or its role may not: %s", difference(have, want))}, nil
	}
	return nil, nil
}
