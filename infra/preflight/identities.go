package preflight

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

func (s Site) role(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "RoleName")
	_, err := s.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	there, err := exists(err, "NoSuchEntity")
	return taken(there, err, "role "+name, s.renamesRole()+"; or delete it: aws iam delete-role --role-name "+name+", after its policies")
}

// renamesRole is what gives a role of the stack another name, or does without it. Only the
// roles of publishers have settings for their names.
func (s Site) renamesRole() string {
	for construct, fix := range map[string]string{
		"GitHubActionsRole": "give another name: --role-name",
		"MaintainRole":      s.anotherStack() + "; or do without it: --maintain-environment none (role= where a --publisher makes it)",
		"InfraDeployRole":   s.anotherStack() + "; or do without it: --deployer none",
		"InfraDiffRole":     s.anotherStack() + "; or do without it: --deployer none",
		"IndexerRole":       s.anotherStack() + "; or do without it: --indexer-queue=false",
		"ReplicationRole":   s.anotherStack() + renamed + "; or do without it: --replica-region none",
	} {
		if hash, ok := strings.CutPrefix(s.resource, construct); ok && len(hash) <= 8 { // CDK's
			return fix
		}
	}
	return "give another name: role= of the --publisher"
}

// user looks for a user. One that exists is adopted, unless another stack has made it.
func (s Site) user(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "UserName")
	_, err := s.iam.GetUser(ctx, &iam.GetUserInput{UserName: &name})
	if there, err := exists(err, "NoSuchEntity"); !there {
		return nil, err
	}
	return s.ofAnother(ctx, name, "user "+name, "give another: --manual-user")
}

func (s Site) instanceProfile(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "InstanceProfileName")
	_, err := s.iam.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &name})
	there, err := exists(err, "NoSuchEntity")
	return taken(there, err, "instance profile "+name, "delete it, or leave ec2 out of --indexer-trust; "+s.anotherStack())
}

// keyAlias looks for the alias of a key. KMS answers for the key behind it.
func (s Site) keyAlias(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "AliasName")
	err := awsjson.Call(ctx, s.config, "kms", "TrentService.DescribeKey", map[string]string{"KeyId": name}, nil)
	there, err := exists(err, "NotFoundException")
	return taken(there, err, "key "+name, "delete the alias: aws kms delete-alias --alias-name "+name+
		" (its key stays, and --signing-key ARN signs with it); "+s.anotherStack()+"; or do without it: --signing-key none")
}

func (s Site) provider(ctx context.Context, r template.Resource) ([]Conflict, error) {
	host := strings.TrimPrefix(text(r, "Url"), "https://")
	arn := "arn:aws:iam::" + s.Account + ":oidc-provider/" + host
	_, err := s.iam.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	there, err := exists(err, "NoSuchEntity")
	if err != nil || !there {
		return nil, err
	}
	return []Conflict{{"OIDC provider " + host, "exists already, and an account can have only one", "add --oidc-provider-arn " + arn}}, nil
}
