package infra

import (
	"slices"
	"time"
)

const (
	testAccount  = "123456789012"
	testDomain   = "slurm-factory-spack-binary-cache.vantagecompute.ai"
	testZone     = "Z076740924E27W77EXSVN"
	testKey      = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
	testProvider = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
)

// variants are configurations that between them use every branch of the stack.
func variants() map[string]Config {
	bare := Default()
	bare.Account = testAccount
	bare.Alarms = false
	bare.Publishers = bare.Publishers[:1]

	plain := Default()
	plain.Account = testAccount

	domain := plain
	domain.Domain, domain.HostedZoneID, domain.ZoneName = testDomain, testZone, "vantagecompute.ai"

	vantage := domain
	vantage.Suffix = "4b670"
	vantage.ManualUser = "james"
	vantage.ImmutablePackages = true
	vantage.AlarmEmail = "ops@example.com"

	everything := vantage
	everything.IntelligentTiering = true
	everything.CloudTrail = true
	everything.MonthlyBudget = 50
	everything.Options = Options{Tags: []string{"cost-center=hpc", "owner=cache team"}, Inventory: true, Athena: true, LockLogDays: 365, LockLogMode: compliance,
		CertificateDays: 30, CostAnomaly: 20, CacheTags: true, ReplicaRegion: "us-west-2", SigningKey: "new", Deployer: testDeployer()}
	everything.OriginShield = true
	everything.WebACLArn = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/cache/1"
	everything.PriceClass = "All"

	everything.IndexerQueue = true
	everything.IndexerTrust = []string{"ec2", "ecs", "arn:aws:iam::123456789012:role/build-host"}

	given := plain
	given.Account, given.BucketName = "", "my-cache"
	given.Domain = "cache.example.co.uk"
	given.CertificateArn = "arn:aws:acm:us-east-1:123456789012:certificate/1"
	given.OIDCProviderArn = testProvider

	listing := plain
	listing.QueryStrings = QueryListing

	reference := domain
	reference.QueryStrings = QueryAll
	reference.Publishers = []Publisher{Default().Publishers[0]}
	reference.Publishers[0].Environment = ""
	reference.Publishers[0].AnyRef = true

	shared := plain
	shared.Publishers = append(shared.Publishers[:2:2],
		Publisher{
			Name: "slurm", Role: "slurm-factory-slurm", Owner: "o", Repo: "r", OwnerID: "123456", RepoID: "456789",
			Ref: "refs/heads/main", Workflow: "o/r/.github/workflows/publish.yml@refs/heads/main",
			Prefixes: []string{"slurm/", "noble/spack/"}, Access: Publish, Session: time.Hour,
		},
		Publisher{
			Name: "pull-requests", Role: "slurm-factory-pull-requests", Owner: "o", Repo: "r", PullRequests: true,
			Prefixes: []string{"pr/"}, Access: Publish, Session: time.Hour, ExpireDays: 14,
		},
		Publisher{Name: "dry-run", Role: "slurm-factory-dry-run", Owner: "o", Repo: "r", PullRequests: true, Access: Read, Session: time.Hour},
	)

	staged := plain
	staged.Publishers = slices.Clone(plain.Publishers)
	staged.Publishers[0].Prefixes = []string{"staging/"}
	staged.Publishers = append(staged.Publishers, Publisher{
		Name: "promote", Role: "slurm-factory-promote", Owner: "o", Repo: "r", OwnerID: "123456", RepoID: "456789",
		Environment: "production", Prefixes: []string{"noble/spack/"}, From: []string{"staging/"}, Access: Publish, Signs: true, Session: time.Hour,
	})
	staged.SigningKey = newKey

	indexed := bare
	indexed.IndexerQueue = true

	bounded := everything
	bounded.PermissionsBoundary = "cache-boundary"

	governed := plain
	governed.CloudTrail, governed.LockLogDays = true, 30

	trailed := plain
	trailed.CloudTrail = true

	replicated := plain
	replicated.ReplicaRegion = "eu-west-1"

	resigned := plain
	resigned.SigningKey = testKey

	return map[string]Config{
		"resigned":   resigned,
		"replicated": replicated,
		"trailed":    trailed,
		"governed":   governed,
		"bounded":    bounded,
		"indexed":    indexed,
		"bare":       bare, "plain": plain, "domain": domain, "vantage": vantage, "everything": everything,
		"given": given, "listing": listing, "reference": reference, "shared": shared, "staged": staged,
	}
}
