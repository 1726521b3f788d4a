package e2e

import (
	"context"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
)

const signingAlias = "alias/slurm-factory-signing"

func makeKey(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in := p.pick("Description", "KeySpec", "KeyUsage")
	in["Policy"] = p.at("KeyPolicy").json()
	var out struct{ KeyMetadata struct{ KeyId, Arn string } } //nolint:revive // the names of KMS
	err := awsjson.Call(ctx, cfg, "kms", "TrentService.CreateKey", in, &out)
	return out.KeyMetadata.KeyId, map[string]string{"Arn": out.KeyMetadata.Arn}, err
}

func makeKeyAlias(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in := p.pick("AliasName", "TargetKeyId")
	err := awsjson.Call(ctx, cfg, "kms", "TrentService.CreateAlias", in, nil)
	if unless(err, "AlreadyExistsException") == nil && err != nil {
		err = awsjson.Call(ctx, cfg, "kms", "TrentService.UpdateAlias", in, nil)
	}
	return p.at("AliasName").text(), nil, err
}

// putKeyPolicy gives a key that is there the policy of its properties.
func putKeyPolicy(ctx context.Context, cfg aws.Config, id string, p tree) error {
	return awsjson.Call(ctx, cfg, "kms", "TrentService.PutKeyPolicy", map[string]any{"KeyId": id, "PolicyName": "default", "Policy": p.at("KeyPolicy").json()}, nil)
}

// onKey does something to the signing key of a stack.
func onKey(ctx context.Context, d *doctor.Doctor, operation string, more map[string]any) error {
	arn := d.Stack.Outputs["SigningKeyArn"]
	in := map[string]any{"KeyId": arn[strings.LastIndexByte(arn, '/')+1:]} // moto does not take the ARN
	maps.Copy(in, more)
	return awsjson.Call(ctx, d.AWS, "kms", "TrentService."+operation, in, nil)
}

// misleadAlias points the alias at a new key.
func misleadAlias(ctx context.Context, d *doctor.Doctor) error {
	other, _, err := makeKey(ctx, d.AWS, tree{map[string]any{"KeySpec": "RSA_4096", "KeyUsage": "SIGN_VERIFY", "KeyPolicy": map[string]any{}}})
	if err != nil {
		return err
	}
	return awsjson.Call(ctx, d.AWS, "kms", "TrentService.UpdateAlias", map[string]any{"AliasName": signingAlias, "TargetKeyId": other}, nil)
}
