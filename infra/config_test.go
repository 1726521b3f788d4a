package infra

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultNeedsOnlyTheAccount(t *testing.T) {
	c := Default()
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--account is needed") {
		t.Errorf("%v", err)
	}
	c.Account = testAccount
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// TestBucketName holds the name that the Python stack gave, so that an account finds
// its bucket again: the suffix is the start of the MD5 of the account id.
func TestBucketName(t *testing.T) {
	for want, c := range map[string]Config{
		"slurm-factory-spack-buildcache-34179": {Account: "123456789012"},
		"slurm-factory-spack-buildcache-4b670": {Account: "123456789012", Suffix: "4b670"},
		"my-cache":                             {Account: "123456789012", BucketName: "my-cache"},
		// A second deployment has names of its own, unless they are given.
		"staging-slurm-factory-spack-buildcache-34179": {Account: "123456789012", NamePrefix: "staging"},
		"my-staging-cache": {Account: "123456789012", NamePrefix: "staging", BucketName: "my-staging-cache"},
	} {
		if got := c.Bucket(); got != want || c.LogBucket() != want+"-logs" {
			t.Errorf("%s and %s, want %s", got, c.LogBucket(), want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"stack name", func(c *Config) { c.StackName = "my stack" }, "--stack-name"},
		{"upper case in the prefix", func(c *Config) { c.NamePrefix = "Staging" }, "--name-prefix"},
		{"a prefix that ends in a hyphen", func(c *Config) { c.NamePrefix = "staging-" }, "--name-prefix"},
		{"a prefix without room", func(c *Config) { c.NamePrefix = strings.Repeat("s", 21) }, "--name-prefix"},
		{"account", func(c *Config) { c.Account = "12" }, "--account"},
		{"upper case in the suffix", func(c *Config) { c.Suffix = "4B670" }, "bucket name"},
		{"two dots in the bucket's name", func(c *Config) { c.BucketName = "my..cache" }, "no dot beside"},
		{"a dot beside a hyphen", func(c *Config) { c.Suffix = ".cache" }, "no dot beside"},
		{"a file instead of a workflow", func(c *Config) { c.Publishers[0].Workflow = "publish.yml" }, "OWNER/REPO/.github/workflows/FILE@REF"},
		{"a workflow without ref", func(c *Config) { c.Publishers[0].Workflow = "o/r/.github/workflows/publish.yml" }, "OWNER/REPO/.github/workflows/FILE@REF"},
		{"no room for -logs", func(c *Config) { c.BucketName = strings.Repeat("a", 59) }, "bucket name"},
		{"zone without domain", func(c *Config) { c.HostedZoneID = "Z1" }, "need --domain"},
		{"domain without anything", func(c *Config) { c.Domain = "cache.example.com" }, "--domain needs --hosted-zone-id"},
		{"domain with a scheme", func(c *Config) {
			c.Domain, c.CertificateArn = "https://cache.example.com", "arn:aws:acm:us-east-1:1:certificate/1"
		}, "want a lower-case host name"},
		{"zone without its name", func(c *Config) { c.Domain, c.HostedZoneID = "cache.example.co.uk", "Z1" }, "not guessed"},
		{"domain outside the zone", func(c *Config) { c.Domain, c.HostedZoneID, c.ZoneName = "cache.example.com", "Z1", "example.org" }, "is not in --zone-name"},
		{"zone that only ends alike", func(c *Config) { c.Domain, c.HostedZoneID, c.ZoneName = "cache.myexample.com", "Z1", "example.com" }, "is not in --zone-name"},
		{"zone id", func(c *Config) {
			c.Domain, c.HostedZoneID, c.ZoneName = "cache.example.com", "/hostedzone/Z1", "example.com"
		}, "--hosted-zone-id"},
		{"certificate elsewhere", func(c *Config) {
			c.Domain, c.CertificateArn = "cache.example.com", "arn:aws:acm:eu-west-1:1:certificate/1"
		}, "us-east-1 only"},
		{"query strings", func(c *Config) { c.QueryStrings = "some" }, "--query-strings"},
		{"price class", func(c *Config) { c.PriceClass = "50" }, "--price-class"},
		{"regional web ACL", func(c *Config) { c.WebACLArn = "arn:aws:wafv2:eu-west-1:1:regional/webacl/x/1" }, "--waf-arn"},
		{"versions for ever", func(c *Config) { c.NoncurrentDays = 99999 }, "want 1 to 36500"},
		{"logs for ever", func(c *Config) { c.LogDays = 1 << 40 }, "want 1 to 36500"},
		{"a budget beyond reason", func(c *Config) { c.MonthlyBudget, c.AlarmEmail = 1<<40, "ops@example.com" }, "--monthly-budget"},
		{"pull requests for ever", func(c *Config) {
			c.Publishers[0].Prefixes, c.Publishers[0].ExpireDays = []string{"pr/"}, 99999
		}, "expire-days 99999"},
		{"no versions", func(c *Config) { c.NoncurrentDays = 0 }, "--noncurrent-days"},
		{"no resuming", func(c *Config) { c.AbortUploadDays = 0 }, "--abort-upload-days"},
		{"no logs", func(c *Config) { c.LogDays = 0 }, "--log-days"},
		{"another provider", func(c *Config) { c.OIDCProviderArn = "arn:aws:iam::1:oidc-provider/gitlab.com" }, "--oidc-provider-arn"},
		{"the provider of another account", func(c *Config) { c.OIDCProviderArn = ProviderArn("999999999999") }, "can only trust its own provider, arn:aws:iam::123456789012"},
		{"number with a leading zero", func(c *Config) { c.Publishers[0].OwnerID, c.Publishers[0].RepoID = "1", "0123" }, "repo-id \"0123\""},
		{"owner's number with a leading zero", func(c *Config) { c.Publishers[0].OwnerID, c.Publishers[0].RepoID = "0", "1" }, "owner-id \"0\""},
		{"user name", func(c *Config) { c.ManualUser = "j/ames" }, "--manual-user"},
		{"boundary", func(c *Config) { c.PermissionsBoundary = "arn:aws:iam::1:policy/x" }, "--permissions-boundary"},
		{"e-mail", func(c *Config) { c.AlarmEmail = "ops" }, "--alarm-email"},
		{"budget for nobody", func(c *Config) { c.MonthlyBudget = 10 }, "needs --alarm-email"},
		{"negative budget", func(c *Config) { c.MonthlyBudget = -1 }, "--monthly-budget"},
		{"no publisher", func(c *Config) { c.Publishers = nil }, "nobody could publish"},
		{"same name twice", func(c *Config) { c.Publishers[1].Name = "publish" }, "named twice"},
		{"same role twice", func(c *Config) { c.Publishers[1].Role = c.Publishers[0].Role }, "belongs to another publisher"},
		{"long role", func(c *Config) { c.Publishers[0].Role = strings.Repeat("r", 65) }, "at most 64"},
		{"publisher name", func(c *Config) { c.Publishers[0].Name = "Slurm Factory" }, "name"},
		{"repository", func(c *Config) { c.Publishers[0].Repo = "" }, "OWNER/NAME"},
		{"repository with a wildcard", func(c *Config) { c.Publishers[0].Repo = "*" }, "OWNER/NAME"},
		{"owner id", func(c *Config) { c.Publishers[0].OwnerID = "vantage" }, "owner-id"},
		{"repository id", func(c *Config) { c.Publishers[0].RepoID = "*" }, "repo-id"},
		{"environment with a wildcard", func(c *Config) { c.Publishers[0].Environment = "rel*" }, "do not exist yet"},
		{"branch instead of ref", func(c *Config) { c.Publishers[0].Ref = "main" }, "refs/heads/NAME"},
		{"no scope", func(c *Config) { c.Publishers[0].Environment = "" }, "trusts nobody"},
		{"two scopes", func(c *Config) { c.Publishers[0].AnyRef = true }, "exclude each other"},
		{"anybody may delete", func(c *Config) { c.Publishers[1].Environment, c.Publishers[1].AnyRef = "", true }, "can delete"},
		{"any branch may delete", func(c *Config) { c.Publishers[1].Environment, c.Publishers[1].Ref = "", "refs/heads/*" }, "without wildcards"},
		{"some tags may delete", func(c *Config) { c.Publishers[1].Environment, c.Publishers[1].Ref = "", "refs/tags/v?" }, "without wildcards"},
		{"who publishes may delete", func(c *Config) { c.Publishers[1].Environment = "release" }, "a job that publishes could delete"},
		{"who publishes may delete, in other letters", func(c *Config) { c.Publishers[1].Environment = "Release" }, "a job that publishes could delete"},
		{"who publishes from a branch may delete", func(c *Config) {
			for i := range c.Publishers {
				c.Publishers[i].Environment, c.Publishers[i].Ref = "", "refs/heads/main"
			}
		}, "a job that publishes could delete"},
		{"named like the indexer", func(c *Config) { named(c, "indexer"); c.IndexerQueue = true }, "publisher indexer: the name is taken by the role of --indexer-queue"},
		{"named like the replication", func(c *Config) { named(c, "replication"); c.ReplicaRegion = "eu-west-1" }, "--replica-region"},
		{"named like the deployer", func(c *Config) { named(c, "infra-deploy"); c.Deployer = &Publisher{} }, "--deployer"},
		{"named like the deployer's comparison", func(c *Config) { named(c, "infra-diff"); c.Deployer = &Publisher{} }, "--deployer"},
		{"named like the first role", func(c *Config) { named(c, "git-hub-actions") }, "the first publisher"},
		{"named like the output of the first role", func(c *Config) { named(c, "github-actions") }, "the first publisher"},
		{"names that differ in a hyphen", func(c *Config) { named(c, "a1"); named(c, "a-1") }, "same name in the stack as that of publisher a1"},
		{"pull requests publish everywhere", func(c *Config) { c.Publishers[0].Environment, c.Publishers[0].PullRequests = "", true }, "prefix of their own"},
		{"access", func(c *Config) { c.Publishers[0].Access = "admin" }, "access"},
		{"prefix without end", func(c *Config) { c.Publishers[0].Prefixes = []string{"slurm"} }, "ends in /"},
		{"prefix from the root", func(c *Config) { c.Publishers[0].Prefixes = []string{"/slurm/"} }, "does not begin with it"},
		{"prefix with a wildcard", func(c *Config) { c.Publishers[0].Prefixes = []string{"*/"} }, "ends in /"},
		{"from without end", func(c *Config) { promoting(c).From = []string{"staging"} }, "ends in /"},
		{"promotes as it likes", func(c *Config) { promoting(c).Access = Maintain }, "access=publish"},
		{"promotes from where it writes", func(c *Config) { promoting(c).Prefixes = []string{"staging/x/"} }, "overlap"},
		{"promotes to everywhere", func(c *Config) { promoting(c).Prefixes = nil }, "overlap"},
		{"staging writes everything", func(c *Config) { promoting(c); c.Publishers[0].Prefixes = nil }, "publisher publish: it may write both what publisher promote promotes and where that goes"},
		{"staging writes production", func(c *Config) { promoting(c); c.Publishers[0].Prefixes = []string{"staging/a/", "prod/"} }, "it may write both"},
		{"staging may promote", func(c *Config) { promoting(c).Environment = "Release" }, "a job that publishes could promote"},
		{"dry runs sign", func(c *Config) {
			c.SigningKey = newKey
			p := promoting(c)
			p.Signs, p.Access, p.From = true, Read, nil
		}, "sign=true is for a role that publishes"},
		{"two sign", func(c *Config) { c.SigningKey = newKey; promoting(c).Signs = true; c.Publishers[0].Signs = true }, "one role signs"},
		{"signs without a key", func(c *Config) { promoting(c).Signs = true }, "publisher promote: sign=true needs --signing-key"},
		{"session", func(c *Config) { c.Publishers[0].Session = 13 * time.Hour }, "1 to 12 hours"},
		{"everything expires", func(c *Config) { c.Publishers[0].ExpireDays = 1 }, "empty the bucket"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Default()
			c.Account = testAccount
			row.change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// promoting adds a publisher that promotes what the first one publishes.
func promoting(c *Config) *Publisher {
	c.Publishers[0].Prefixes = []string{"staging/"}
	p := c.Publishers[0]
	p.Name, p.Role, p.Environment, p.Prefixes, p.From = "promote", "slurm-factory-promote", "production", []string{"prod/"}, []string{"staging/"}
	c.Publishers = append(c.Publishers, p)
	return &c.Publishers[len(c.Publishers)-1]
}

// TestPromotion: staging and production have a role each, unless they share jobs or prefixes.
func TestPromotion(t *testing.T) {
	c := Default()
	c.Account = testAccount
	promoting(&c)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// named adds a publisher of this name.
func named(c *Config, name string) {
	p := c.Publishers[0]
	p.Name, p.Role, p.Environment = name, "slurm-factory-"+name, "other"
	c.Publishers = append(c.Publishers, p)
}

// TestNoPublisherCanTakeARoleOfTheStack: whatever roles options add, their names are reserved.
func TestNoPublisherCanTakeARoleOfTheStack(t *testing.T) {
	for _, variant := range []string{"everything", "replicated"} {
		c := variants()[variant]
		own := c.roleOwners()
		for _, p := range c.Publishers {
			own[roleID(p)] = p.Name
		}
		for _, id := range parsed(t, variant).OfType("AWS::IAM::Role") {
			construct := id[:len(id)-8] // without CDK's hash
			if _, ok := own[construct]; !ok && strings.HasSuffix(construct, "Role") {
				t.Errorf("%s: a publisher whose role is called %s is not refused", variant, construct)
			}
		}
	}
}

// TestWideRefsAreWarnedOf: a ref that fits every branch is no scope, unless an environment is.
func TestWideRefsAreWarnedOf(t *testing.T) {
	for _, row := range []struct {
		environment, ref string
		warns            bool
	}{
		{"", "refs/*", true}, {"", "refs/heads/*", true}, {"", "refs/tags/v*", false}, {"", "refs/heads/main", false}, {"release", "refs/heads/*", false},
	} {
		c := Default()
		c.Publishers[0].Environment, c.Publishers[0].Ref = row.environment, row.ref
		if warns := strings.Contains(strings.Join(c.Warnings(), "\n"), "trusts every run of vantagecompute/slurm-factory on "+row.ref); warns != row.warns {
			t.Errorf("%+v: warns: %t", row, warns)
		}
	}
}

func TestValidateSaysEverythingAtOnce(t *testing.T) {
	c := Default()
	c.Account, c.PriceClass, c.LogDays = "1", "7", 0
	err := c.Validate()
	for _, want := range []string{"--account", "--price-class", "--log-days"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}
