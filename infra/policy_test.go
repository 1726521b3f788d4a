package infra

import (
	"slices"
	"strings"
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

// TestStagingAndProduction: the role that promotes reads staging and writes production; that of
// staging does not reach production.
func TestStagingAndProduction(t *testing.T) {
	staging := Publisher{Access: Publish, Prefixes: []string{"staging/"}}.Permissions(bucketArn, distributionArn)
	promoting := Publisher{Access: Publish, Prefixes: []string{"prod/"}, From: []string{"staging/"}}.Permissions(bucketArn, distributionArn)
	prefix := func(p string) map[string]string { return map[string]string{"s3:prefix": p} }
	for _, row := range []struct {
		name, action, resource string
		keys                   map[string]string
		staging, promoting     bool
	}{
		{"write staging", "s3:PutObject", object("staging/blobs/sha256/ab/abc"), nil, true, false},
		{"write production", "s3:PutObject", object("prod/blobs/sha256/ab/abc"), nil, false, true},
		{"leave evidence", "s3:PutObject", object("prod/.promotions/0123.json"), nil, false, true},
		{"read staging", "s3:GetObject", object("staging/blobs/sha256/ab/abc"), nil, true, true},
		{"read production", "s3:GetObject", object("prod/v3/layout.json"), nil, false, true},
		{"list staging", "s3:ListBucket", bucketArn, prefix("staging/v3/"), true, true},
		{"list production", "s3:ListBucket", bucketArn, prefix("prod/v3/"), false, true},
		{"read elsewhere", "s3:GetObject", object("other/x"), nil, false, false},
		{"abort an upload in staging", "s3:AbortMultipartUpload", object("staging/x"), nil, true, false},
		{"delete from staging", "s3:DeleteObject", object("staging/x"), nil, false, false},
		{"delete from production", "s3:DeleteObject", object("prod/x"), nil, false, false},
	} {
		r := policy.Request{Action: row.action, Resource: row.resource, Keys: row.keys}
		decide(t, row.name+", staging", staging, r, row.staging)
		decide(t, row.name+", promoting", promoting, r, row.promoting)
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
	d := policy.ManualUserPermissions(bucketArn, distributionArn)
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
		{"upload a part of a large object", "s3:PutObject", object("x"), map[string]string{"s3:ObjectCreationOperation": "false"}, true},
		{"give an upload up", "s3:AbortMultipartUpload", object("x"), nil, true},
		{"see what protects the bucket", "s3:GetBucketPolicy", bucketArn, nil, true},
		{"open the bucket without MFA", "s3:PutBucketPolicy", bucketArn, nil, false},
		{"forget versions without MFA", "s3:PutBucketVersioning", bucketArn, nil, false},
		{"expire everything without MFA", "s3:PutLifecycleConfiguration", bucketArn, nil, false},
		{"turn the log off without MFA", "s3:PutBucketLogging", bucketArn, nil, false},
		{"turn the log off with MFA", "s3:PutBucketLogging", bucketArn, mfa, true},
		{"change the encryption without MFA", "s3:PutEncryptionConfiguration", bucketArn, nil, false},
		{"copy everything elsewhere without MFA", "s3:PutReplicationConfiguration", bucketArn, noMFA, false},
		{"silence the notifications without MFA", "s3:PutBucketNotification", bucketArn, nil, false},
		{"serve the bucket as a web site without MFA", "s3:PutBucketWebsite", bucketArn, nil, false},
		{"write inventories elsewhere without MFA", "s3:PutInventoryConfiguration", bucketArn, nil, false},
		{"open an object without MFA", "s3:PutObjectAcl", object("x"), nil, false},
		{"lock an object without MFA", "s3:PutObjectRetention", object("x"), nil, false},
		{"tag an object without MFA", "s3:PutObjectTagging", object("x"), nil, false},
		{"what AWS adds tomorrow, without MFA", "s3:ReplaceEverything", bucketArn, nil, false},
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
// does. No request without a condition replaces anything, whatever its name.
func TestImmutablePackages(t *testing.T) {
	role := Publisher{Access: Publish}.Permissions(bucketArn, distributionArn)
	bucket := policy.New(policy.ImmutablePackages(bucketArn, jamesArn)...)
	creates := func(keys ...string) map[string]string {
		m := map[string]string{"s3:ObjectCreationOperation": "true"}
		for i := 0; i < len(keys); i += 2 {
			m[keys[i]] = keys[i+1]
		}
		return m
	}
	none, match := []string{"s3:if-none-match", "*"}, []string{"s3:if-match", `"e"`}
	james := func(more ...string) map[string]string { return creates(append(more, "aws:PrincipalArn", jamesArn)...) }
	part := map[string]string{"s3:ObjectCreationOperation": "false"}
	type row struct {
		name, object string
		keys         map[string]string
		want         bool
	}
	rows := []row{
		{"blobs only in the name", "noble/myblobs/x", creates(match...), true},
		{"repaired by james with MFA", "noble/spack/blobs/sha256/ab/abc", james("aws:MultiFactorAuthPresent", "true"), true},
		{"repaired by james without MFA", "noble/spack/blobs/sha256/ab/abc", james("aws:MultiFactorAuthPresent", "false"), false},
		{"repaired with james's access key", "noble/spack/blobs/sha256/ab/abc", james(), false},
		{"blob swapped with james's access key", "noble/spack/blobs/sha256/ab/abc", james(match...), false},
		{"new blob with james's access key", "noble/spack/blobs/sha256/ab/abc", james(none...), true},
		{"index overwritten with james's access key", "v3/manifests/index/index.manifest.json", james(), false},
		{"index swapped with james's access key", "v3/manifests/index/index.manifest.json", james(match...), true},
		{"index overwritten by james with MFA", "v3/manifests/index/index.manifest.json", james("aws:MultiFactorAuthPresent", "true"), true},
		{"repaired by a user of a similar name", "noble/spack/blobs/sha256/ab/abc", creates("aws:PrincipalArn", jamesArn+"2", "aws:MultiFactorAuthPresent", "true"), false},
	}
	for _, mirror := range []string{"", "noble/spack/", "slurm/25.11/13.4.0/buildcache/"} {
		for _, name := range []string{"blobs/sha256/ab/abc", "build_cache/linux/gcc/zlib-1/x.spack"} {
			rows = append(rows,
				row{"created", mirror + name, creates(none...), true},
				row{"overwritten", mirror + name, creates(), false},
				row{"swapped", mirror + name, creates(match...), false},
				row{"start or part of an upload", mirror + name, part, true})
		}
		for _, name := range []string{
			"v3/manifests/spec/zlib/zlib-1-a.spec.manifest.json", "v3/layout.json", "v3/manifests/key/AB.key.manifest.json",
			"v3/manifests/key/keys.manifest.json", "v3/manifests/index/index.manifest.json", "v3/manifests/index/site/index.manifest.json",
			"build_cache/x.spec.json", "build_cache/x.spec.json.sig", "build_cache/_pgp/AB.pub", "build_cache/_pgp/index.json",
			"build_cache/index.json", "build_cache/index.json.hash", "slurm.tar.gz", "index.html",
		} {
			rows = append(rows,
				row{"created", mirror + name, creates(none...), true},
				row{"overwritten", mirror + name, creates(), false},
				row{"swapped", mirror + name, creates(match...), true},
				row{"start or part of an upload", mirror + name, part, true})
		}
	}
	for _, row := range rows {
		t.Run(row.name+" "+row.object, func(t *testing.T) {
			got, err := policy.Decide(policy.Request{Action: "s3:PutObject", Resource: object(row.object), Keys: row.keys}, role, bucket)
			if err != nil || got.Allowed != row.want {
				t.Errorf("%v %v, want allowed %v", got, err, row.want)
			}
		})
	}
}

// TestImmutableForEverybody: without a manual user nobody is exempt.
func TestImmutableForEverybody(t *testing.T) {
	role := Publisher{Access: Publish}.Permissions(bucketArn, distributionArn)
	bucket := policy.New(policy.ImmutablePackages(bucketArn, "")...)
	keys := map[string]string{"s3:ObjectCreationOperation": "true", "aws:PrincipalArn": jamesArn, "aws:MultiFactorAuthPresent": "true"}
	for _, name := range []string{"blobs/sha256/ab/abc", "v3/layout.json"} {
		got, err := policy.Decide(policy.Request{Action: "s3:PutObject", Resource: object(name), Keys: keys}, role, bucket)
		if err != nil || got.Allowed {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

// TestTrust asks the trust policies with the subjects and claims of GitHub's tokens.
// A row's claims replace those of a run of the repository itself; an empty one is absent.
func TestTrust(t *testing.T) {
	named := Publisher{Owner: "vantagecompute", Repo: "slurm-factory"}
	numbered := named
	numbered.OwnerID, numbered.RepoID = "111", "222"
	roles := map[string]Publisher{}
	add := func(name string, p Publisher, change func(*Publisher)) {
		change(&p)
		roles[name] = p
	}
	add("named", named, func(p *Publisher) { p.Environment = "release" })
	add("named any", named, func(p *Publisher) { p.AnyRef = true })
	add("numbered", numbered, func(p *Publisher) { p.Environment = "release" })
	add("branch", numbered, func(p *Publisher) { p.Ref = "refs/heads/main" })
	add("tags", numbered, func(p *Publisher) { p.Ref = "refs/tags/v*" })
	add("both", numbered, func(p *Publisher) { p.Environment, p.Ref = "release", "refs/heads/main" })
	add("workflow", numbered, func(p *Publisher) {
		p.Environment, p.Workflow = "release", "vantagecompute/slurm-factory/.github/workflows/publish.yml@refs/heads/main"
	})
	add("pulls", numbered, func(p *Publisher) { p.PullRequests = true })
	add("any", numbered, func(p *Publisher) { p.AnyRef = true })

	type claims map[string]string
	const (
		oldShape = "repo:vantagecompute/slurm-factory:"
		newShape = "repo:vantagecompute@111/slurm-factory@222:"
	)
	main := claims{"ref": "refs/heads/main", "job_workflow_ref": "vantagecompute/slurm-factory/.github/workflows/publish.yml@refs/heads/main"}
	other := claims{"repository": "vantagecompute/other", "repository_id": "333"}
	for _, row := range []struct {
		name    string
		sub     string
		claims  claims
		trusted []string // names of the roles that let it in
	}{
		{"environment, old sub", oldShape + "environment:release", main, []string{"named", "named any", "numbered", "both", "workflow", "any"}},
		{"environment, new sub", newShape + "environment:release", main, []string{"numbered", "both", "workflow", "any"}},
		{"environment from another branch", oldShape + "environment:release", claims{"ref": "refs/heads/dev"},
			[]string{"named", "named any", "numbered", "any"}},
		{"environment from another workflow", newShape + "environment:release", claims{"ref": "refs/heads/main",
			"job_workflow_ref": "vantagecompute/slurm-factory/.github/workflows/other.yml@refs/heads/main"}, []string{"numbered", "both", "any"}},
		{"another environment", oldShape + "environment:staging", nil, []string{"named any", "any"}},
		{"environment that begins alike", newShape + "environment:release2", nil, []string{"any"}},
		{"main, old sub", oldShape + "ref:refs/heads/main", main, []string{"named any", "branch", "any"}},
		{"main, new sub", newShape + "ref:refs/heads/main", main, []string{"branch", "any"}},
		{"another branch", oldShape + "ref:refs/heads/dev", nil, []string{"named any", "any"}},
		{"branch that begins alike", newShape + "ref:refs/heads/main2", nil, []string{"any"}},
		{"tag", newShape + "ref:refs/tags/v1.2.3", nil, []string{"tags", "any"}},
		{"branch named like the tag", newShape + "ref:refs/heads/v1.2.3", nil, []string{"any"}},
		{"pull request, old sub", oldShape + "pull_request", nil, []string{"named any", "pulls", "any"}},
		{"pull request, new sub", newShape + "pull_request", nil, []string{"pulls", "any"}},
		{"fork", "repo:mallory/slurm-factory:environment:release", claims{"repository": "mallory/slurm-factory", "repository_id": "9"}, nil},
		{"fork, new sub", "repo:mallory@9/slurm-factory@222:environment:release", claims{"repository": "mallory/slurm-factory"}, nil},
		{"another repository", "repo:vantagecompute/other:environment:release", other, nil},
		{"another repository, new sub", "repo:vantagecompute@111/other@333:environment:release", other, nil},
		{"repository that begins alike", "repo:vantagecompute/slurm-factory-publish:environment:release", claims{"repository": "vantagecompute/slurm-factory-publish"}, nil},
		{"owner that ends alike", "repo:evil-vantagecompute/slurm-factory:environment:release", claims{"repository": "evil-vantagecompute/slurm-factory"}, nil},
		{"name taken over by another owner and repository", "repo:vantagecompute@666/slurm-factory@999:environment:release", claims{"repository_id": "999"}, nil},
		{"owner's name taken over, number of the repository forged", "repo:vantagecompute@666/slurm-factory@222:environment:release", nil, nil},
		{"old sub, name taken over", oldShape + "environment:release", claims{"repository_id": "999"}, []string{"named", "named any"}},
		{"letter case", "repo:VantageCompute/slurm-factory:environment:release", claims{"repository": "VantageCompute/slurm-factory"}, nil},
		// Values hold no colon (%3A), so these cannot pretend to be another part.
		{"environment named like a subject", "repo:vantagecompute@111/other@333:environment:x/slurm-factory@222%3Aenvironment%3Arelease", other, nil},
		{"branch named like a subject", "repo:vantagecompute@111/other@333:ref:refs/heads/x/slurm-factory@222", other, nil},
		// An organisation can customise its subjects: the claims of the token stay what they are.
		{"customised subject of another repository, branch named like a subject",
			"repo:vantagecompute@111/other@333:ref:refs/heads/x/slurm-factory@1:environment:release", other, nil},
		{"customised subject that equals ours, of another repository", oldShape + "environment:release", other, nil},
		{"customised subject that equals ours, without a repository", newShape + "environment:release", claims{"repository": "", "repository_id": ""}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys := map[string]string{claim("aud"): "sts.amazonaws.com", claim("sub"): row.sub,
				claim("repository"): "vantagecompute/slurm-factory", claim("repository_id"): "222"}
			for k, v := range row.claims {
				if keys[claim(k)] = v; v == "" {
					delete(keys, claim(k))
				}
			}
			for name, p := range roles {
				decide(t, name, p.Trust(testProvider), assume(testProvider, keys), slices.Contains(row.trusted, name))
			}
		})
	}
}

// TestTrustHasNoWildcardForNumbers: a subject of the default configuration names one
// repository exactly.
func TestTrustHasNoWildcardForNumbers(t *testing.T) {
	for name, c := range variants() {
		for _, p := range c.Publishers {
			for _, sub := range p.subjects() {
				if repo, _, _ := strings.Cut(strings.TrimPrefix(sub, "repo:"), ":"); strings.ContainsAny(repo, "*?") {
					t.Errorf("%s: %s trusts %s", name, p.Role, sub)
				}
			}
		}
	}
}

// TestWarnsWithoutNumbers: synth, deploy and the doctor show these.
func TestWarnsWithoutNumbers(t *testing.T) {
	c := Default()
	c.Alarms = false // whose warning is another
	if w := c.Warnings(); len(w) != 2 || !strings.Contains(w[0], "by name only") || !strings.Contains(w[0], "gh api repos/vantagecompute/slurm-factory --jq '.owner.id, .id'") {
		t.Errorf("%q", w)
	}
	for i := range c.Publishers {
		c.Publishers[i].OwnerID, c.Publishers[i].RepoID = "111", "222"
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("%q", w)
	}
}

func assume(provider string, keys map[string]string) policy.Request {
	return policy.Request{Action: "sts:AssumeRoleWithWebIdentity", Principal: policy.Federated(provider), Keys: keys}
}

func TestTrustWantsAudienceAndIssuer(t *testing.T) {
	p := Publisher{Owner: "o", Repo: "r", Environment: "release", Session: time.Hour}
	d := p.Trust(testProvider)
	sub := "repo:o/r:environment:release"
	decide(t, "the token", d, assume(testProvider, map[string]string{claim("aud"): "sts.amazonaws.com", claim("sub"): sub, claim("repository"): "o/r"}), true)
	decide(t, "token for somebody else", d, assume(testProvider, map[string]string{claim("aud"): "https://github.com/o", claim("sub"): sub, claim("repository"): "o/r"}), false)
	decide(t, "no audience", d, assume(testProvider, map[string]string{claim("sub"): sub, claim("repository"): "o/r"}), false)
	decide(t, "another issuer", d, assume("arn:aws:iam::123456789012:oidc-provider/gitlab.com",
		map[string]string{claim("aud"): "sts.amazonaws.com", claim("sub"): sub, claim("repository"): "o/r"}), false)
	decide(t, "another way to assume", d, policy.Request{Action: "sts:AssumeRole", Principal: policy.Principal{"AWS": {jamesArn}}}, false)
}

func TestEnvironmentWithAColon(t *testing.T) {
	d := Publisher{Owner: "o", Repo: "r", Environment: "release:prod"}.Trust(testProvider)
	decide(t, "as GitHub writes it", d, assume(testProvider, map[string]string{
		claim("aud"): "sts.amazonaws.com", claim("sub"): "repo:o/r:environment:release%3Aprod", claim("repository"): "o/r"}), true)
}

func decide(t *testing.T, who string, d policy.Document, r policy.Request, want bool) {
	t.Helper()
	got, err := d.Decide(r)
	if err != nil || got.Allowed != want {
		t.Errorf("%s: %s %s: %v %v, want allowed %v", who, r.Action, r.Resource, got, err, want)
	}
}
