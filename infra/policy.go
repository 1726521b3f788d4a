package infra

import (
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// githubIssuer is the host of GitHub's token issuer; claims are condition keys below it.
const githubIssuer = "token.actions.githubusercontent.com"

// Trust is who may assume the publisher's role: tokens that GitHub issued for
// sts.amazonaws.com to a run of the repository that every condition fits.
//
// The claims repository and repository_id are demanded beside sub, because an
// organisation can customise the form of its subjects.
func (p Publisher) Trust(providerArn string) policy.Document {
	exact := map[string]policy.Strings{
		claim("aud"):        {"sts.amazonaws.com"},
		claim("repository"): {p.Owner + "/" + p.Repo},
	}
	alike := map[string]policy.Strings{claim("sub"): p.subjects()}
	if p.numbered() {
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

// numbered reports whether the numbers of owner and repository are known.
func (p Publisher) numbered() bool { return p.OwnerID != "" && p.RepoID != "" }

// subjects are the values of sub that the role trusts. Repositories made, renamed or
// transferred after 15 July 2026 carry the numbers of owner and repository in it;
// older ones do not. Without the numbers only the older form is trusted: a wildcard
// in their place would let in a repository that takes over the name.
func (p Publisher) subjects() policy.Strings {
	all := policy.Strings{"repo:" + p.Owner + "/" + p.Repo + ":" + p.run()}
	if p.numbered() {
		all = append(all, "repo:"+p.Owner+"@"+p.OwnerID+"/"+p.Repo+"@"+p.RepoID+":"+p.run())
	}
	return all
}

// run is the last part of sub. GitHub writes a colon in a value as %3A, so no value
// can pretend to be another part.
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

// Permissions is what the publisher's role may do in the bucket, and nothing else.
// Bucket and distribution are ARNs.
func (p Publisher) Permissions(bucket, distribution string) policy.Document {
	objects := make(policy.Strings, 0, len(p.Prefixes)+1)
	var listed policy.Condition
	for _, prefix := range p.prefixes() {
		objects = append(objects, bucket+"/"+prefix+"*")
	}
	if len(p.Prefixes) > 0 {
		listed = policy.Condition{"StringLike": {"s3:prefix": suffixed(slices.Concat(p.Prefixes, p.From), "*")}}
	}
	read := slices.Clone(objects)
	for _, from := range p.From {
		read = append(read, bucket+"/"+from+"*")
	}
	statements := []policy.Statement{
		{Sid: "ReadObjects", Effect: policy.Allow, Action: policy.Strings{"s3:GetObject"}, Resource: read},
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

// GitHubIssuer is the host of GitHub's token issuer, by which an account knows the provider.
const GitHubIssuer = githubIssuer

// ProviderArn is the ARN of an account's identity provider for GitHub.
func ProviderArn(account string) string {
	return "arn:aws:iam::" + account + ":oidc-provider/" + githubIssuer
}
