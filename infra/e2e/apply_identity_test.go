package e2e

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

func makeRole(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	c := iam.NewFromConfig(cfg)
	name := p.at("RoleName").str()
	if _, err := c.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: p.at("AssumeRolePolicyDocument").json(),
		PermissionsBoundary: p.at("PermissionsBoundary").str(), MaxSessionDuration: p.at("MaxSessionDuration").int32()}); unless(err, "EntityAlreadyExists") != nil {
		return "", nil, err
	}
	if _, err := c.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: p.at("AssumeRolePolicyDocument").json()}); err != nil {
		return "", nil, err
	}
	if boundary := p.at("PermissionsBoundary"); boundary.has() {
		if _, err := c.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: name, PermissionsBoundary: boundary.str()}); err != nil {
			return "", nil, err
		}
	}
	for _, inline := range p.at("Policies").list() {
		if _, err := c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: inline.at("PolicyName").str(),
			PolicyDocument: inline.at("PolicyDocument").json()}); err != nil {
			return "", nil, err
		}
	}
	return *name, nil, nil
}

func makeUser(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	_, err := iam.NewFromConfig(cfg).CreateUser(ctx, &iam.CreateUserInput{UserName: p.at("UserName").str()})
	return p.at("UserName").text(), nil, unless(err, "EntityAlreadyExists")
}

func makePolicy(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	for _, user := range p.at("Users").strs() {
		if _, err := iam.NewFromConfig(cfg).PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String(user),
			PolicyName: p.at("PolicyName").str(), PolicyDocument: p.at("PolicyDocument").json()}); err != nil {
			return "", nil, err
		}
	}
	return p.at("PolicyName").text(), nil, nil
}
