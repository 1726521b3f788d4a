package infra

import (
	"crypto/md5" //nolint:gosec // names, not secrets
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Region is where everything lives. CloudFront takes its certificates, its logs'
// delivery source and its metrics from us-east-1 only, and one region keeps the
// bucket, the policies and the alarms in one stack.
const Region = "us-east-1"

// A Config is everything that a deployment can choose.
type Config struct {
	// StackName names the CloudFormation stack. Renaming it makes a second stack.
	StackName string
	// NamePrefix begins the names of a second deployment in one account, such as staging:
	// the bucket's, the roles' and those of the CDN's policies. Empty: production.
	NamePrefix string
	// Account is the AWS account id, 12 digits. Empty leaves it to the moment of
	// deployment; then Suffix or BucketName must be given.
	Account string
	// Suffix makes the bucket's name unique in the world. Default: the first five
	// hex digits of the MD5 of the account id, as in ...-4b670.
	Suffix string
	// BucketName is the whole name, instead of slurm-factory-spack-buildcache-SUFFIX.
	BucketName string

	// Domain is the public name of the cache. Empty: only CloudFront's own name.
	Domain string
	// HostedZoneID and ZoneName name the Route53 zone that gets the records and
	// validates the certificate. The zone's name is given, never guessed from the
	// domain: only its owner knows where a zone is cut.
	HostedZoneID, ZoneName string
	// CertificateArn is a certificate in us-east-1 to use instead of a new one.
	CertificateArn string

	// QueryStrings says what becomes of ?x=y; see QueryNone.
	QueryStrings QueryStrings
	// PriceClass is 100, 200 or All.
	PriceClass string
	// OriginShield puts one more cache layer in front of the bucket (paid).
	OriginShield bool
	// WebACLArn is a WAFv2 web ACL with scope CLOUDFRONT.
	WebACLArn string

	// NoncurrentDays is how long an overwritten or deleted object can be restored.
	NoncurrentDays int
	// AbortUploadDays is how long an unfinished multipart upload can be resumed.
	AbortUploadDays int
	// IntelligentTiering lets S3 move what nobody reads to cheaper storage.
	IntelligentTiering bool
	// ImmutablePackages makes S3 refuse to write a package's bytes
	// without If-None-Match, and anything else without If-None-Match or If-Match: a
	// leaked token cannot then replace a package's bytes, nor a document unseen.
	ImmutablePackages bool

	// OIDCProviderArn is the account's provider for GitHub, when it has one already.
	// An account can have only one. Empty: the stack makes it.
	OIDCProviderArn string
	// Publishers are the roles that workflows may assume. The first is the default.
	Publishers []Publisher
	// PermissionsBoundary is the name of a managed policy of the account that bounds every
	// role and user of the stack. Empty: none.
	PermissionsBoundary string
	// ManualUser is the IAM user for manual uploads and emergencies. Empty: none.
	ManualUser string

	// IndexerQueue makes S3 tell a queue what is stored, for hosts that run publish indexer.
	IndexerQueue bool
	// IndexerTrust is who may assume the role of these hosts: ec2, ecs, or the ARN of a role or
	// user, or of an account's root.
	IndexerTrust []string

	// LogDays is how long access logs are kept.
	LogDays int
	// CloudTrail records every write to the bucket with the identity behind it (paid).
	CloudTrail bool
	// Alarms turns on the paid metrics, the alarms on them and the dashboard.
	Alarms bool
	// AlarmEmail receives the alarms and the budget's warning.
	AlarmEmail string
	// MonthlyBudget warns by e-mail at 80 % and 100 % of so many dollars. 0: none.
	MonthlyBudget int

	Options

	// Protect turns on the stack's termination protection.
	Protect bool
	// Settings are the settings that this configuration was made from, by name. They
	// are stored in the template, where the next deployment finds them.
	Settings map[string][]string
}

// QueryStrings says whether a query string reaches S3 and the cache key.
type QueryStrings string

const (
	// QueryNone drops query strings. S3 obeys response-content-type and its kin in
	// any signed request, and CloudFront signs: with query strings forwarded, a link
	// could make the cache serve a package's bytes as a web page of our domain. And
	// each ?x=1 is a cache entry of its own, which an invalidation of the path misses.
	QueryNone QueryStrings = "none"
	// QueryListing lets through what lists the bucket, for a browser of the cache.
	// It gives up the root object: CloudFront would ask S3 for it instead of listing.
	QueryListing QueryStrings = "listing"
	// QueryAll forwards and caches by everything, as the Python stack did.
	QueryAll QueryStrings = "all"
)

// Default is the configuration before any flag: one publisher for
// vantagecompute/slurm-factory and its maintenance role, no domain.
func Default() Config {
	publish := Publisher{
		Name:        "publish",
		Role:        "slurm-factory-github-actions",
		Owner:       "vantagecompute",
		Repo:        "slurm-factory",
		Environment: "release",
		Access:      Publish,
		Session:     3 * time.Hour,
	}
	maintain := publish
	maintain.Name, maintain.Role = "maintain", "slurm-factory-maintain"
	maintain.Environment, maintain.Access = "maintenance", Maintain
	return Config{
		StackName:       "SlurmFactoryInfraStack",
		QueryStrings:    QueryNone,
		PriceClass:      "100",
		NoncurrentDays:  90,
		AbortUploadDays: 3,
		Publishers:      []Publisher{publish, maintain},
		IndexerTrust:    []string{"ec2"},
		LogDays:         90,
		Alarms:          true,
		Options:         Options{LockLogMode: governance},
		Protect:         true,
	}
}

// Bucket is the cache bucket's name.
func (c Config) Bucket() string {
	if c.BucketName != "" {
		return c.BucketName
	}
	return c.Prefixed("slurm-factory-spack-buildcache-" + c.end())
}

// Prefixed is a name as this deployment bears it.
func (c Config) Prefixed(name string) string {
	if c.NamePrefix == "" {
		return name
	}
	return c.NamePrefix + "-" + name
}

// LogBucket is the name of the bucket that receives the access logs.
func (c Config) LogBucket() string { return c.Bucket() + "-logs" }

// suffix ends the names of the CDN's policies, which must be unique in an account.
func (c Config) suffix() string {
	if c.Suffix == "" && c.BucketName != "" {
		return c.BucketName
	}
	return c.Prefixed(c.end())
}

// end is the given suffix, or follows from the account like the Python stack's, so that
// the same account finds the same bucket.
func (c Config) end() string {
	if c.Suffix != "" {
		return c.Suffix
	}
	sum := md5.Sum([]byte(c.Account)) //nolint:gosec // names, not secrets
	return hex.EncodeToString(sum[:])[:5]
}

var (
	accountForm = regexp.MustCompile(`^\d{12}$`)
	bucketForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,56}[a-z0-9]$`) // 63 less "-logs"
	badDots     = regexp.MustCompile(`\.\.|\.-|-\.`)
	domainForm  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$`)
	zoneIDForm  = regexp.MustCompile(`^[A-Z0-9]{1,32}$`)
	stackForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,49}$`) // the access log's delivery may have 60, with its ending
	userForm    = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	// namePrefixForm leaves room for the longest names: of a bucket, and of a role.
	namePrefixForm = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$`)
	// boundaryForm may have a path before the name.
	boundaryForm = regexp.MustCompile(`^([\w+=,.@-]+/)*[\w+=,.@-]{1,128}$`)
	nameForm     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	repoForm     = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	workflowForm = regexp.MustCompile(`^[^/@\s]+/[^/@\s]+/\.github/workflows/[^/@\s]+@\S+$`)
	numberForm   = regexp.MustCompile(`^([1-9]\d*)?$`)
	prefixForm   = regexp.MustCompile(`^[A-Za-z0-9!_.'()-][A-Za-z0-9!_.'()/-]*/$`)
	emailForm    = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)
)

const (
	// maxDays is a hundred years: what is more is a slip of the hand.
	maxDays = 36500
	// maxDollars is the same for a budget of a month.
	maxDollars = 1_000_000
)

// Validate reports everything that is wrong with the configuration at once, in the
// words of the flags.
func (c Config) Validate() error {
	var found []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			found = append(found, fmt.Errorf(format, args...))
		}
	}
	refuse(!stackForm.MatchString(c.StackName), "--stack-name %q: want up to 50 letters, digits and hyphens", c.StackName)
	refuse(c.NamePrefix != "" && !namePrefixForm.MatchString(c.NamePrefix),
		"--name-prefix %q: want up to 20 lower-case letters, digits and hyphens, such as staging", c.NamePrefix)
	refuse(c.Account != "" && !accountForm.MatchString(c.Account), "--account %q: want 12 digits", c.Account)
	refuse(c.Account == "" && c.Suffix == "" && c.BucketName == "",
		"--account is needed to name the bucket: give it, or --suffix, or --bucket-name")
	refuse(!bucketForm.MatchString(c.Bucket()), "bucket name %q: want 3 to 58 lower-case letters, digits, dots and hyphens", c.Bucket())
	refuse(badDots.MatchString(c.Bucket()), "bucket name %q: S3 allows no dot beside a dot or a hyphen", c.Bucket())
	found = append(found, c.domainErrors()...)
	refuse(!slices.Contains([]QueryStrings{QueryNone, QueryListing, QueryAll}, c.QueryStrings),
		"--query-strings %q: want none, listing or all", c.QueryStrings)
	refuse(!slices.Contains([]string{"100", "200", "All"}, c.PriceClass), "--price-class %q: want 100, 200 or All", c.PriceClass)
	refuse(c.WebACLArn != "" && !strings.HasPrefix(c.WebACLArn, "arn:aws:wafv2:us-east-1:"),
		"--waf-arn %q: want the ARN of a WAFv2 web ACL of scope CLOUDFRONT (they live in us-east-1)", c.WebACLArn)
	for _, days := range []struct {
		name string
		n    int
	}{{"noncurrent-days", c.NoncurrentDays}, {"abort-upload-days", c.AbortUploadDays}, {"log-days", c.LogDays}} {
		refuse(days.n < 1 || days.n > maxDays, "--%s %d: want 1 to %d", days.name, days.n, maxDays)
	}
	refuse(c.OIDCProviderArn != "" && !strings.HasSuffix(c.OIDCProviderArn, ":oidc-provider/"+githubIssuer),
		"--oidc-provider-arn %q: want arn:aws:iam::ACCOUNT:oidc-provider/%s", c.OIDCProviderArn, githubIssuer)
	refuse(c.OIDCProviderArn != "" && c.Account != "" && c.OIDCProviderArn != ProviderArn(c.Account),
		"--oidc-provider-arn %q: roles of account %s can only trust its own provider, %s", c.OIDCProviderArn, c.Account, ProviderArn(c.Account))
	refuse(c.ManualUser != "" && !userForm.MatchString(c.ManualUser), "--manual-user %q: not an IAM user name", c.ManualUser)
	refuse(c.PermissionsBoundary != "" && !boundaryForm.MatchString(c.PermissionsBoundary),
		"--permissions-boundary %q: want the name of a managed policy of the account, not its ARN", c.PermissionsBoundary)
	refuse(c.AlarmEmail != "" && !emailForm.MatchString(c.AlarmEmail), "--alarm-email %q: not an e-mail address", c.AlarmEmail)
	refuse(c.MonthlyBudget < 0 || c.MonthlyBudget > maxDollars, "--monthly-budget %d: want dollars, up to %d, or 0 for none", c.MonthlyBudget, maxDollars)
	refuse(c.MonthlyBudget > 0 && c.AlarmEmail == "", "--monthly-budget needs --alarm-email, the address to warn")
	refuse(c.IndexerQueue && len(c.IndexerTrust) == 0, "--indexer-queue needs --indexer-trust: nobody could take a message")
	for _, who := range c.IndexerTrust {
		refuse(who != "ec2" && who != "ecs" && !trustedForm.MatchString(who),
			"--indexer-trust %q: want ec2, ecs, or the ARN of a role, a user or an account's root", who)
	}
	refuse(len(c.Publishers) == 0, "no publisher: nobody could publish")
	found = append(found, c.publisherErrors()...)
	found = append(found, c.optionErrors()...)
	return errors.Join(found...)
}

func (c Config) domainErrors() []error {
	if c.Domain == "" {
		if c.HostedZoneID != "" || c.ZoneName != "" || c.CertificateArn != "" {
			return []error{errors.New("--hosted-zone-id, --zone-name and --certificate-arn need --domain")}
		}
		return nil
	}
	var found []error
	if !domainForm.MatchString(c.Domain) {
		found = append(found, fmt.Errorf("--domain %q: want a lower-case host name", c.Domain))
	}
	if c.HostedZoneID == "" && c.CertificateArn == "" {
		found = append(found, errors.New("--domain needs --hosted-zone-id and --zone-name, or --certificate-arn when the DNS is not in Route53"))
	}
	if c.HostedZoneID != "" && !zoneIDForm.MatchString(c.HostedZoneID) {
		found = append(found, fmt.Errorf("--hosted-zone-id %q: want up to 32 capital letters and digits", c.HostedZoneID))
	}
	if (c.HostedZoneID == "") != (c.ZoneName == "") {
		found = append(found, errors.New("--hosted-zone-id and --zone-name go together: the zone's name is not guessed from the domain"))
	}
	if c.ZoneName != "" && c.Domain != c.ZoneName && !strings.HasSuffix(c.Domain, "."+c.ZoneName) {
		found = append(found, fmt.Errorf("--domain %s is not in --zone-name %s", c.Domain, c.ZoneName))
	}
	if c.CertificateArn != "" && !strings.HasPrefix(c.CertificateArn, "arn:aws:acm:us-east-1:") {
		found = append(found, fmt.Errorf("--certificate-arn %q: CloudFront takes certificates from us-east-1 only", c.CertificateArn))
	}
	return found
}

func (c Config) publisherErrors() []error {
	var found []error
	names, roles := map[string]bool{}, map[string]bool{}
	for _, p := range c.Publishers {
		if err := p.validate(); err != nil {
			found = append(found, fmt.Errorf("publisher %s: %w", p.Name, err))
		}
		if names[p.Name] {
			found = append(found, fmt.Errorf("publisher %s: named twice", p.Name))
		}
		if roles[p.Role] {
			found = append(found, fmt.Errorf("publisher %s: role %s belongs to another publisher", p.Name, p.Role))
		}
		names[p.Name], roles[p.Role] = true, true
		if other := c.publishesBeside(p); other != "" {
			found = append(found, fmt.Errorf("publisher %s: it can delete, and %s is that of publisher %s: a job that publishes could delete. "+
				"Give it another (--maintain-environment, or environment= of a --publisher), or none", p.Name, p.place(), other))
		}
	}
	return append(append(found, c.promotionErrors()...), c.nameErrors()...)
}

// promotionErrors refuses publishers that could do without the one that promotes what they
// publish: those whose role, or whose jobs, may write where it writes.
func (c Config) promotionErrors() []error {
	var found []error
	for _, m := range c.Publishers {
		for _, p := range c.Publishers {
			switch {
			case p.Access != Publish || !overlap(m.From, p.prefixes()):
			case overlap(m.prefixes(), p.prefixes()):
				found = append(found, fmt.Errorf("publisher %s: it may write both what publisher %s promotes and where that goes: "+
					"give it the prefix of staging alone (--prefix, or prefix= of a --publisher)", p.Name, m.Name))
			case sharesJobs(m, p):
				found = append(found, fmt.Errorf("publisher %s: %s is that of publisher %s, whose packages it promotes: a job that publishes could promote. "+
					"Give it another environment=", m.Name, m.place(), p.Name))
			}
		}
	}
	return found
}

// sharesJobs reports whether jobs that may assume the role of p could assume that of m, because
// both are tied to the same place.
func sharesJobs(m, p Publisher) bool {
	sameRepo := strings.EqualFold(p.Owner, m.Owner) && strings.EqualFold(p.Repo, m.Repo)
	ownWorkflow := m.Workflow != "" && m.Workflow != p.Workflow && !strings.ContainsAny(m.Workflow, "*?")
	return sameRepo && !ownWorkflow && m.place() != "" && strings.EqualFold(p.place(), m.place())
}

// publishesBeside is the publisher whose jobs could assume the role of m, which can delete,
// because both are tied to the same place. Empty: there is none.
func (c Config) publishesBeside(m Publisher) string {
	if m.Access != Maintain {
		return ""
	}
	for _, p := range c.Publishers {
		if p.Access == Publish && sharesJobs(m, p) {
			return p.Name
		}
	}
	return ""
}

// roleOwners are the parts of the stack that have roles of their own, by the roles' construct
// ids: no publisher's role can bear one of them beside.
func (c Config) roleOwners() map[string]string {
	taken := map[string]string{
		"GitHubActionsRole": "the first publisher",
		"GithubActionsRole": "the first publisher", // whose output is one with the other in a shell
	}
	if c.IndexerQueue {
		taken["IndexerRole"] = "--indexer-queue"
	}
	if c.ReplicaRegion != "" {
		taken["ReplicationRole"] = "--replica-region"
	}
	if c.Deployer != nil {
		taken["InfraDeployRole"], taken["InfraDiffRole"] = "--deployer", "--deployer"
	}
	return taken
}

// nameErrors refuses publishers whose roles would share a name in the template.
func (c Config) nameErrors() []error {
	var found []error
	ids, owners := map[string]string{}, c.roleOwners()
	for i, p := range c.Publishers {
		if i == 0 {
			continue // whose names do not follow from its own
		}
		id := roleID(p)
		if who, ok := owners[id]; ok {
			found = append(found, fmt.Errorf("publisher %s: the name is taken by the role of %s: give it another name=", p.Name, who))
		}
		if other, ok := ids[id]; ok && other != p.Name {
			found = append(found, fmt.Errorf("publisher %s: its role would have the same name in the stack as that of publisher %s: give it another name=", p.Name, other))
		}
		ids[id] = p.Name
	}
	return found
}

// Warnings says what is allowed and should not be chosen lightly.
func (c Config) Warnings() []string {
	var found []string
	for _, p := range c.Publishers {
		found = append(found, p.warnings()...)
	}
	if w := c.alarmWarning(); w != "" {
		found = append(found, w)
	}
	return found
}

// alarmWarning says that the alarms reach nobody, unless that was chosen.
func (c Config) alarmWarning() string {
	if !c.Alarms || c.AlarmEmail != "" || slices.Equal(c.Settings["alarm-email"], []string{"none"}) {
		return ""
	}
	return "the alarms are on and reach nobody: give --alarm-email ADDRESS, or --alarm-email none when looking at the console is enough"
}
