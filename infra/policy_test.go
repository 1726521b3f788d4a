package infra

import (
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

const (
	bucketArn       = "arn:aws:s3:::cache"
	distributionArn = "arn:aws:cloudfront::123456789012:distribution/E1"
	otherDistArn    = "arn:aws:cloudfront::123456789012:distribution/E2"
	jamesArn        = "arn:aws:iam::123456789012:user/james"
)

func object(name string) string { return bucketArn + "/" + name }

// TestPermissions is the table of what each kind of role may call. "slurm/" is the
// publisher's prefix, "other/" is not.
func TestPermissions(t *testing.T) {
	prefix := func(p string) map[string]string { return map[string]string{"s3:prefix": p} }
	for _, row := range []struct {
		name                    string
		action, resource        string
		keys                    map[string]string
		read, publish, maintain bool
	}{
		{"read an object", "s3:GetObject", object("slurm/v3/layout.json"), nil, true, true, true},
		{"read outside", "s3:GetObject", object("other/v3/layout.json"), nil, false, false, false},
		{"list the prefix", "s3:ListBucket", bucketArn, prefix("slurm/"), true, true, true},
		{"list below the prefix", "s3:ListBucket", bucketArn, prefix("slurm/blobs/sha256/ab"), true, true, true},
		{"list outside", "s3:ListBucket", bucketArn, prefix("other/"), false, false, false},
		{"list a prefix that only begins alike", "s3:ListBucket", bucketArn, prefix("slurm"), false, false, false},
		{"list everything", "s3:ListBucket", bucketArn, prefix(""), false, false, false},
		{"list without a prefix", "s3:ListBucket", bucketArn, nil, false, false, false},
		{"list another bucket", "s3:ListBucket", bucketArn + "-logs", prefix("slurm/"), false, false, false},
		{"find the bucket's region", "s3:GetBucketLocation", bucketArn, nil, true, true, true},
		{"write an object", "s3:PutObject", object("slurm/blobs/sha256/ab/abc"), nil, false, true, true},
		{"write at the root", "s3:PutObject", object("index.html"), nil, false, false, false},
		{"write outside", "s3:PutObject", object("other/x"), nil, false, false, false},
		{"write beside", "s3:PutObject", object("slurm2/x"), nil, false, false, false},
		{"abort an upload", "s3:AbortMultipartUpload", object("slurm/x"), nil, false, true, true},
		{"abort an upload outside", "s3:AbortMultipartUpload", object("other/x"), nil, false, false, false},
		{"list an upload's parts", "s3:ListMultipartUploadParts", object("slurm/x"), nil, false, true, true},
		{"list uploads", "s3:ListBucketMultipartUploads", bucketArn, prefix("slurm/"), false, true, true},
		{"invalidate", "cloudfront:CreateInvalidation", distributionArn, nil, false, true, true},
		{"wait for the invalidation", "cloudfront:GetInvalidation", distributionArn, nil, false, true, true},
		{"invalidate another distribution", "cloudfront:CreateInvalidation", otherDistArn, nil, false, false, false},
		{"change the distribution", "cloudfront:UpdateDistribution", distributionArn, nil, false, false, false},
		{"delete an object", "s3:DeleteObject", object("slurm/x"), nil, false, false, true},
		{"delete outside", "s3:DeleteObject", object("other/x"), nil, false, false, false},
		{"delete a version for good", "s3:DeleteObjectVersion", object("slurm/x"), nil, false, false, false},
		{"list versions", "s3:ListBucketVersions", bucketArn, prefix("slurm/"), false, false, true},
		{"change the bucket's policy", "s3:PutBucketPolicy", bucketArn, nil, false, false, false},
		{"change the lifecycle", "s3:PutLifecycleConfiguration", bucketArn, nil, false, false, false},
		{"turn versioning off", "s3:PutBucketVersioning", bucketArn, nil, false, false, false},
		{"make an object public", "s3:PutObjectAcl", object("slurm/x"), nil, false, false, false},
		{"delete the bucket", "s3:DeleteBucket", bucketArn, nil, false, false, false},
		{"make an access key", "iam:CreateAccessKey", jamesArn, nil, false, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			for access, want := range map[Access]bool{Read: row.read, Publish: row.publish, Maintain: row.maintain} {
				p := Publisher{Prefixes: []string{"slurm/", "noble/spack/"}, Access: access}
				decide(t, string(access), p.Permissions(bucketArn, distributionArn),
					policy.Request{Action: row.action, Resource: row.resource, Keys: row.keys}, want)
			}
		})
	}
}

// TestWholeBucket: without a prefix a role reaches every mirror, and still not more
// than the bucket.
func TestWholeBucket(t *testing.T) {
	d := Publisher{Access: Publish}.Permissions(bucketArn, distributionArn)
	for _, row := range []struct {
		action, resource string
		keys             map[string]string
		want             bool
	}{
		{"s3:PutObject", object("noble/spack/v3/layout.json"), nil, true},
		{"s3:PutObject", object("index.html"), nil, true},
		{"s3:ListBucket", bucketArn, map[string]string{"s3:prefix": ""}, true},
		{"s3:ListBucket", bucketArn, nil, true},
		{"s3:PutObject", bucketArn + "-logs/x", nil, false},
		{"s3:DeleteObject", object("x"), nil, false},
	} {
		decide(t, row.action, d, policy.Request{Action: row.action, Resource: row.resource, Keys: row.keys}, row.want)
	}
}

func TestManualUser(t *testing.T) {
	d := ManualUserPermissions(bucketArn, distributionArn)
	mfa := map[string]string{"aws:MultiFactorAuthPresent": "true"}
	noMFA := map[string]string{"aws:MultiFactorAuthPresent": "false"}
	for _, row := range []struct {
		name, action, resource string
		keys                   map[string]string
		want                   bool
	}{
		{"upload", "s3:PutObject", object("x"), nil, true},
		{"read a version", "s3:GetObjectVersion", object("x"), nil, true},
		{"list", "s3:ListBucket", bucketArn, nil, true},
		{"invalidate", "cloudfront:CreateInvalidation", distributionArn, nil, true},
		{"delete with MFA", "s3:DeleteObject", object("x"), mfa, true},
		{"delete in a session without MFA", "s3:DeleteObject", object("x"), noMFA, false},
		{"delete with an access key, which has no such key", "s3:DeleteObject", object("x"), nil, false},
		{"delete a version without MFA", "s3:DeleteObjectVersion", object("x"), nil, false},
		{"delete a version with MFA", "s3:DeleteObjectVersion", object("x"), mfa, true},
		{"open the bucket without MFA", "s3:PutBucketPolicy", bucketArn, nil, false},
		{"forget versions without MFA", "s3:PutBucketVersioning", bucketArn, nil, false},
		{"expire everything without MFA", "s3:PutLifecycleConfiguration", bucketArn, nil, false},
		{"another bucket", "s3:PutObject", bucketArn + "-logs/x", mfa, false},
		{"another distribution", "cloudfront:CreateInvalidation", otherDistArn, mfa, false},
		{"a key for himself", "iam:CreateAccessKey", jamesArn, mfa, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			decide(t, "james", d, policy.Request{Action: row.action, Resource: row.resource, Keys: row.keys}, row.want)
		})
	}
}

// TestImmutablePackages asks the publisher's policy and the bucket's together, as S3
// does.
func TestImmutablePackages(t *testing.T) {
	role := Publisher{Access: Publish}.Permissions(bucketArn, distributionArn)
	bucket := policy.New(ImmutablePackages(bucketArn, jamesArn))
	creates := func(keys ...string) map[string]string {
		m := map[string]string{"s3:ObjectCreationOperation": "true"}
		for i := 0; i < len(keys); i += 2 {
			m[keys[i]] = keys[i+1]
		}
		return m
	}
	part := map[string]string{"s3:ObjectCreationOperation": "false"}
	for _, row := range []struct {
		name, object string
		keys         map[string]string
		want         bool
	}{
		{"new blob", "noble/spack/blobs/sha256/ab/abc", creates("s3:if-none-match", "*"), true},
		{"overwritten blob", "noble/spack/blobs/sha256/ab/abc", creates(), false},
		{"overwritten blob of a mirror at the root", "blobs/sha256/ab/abc", creates(), false},
		{"swapped blob", "noble/spack/blobs/sha256/ab/abc", creates("s3:if-match", `"e"`), false},
		{"start or part of an upload", "noble/spack/blobs/sha256/ab/abc", part, true},
		{"overwritten v2 package", "slurm/build_cache/linux/gcc/x.spack", creates(), false},
		{"new v2 package", "slurm/build_cache/linux/gcc/x.spack", creates("s3:if-none-match", "*"), true},
		{"index swapped", "noble/spack/v3/manifests/index/index.manifest.json", creates("s3:if-match", `"e"`), true},
		{"pointer rewritten", "noble/spack/v3/layout.json", creates(), true},
		{"blobs only in the name", "noble/myblobs/x", creates(), true},
		{"repaired by james", "noble/spack/blobs/sha256/ab/abc", creates("aws:PrincipalArn", jamesArn), true},
		{"repaired by somebody else", "noble/spack/blobs/sha256/ab/abc", creates("aws:PrincipalArn", jamesArn+"2"), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := policy.Decide(policy.Request{Action: "s3:PutObject", Resource: object(row.object), Keys: row.keys}, role, bucket)
			if err != nil || got.Allowed != row.want {
				t.Errorf("%v %v, want allowed %v", got, err, row.want)
			}
		})
	}
}

// TestTrust asks the trust policies with the subjects and claims of GitHub's tokens.
func TestTrust(t *testing.T) {
	base := Publisher{Owner: "vantagecompute", Repo: "slurm-factory"}
	withNumbers := base
	withNumbers.OwnerID, withNumbers.RepoID = "111", "222"
	roles := map[string]Publisher{}
	add := func(name string, p Publisher, change func(*Publisher)) {
		change(&p)
		roles[name] = p
	}
	add("environment", base, func(p *Publisher) { p.Environment = "release" })
	add("numbered", withNumbers, func(p *Publisher) { p.Environment = "release" })
	add("branch", base, func(p *Publisher) { p.Ref = "refs/heads/main" })
	add("tags", base, func(p *Publisher) { p.Ref = "refs/tags/v*" })
	add("both", base, func(p *Publisher) { p.Environment, p.Ref = "release", "refs/heads/main" })
	add("workflow", base, func(p *Publisher) {
		p.Environment, p.Workflow = "release", "vantagecompute/slurm-factory/.github/workflows/publish.yml@refs/heads/main"
	})
	add("pulls", base, func(p *Publisher) { p.PullRequests = true })
	add("any", base, func(p *Publisher) { p.AnyRef = true })

	type claims map[string]string
	const (
		oldShape = "repo:vantagecompute/slurm-factory:"
		newShape = "repo:vantagecompute@111/slurm-factory@222:"
	)
	for _, row := range []struct {
		name    string
		sub     string
		claims  claims
		trusted []string // names of the roles that let it in
	}{
		{"environment, old sub", oldShape + "environment:release", claims{"repository_id": "222", "ref": "refs/heads/main",
			"job_workflow_ref": "vantagecompute/slurm-factory/.github/workflows/publish.yml@refs/heads/main"},
			[]string{"environment", "numbered", "both", "workflow", "any"}},
		{"environment, new sub", newShape + "environment:release", claims{"repository_id": "222", "ref": "refs/heads/main",
			"job_workflow_ref": "vantagecompute/slurm-factory/.github/workflows/publish.yml@refs/heads/main"},
			[]string{"environment", "numbered", "both", "workflow", "any"}},
		{"environment from another branch", oldShape + "environment:release", claims{"repository_id": "222", "ref": "refs/heads/dev"},
			[]string{"environment", "numbered", "any"}},
		{"environment from another workflow", newShape + "environment:release", claims{"repository_id": "222", "ref": "refs/heads/main",
			"job_workflow_ref": "vantagecompute/slurm-factory/.github/workflows/other.yml@refs/heads/main"},
			[]string{"environment", "numbered", "both", "any"}},
		{"another environment", oldShape + "environment:staging", claims{"repository_id": "222"}, []string{"any"}},
		{"environment that begins alike", newShape + "environment:release2", claims{"repository_id": "222"}, []string{"any"}},
		{"main, old sub", oldShape + "ref:refs/heads/main", claims{"ref": "refs/heads/main"}, []string{"branch", "any"}},
		{"main, new sub", newShape + "ref:refs/heads/main", claims{"ref": "refs/heads/main"}, []string{"branch", "any"}},
		{"another branch", oldShape + "ref:refs/heads/dev", claims{"ref": "refs/heads/dev"}, []string{"any"}},
		{"branch that begins alike", oldShape + "ref:refs/heads/main2", nil, []string{"any"}},
		{"tag", newShape + "ref:refs/tags/v1.2.3", nil, []string{"tags", "any"}},
		{"branch named like the tag", newShape + "ref:refs/heads/v1.2.3", nil, []string{"any"}},
		{"pull request, old sub", oldShape + "pull_request", nil, []string{"pulls", "any"}},
		{"pull request, new sub", newShape + "pull_request", nil, []string{"pulls", "any"}},
		{"fork", "repo:mallory/slurm-factory:environment:release", claims{"repository_id": "222"}, nil},
		{"fork, new sub", "repo:mallory@9/slurm-factory@222:environment:release", claims{"repository_id": "222"}, nil},
		{"another repository", "repo:vantagecompute/other:environment:release", nil, nil},
		{"another repository, new sub", "repo:vantagecompute@111/other@333:environment:release", nil, nil},
		{"repository that begins alike", "repo:vantagecompute/slurm-factory-publish:environment:release", nil, nil},
		{"owner that ends alike", "repo:evil-vantagecompute/slurm-factory:environment:release", nil, nil},
		{"name taken over by another owner and repository", "repo:vantagecompute@666/slurm-factory@777:environment:release",
			claims{"repository_id": "777"}, []string{"environment", "any"}},
		{"old sub, name taken over", oldShape + "environment:release", claims{"repository_id": "777"}, []string{"environment", "any"}},
		{"letter case", "repo:VantageCompute/slurm-factory:environment:release", claims{"repository_id": "222"}, nil},
		// Values hold neither a colon (%3A) nor, in names, an @: these cannot pretend.
		{"environment named like a subject", "repo:vantagecompute@111/other@333:environment:x/slurm-factory@222%3Aenvironment%3Arelease", nil, nil},
		{"branch named like a subject", "repo:vantagecompute@111/other@333:ref:refs/heads/x/slurm-factory@222", nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys := map[string]string{claim("aud"): "sts.amazonaws.com", claim("sub"): row.sub}
			for k, v := range row.claims {
				keys[claim(k)] = v
			}
			for name, p := range roles {
				want := false
				for _, n := range row.trusted {
					want = want || n == name
				}
				decide(t, name, p.Trust(testProvider), assume(testProvider, keys), want)
			}
		})
	}
}

func assume(provider string, keys map[string]string) policy.Request {
	return policy.Request{Action: "sts:AssumeRoleWithWebIdentity", Principal: policy.Federated(provider), Keys: keys}
}

func TestTrustWantsAudienceAndIssuer(t *testing.T) {
	p := Publisher{Owner: "o", Repo: "r", Environment: "release", Session: time.Hour}
	d := p.Trust(testProvider)
	sub := "repo:o/r:environment:release"
	decide(t, "token for somebody else", d, assume(testProvider, map[string]string{claim("aud"): "https://github.com/o", claim("sub"): sub}), false)
	decide(t, "no audience", d, assume(testProvider, map[string]string{claim("sub"): sub}), false)
	decide(t, "another issuer", d, assume("arn:aws:iam::123456789012:oidc-provider/gitlab.com",
		map[string]string{claim("aud"): "sts.amazonaws.com", claim("sub"): sub}), false)
	decide(t, "another way to assume", d, policy.Request{Action: "sts:AssumeRole", Principal: policy.Principal{"AWS": {jamesArn}}}, false)
}

func TestEnvironmentWithAColon(t *testing.T) {
	d := Publisher{Owner: "o", Repo: "r", Environment: "release:prod"}.Trust(testProvider)
	decide(t, "as GitHub writes it", d, assume(testProvider, map[string]string{
		claim("aud"): "sts.amazonaws.com", claim("sub"): "repo:o/r:environment:release%3Aprod"}), true)
}

func decide(t *testing.T, who string, d policy.Document, r policy.Request, want bool) {
	t.Helper()
	got, err := d.Decide(r)
	if err != nil || got.Allowed != want {
		t.Errorf("%s: %s %s: %v %v, want allowed %v", who, r.Action, r.Resource, got, err, want)
	}
}
