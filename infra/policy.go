package infra

import (
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// githubIssuer is the host of GitHub's token issuer; claims are condition keys below it.
const githubIssuer = "token.actions.githubusercontent.com"

// Trust is who may assume the publisher's role: tokens that GitHub issued for
// sts.amazonaws.com to a run that every condition fits.
func (p Publisher) Trust(providerArn string) policy.Document {
	exact := map[string]policy.Strings{claim("aud"): {"sts.amazonaws.com"}}
	alike := map[string]policy.Strings{claim("sub"): p.subjects()}
	if p.RepoID != "" {
		exact[claim("repository_id")] = policy.Strings{p.RepoID}
	}
	// A job in an environment has no ref in its subject, so the ref needs its own claim.
	if p.Environment != "" && p.Ref != "" {
		alike[claim("ref")] = policy.Strings{p.Ref}
	}
	if p.Workflow != "" {
		alike[claim("job_workflow_ref")] = policy.Strings{p.Workflow}
	}
	return policy.New(policy.Statement{
		Effect:    policy.Allow,
		Principal: policy.Federated(providerArn),
		Action:    policy.Strings{"sts:AssumeRoleWithWebIdentity"},
		Condition: policy.Condition{"StringEquals": exact, "StringLike": alike},
	})
}

func claim(name string) string { return githubIssuer + ":" + name }

// subjects are the values of sub that the role trusts, in both shapes: repositories
// made, renamed or transferred after 15 July 2026 carry the numbers of owner and
// repository in it, older ones do not until they are.
func (p Publisher) subjects() policy.Strings {
	run := p.run()
	return policy.Strings{
		"repo:" + p.Owner + "/" + p.Repo + ":" + run,
		"repo:" + p.Owner + "@" + orAny(p.OwnerID) + "/" + p.Repo + "@" + orAny(p.RepoID) + ":" + run,
	}
}

// run is the last part of sub. GitHub writes a colon in a value as %3A, so no value
// can pretend to be another part, and neither owner, name nor ref can hold an @ and
// a colon: the wildcards that stand for unknown numbers match numbers only.
func (p Publisher) run() string {
	switch {
	case p.AnyRef:
		return "*"
	case p.PullRequests:
		return "pull_request"
	case p.Environment != "":
		return "environment:" + strings.ReplaceAll(p.Environment, ":", "%3A")
	}
	return "ref:" + p.Ref
}

func orAny(number string) string {
	if number == "" {
		return "*"
	}
	return number
}

// Permissions is what the publisher's role may do in the bucket, and nothing else.
// Bucket and distribution are ARNs.
func (p Publisher) Permissions(bucket, distribution string) policy.Document {
	objects := make(policy.Strings, 0, len(p.Prefixes)+1)
	var listed policy.Condition
	for _, prefix := range p.prefixes() {
		objects = append(objects, bucket+"/"+prefix+"*")
	}
	if len(p.Prefixes) > 0 {
		listed = policy.Condition{"StringLike": {"s3:prefix": suffixed(p.Prefixes, "*")}}
	}
	statements := []policy.Statement{
		{Sid: "ReadObjects", Effect: policy.Allow, Action: policy.Strings{"s3:GetObject"}, Resource: objects},
		// Without it S3 says 403 instead of 404 for what is not there.
		{Sid: "ListObjects", Effect: policy.Allow, Action: policy.Strings{"s3:ListBucket"}, Resource: policy.Strings{bucket}, Condition: listed},
		{Sid: "FindBucket", Effect: policy.Allow, Action: policy.Strings{"s3:GetBucketLocation"}, Resource: policy.Strings{bucket}},
	}
	if p.Access == Read {
		return policy.New(statements...)
	}
	statements = append(statements,
		policy.Statement{Sid: "WriteObjects", Effect: policy.Allow, Resource: objects,
			Action: policy.Strings{"s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}},
		// S3 offers no s3:prefix for this one: a publisher sees the names, and no
		// more, of what others are uploading.
		policy.Statement{Sid: "ListUploads", Effect: policy.Allow, Resource: policy.Strings{bucket},
			Action: policy.Strings{"s3:ListBucketMultipartUploads"}},
		policy.Statement{Sid: "Invalidate", Effect: policy.Allow, Resource: policy.Strings{distribution},
			Action: policy.Strings{"cloudfront:CreateInvalidation", "cloudfront:GetInvalidation"}},
	)
	if p.Access == Maintain {
		statements = append(statements,
			// Not DeleteObjectVersion: what is deleted by mistake can be restored.
			policy.Statement{Sid: "DeleteObjects", Effect: policy.Allow, Action: policy.Strings{"s3:DeleteObject"}, Resource: objects},
			policy.Statement{Sid: "ListVersions", Effect: policy.Allow, Action: policy.Strings{"s3:ListBucketVersions"},
				Resource: policy.Strings{bucket}, Condition: listed},
		)
	}
	return policy.New(statements...)
}

// prefixes are the parts of the bucket that the role reaches, "" being all of it.
func (p Publisher) prefixes() []string {
	if len(p.Prefixes) == 0 {
		return []string{""}
	}
	return p.Prefixes
}

func suffixed(all []string, suffix string) policy.Strings {
	out := make(policy.Strings, 0, len(all))
	for _, s := range all {
		out = append(out, s+suffix)
	}
	return out
}

// ManualUserPermissions is full access to the bucket for a person, who must have
// signed in with MFA to delete anything or to change what protects the bucket.
func ManualUserPermissions(bucket, distribution string) policy.Document {
	both := policy.Strings{bucket, bucket + "/*"}
	return policy.New(
		policy.Statement{Sid: "FullAccess", Effect: policy.Allow, Action: policy.Strings{"s3:*"}, Resource: both},
		policy.Statement{Sid: "Invalidate", Effect: policy.Allow, Resource: policy.Strings{distribution},
			Action: policy.Strings{"cloudfront:CreateInvalidation", "cloudfront:GetInvalidation", "cloudfront:ListInvalidations"}},
		policy.Statement{Sid: "DeleteOnlyWithMFA", Effect: policy.Deny, Resource: both,
			Action: policy.Strings{
				"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket", "s3:DeleteBucketPolicy",
				"s3:PutBucketPolicy", "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration",
				"s3:PutBucketPublicAccessBlock", "s3:PutBucketOwnershipControls",
			},
			// An access key without MFA has no such key in its requests at all.
			Condition: policy.Condition{"BoolIfExists": {"aws:MultiFactorAuthPresent": {"false"}}}},
	)
}

// ImmutablePackages refuses to write a package's bytes (blobs of layout v3, .spack
// files of layout v2) other than with If-None-Match, so that nothing already there
// can be replaced. Starting an upload and sending its parts carry no such header;
// they create no object yet and are exempt. Except, an ARN, is the person who may
// still repair a damaged package by hand; empty for nobody.
func ImmutablePackages(bucket, except string) policy.Statement {
	conditions := policy.Condition{
		"Null": {"s3:if-none-match": {"true"}},
		"Bool": {"s3:ObjectCreationOperation": {"true"}},
	}
	if except != "" {
		conditions["ArnNotEquals"] = map[string]policy.Strings{"aws:PrincipalArn": {except}}
	}
	return policy.Statement{
		Sid:       "PackagesAreImmutable",
		Effect:    policy.Deny,
		Principal: policy.Anyone(),
		Action:    policy.Strings{"s3:PutObject"},
		Resource:  policy.Strings{bucket + "/blobs/*", bucket + "/*/blobs/*", bucket + "/*.spack"},
		Condition: conditions,
	}
}

// ProviderArn is the ARN of an account's identity provider for GitHub.
func ProviderArn(account string) string {
	return "arn:aws:iam::" + account + ":oidc-provider/" + githubIssuer
}
