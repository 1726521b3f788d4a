package infra

import (
	"regexp"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

const (
	// newKey is the value of --signing-key for which the stack makes a key.
	newKey = "new"
	// keyPendingDays is the longest time that KMS waits before it deletes a key.
	keyPendingDays = 30
	// signingAlias is the name of the alias, before the prefix.
	signingAlias = "slurm-factory-signing"
)

// keyForm is the ARN of a key in the region of the stack, where its alias is as well.
var keyForm = regexp.MustCompile(`^arn:aws:kms:` + Region + `:(\d{12}):key/([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

// SigningAlias is the name of the alias of the signing key.
func (c Config) SigningAlias() string { return "alias/" + c.Prefixed(signingAlias) }

// signer is the one publisher that may sign: the one that says so, else the first.
func (c Config) signer() Publisher {
	if i := slices.IndexFunc(c.Publishers, signs); i >= 0 {
		return c.Publishers[i]
	}
	return c.Publishers[0]
}

func signs(p Publisher) bool { return p.Signs }

// signingKeyErrors reports what is wrong with --signing-key, and with who signs.
func (c Config) signingKeyErrors(refuse func(bad bool, format string, args ...any)) {
	if i := slices.IndexFunc(c.Publishers, signs); i >= 0 {
		refuse(c.SigningKey == "", "publisher %s: sign=true needs --signing-key", c.Publishers[i].Name)
		refuse(slices.ContainsFunc(c.Publishers[i+1:], signs), "publisher %s: sign=true is given to another publisher too: one role signs", c.Publishers[i].Name)
	}
	if c.SigningKey == "" || c.SigningKey == newKey {
		return
	}
	key := keyForm.FindStringSubmatch(c.SigningKey)
	refuse(key == nil, "--signing-key %q: want new, or the ARN of a key: arn:aws:kms:%s:ACCOUNT:key/ID", c.SigningKey, Region)
	refuse(key != nil && c.Account != "" && key[1] != c.Account,
		"--signing-key %q: the stack's alias can only name a key of account %s", c.SigningKey, c.Account)
}

// newSigningKey makes the key that signs what is published, unless one is given, and the alias by
// which publishers name it. It returns the key's ARN, nil without --signing-key.
//
// The key outlives the stack, since its signatures do: a later stack takes it by its ARN. The alias
// goes with the stack.
func newSigningKey(stack awscdk.Stack, c Config) *string {
	if c.SigningKey == "" {
		return nil
	}
	var key awskms.IKey
	if c.SigningKey == newKey {
		signer := "arn:aws:iam::" + *stack.Account() + ":role/" + c.signer().Role
		key = awskms.NewKey(stack, jsii.String("SigningKey"), &awskms.KeyProps{
			Description:   jsii.String("Signs what is published to s3://" + c.Bucket()),
			KeySpec:       awskms.KeySpec_RSA_4096,
			KeyUsage:      awskms.KeyUsage_SIGN_VERIFY,
			Policy:        document(SigningKeyPolicy(*stack.Account(), signer)),
			PendingWindow: days(keyPendingDays),
			RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
		})
	} else {
		key = awskms.Key_FromKeyArn(stack, jsii.String("SigningKey"), jsii.String(c.SigningKey))
	}
	awskms.NewAlias(stack, jsii.String("SigningKeyAlias"), &awskms.AliasProps{
		AliasName: jsii.String(c.SigningAlias()), TargetKey: key,
	})
	return key.KeyArn()
}

// keyAdministration is what the account may permit its administrators to do with the key. Neither
// kms:Sign nor kms:CreateGrant is in it, which could permit others to sign.
var keyAdministration = policy.Strings{
	"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:EnableKey", "kms:GetKeyPolicy",
	"kms:GetKeyRotationStatus", "kms:GetPublicKey", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListResourceTags", "kms:PutKeyPolicy",
	"kms:RevokeGrant", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
}

// SigningKeyPolicy is the policy of the key: the account administers it, and the one role signs
// with it, in the way of publish. A policy of IAM gives a right to the key only where this one lets
// the account do so, so that not even an administrator signs without changing it.
//
// The role is named by a condition. As principal it would have to exist before the key, and would be
// another one once it was made again.
func SigningKeyPolicy(account, role string) policy.Document {
	owner := policy.Principal{"AWS": {"arn:aws:iam::" + account + ":root"}}
	return policy.New(
		policy.Statement{Sid: "Administer", Effect: policy.Allow, Principal: owner, Action: keyAdministration, Resource: policy.Strings{"*"}},
		policy.Statement{Sid: "Sign", Effect: policy.Allow, Principal: owner, Action: policy.Strings{"kms:Sign"}, Resource: policy.Strings{"*"},
			Condition: policy.Condition{
				"ArnEquals":    {"aws:PrincipalArn": {role}},
				"StringEquals": {"kms:SigningAlgorithm": {"RSASSA_PKCS1_V1_5_SHA_512"}, "kms:MessageType": {"DIGEST"}},
			}},
	)
}

// SigningPermissions is what a role needs to sign with a key, an ARN, and to make its public key.
func SigningPermissions(key string) policy.Document {
	return policy.New(policy.Statement{Sid: "Sign", Effect: policy.Allow, Resource: policy.Strings{key},
		Action: policy.Strings{"kms:Sign", "kms:DescribeKey", "kms:GetPublicKey"}})
}
