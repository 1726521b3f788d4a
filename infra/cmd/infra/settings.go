package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

// settings are the flags that describe the stack. Each can also be an environment
// variable (--zone-name is SPACK_CACHE_ZONE_NAME), a value of cdk's context
// (-c zone-name=...) and a line of the file named by --config; the first that speaks
// wins, in this order.
type settings struct {
	flags *pflag.FlagSet

	config                                      string
	stackName, account, suffix, bucketName      string
	namePrefix                                  string
	existingBucket                              string
	boundary                                    string
	options                                     infra.Options
	deployer                                    string
	region                                      string
	domain, hostedZoneID, zoneName, certificate string
	queryStrings, priceClass, wafArn            string
	originShield                                bool
	noncurrentDays, abortUploadDays, logDays    int
	intelligentTiering, immutablePackages       bool
	oidcProvider, manualUser                    string
	cloudTrail, alarms                          bool
	alarmEmail                                  string
	monthlyBudget                               int
	protect                                     bool
	githubOrg, githubRepo, ownerID, repoID      string
	environment, ref, workflow, roleName        string
	prefixes, publishers                        []string
	trustAnyRef                                 bool
	sessionHours                                int
	maintainEnvironment                         string
	indexerQueue                                bool
	indexerTrust                                []string
}

// newSettings declares the flags with the defaults of infra.Default.
func newSettings() *settings {
	d := infra.Default()
	p := d.Publishers[0]
	s := &settings{flags: pflag.NewFlagSet("stack", pflag.ContinueOnError)}
	f := s.flags
	f.StringVar(&s.config, "config", "", "YAML `file` with any of these settings, one per line, such as domain: cache.example.com")
	f.StringVar(&s.stackName, "stack-name", d.StackName, "`name` of the CloudFormation stack")
	f.StringVar(&s.namePrefix, "name-prefix", "", "`prefix` of the names of a second deployment in the account, such as staging; the stack's becomes staging-"+d.StackName)
	f.StringVar(&s.account, "account", "", "AWS account `id` (default: of the current credentials; synth needs it, --suffix or --bucket-name)")
	f.StringVar(&s.region, "region", infra.Region, "AWS region; CloudFront's certificates, logs and metrics allow only this one")
	f.StringVar(&s.suffix, "suffix", "", "end of the bucket's name (default: five hex digits that follow from the account)")
	f.StringVar(&s.bucketName, "bucket-name", "", "whole `name` of the bucket (default slurm-factory-spack-buildcache-SUFFIX)")
	f.StringVar(&s.existingBucket, "existing-bucket", "", "`name` of a bucket of the account that the stack takes over; deploy refuses when it is not there")
	f.StringVar(&s.domain, "domain", "", "public host `name` of the cache (default: CloudFront's own)")
	f.StringVar(&s.hostedZoneID, "hosted-zone-id", "", "Route53 zone `id` that gets the domain's records and validates its certificate")
	f.StringVar(&s.zoneName, "zone-name", "", "`name` of that zone; deploy, diff and destroy look it up, synth needs it")
	f.StringVar(&s.certificate, "certificate-arn", "", "existing certificate in us-east-1 instead of a new one (`ARN`)")
	f.StringVar(&s.queryStrings, "query-strings", string(d.QueryStrings), "`what` of a query string reaches S3 and the cache key: none, listing or all")
	f.StringVar(&s.priceClass, "price-class", d.PriceClass, "CloudFront edge locations: 100 (US, Canada, Europe, Israel), 200 or All")
	f.BoolVar(&s.originShield, "origin-shield", false, "one more cache layer before the bucket (paid)")
	f.StringVar(&s.wafArn, "waf-arn", "", "WAFv2 web ACL of scope CLOUDFRONT (`ARN`)")
	f.IntVar(&s.noncurrentDays, "noncurrent-days", d.NoncurrentDays, "`days` for which overwritten and deleted objects can be restored")
	f.IntVar(&s.abortUploadDays, "abort-upload-days", d.AbortUploadDays, "`days` for which an unfinished multipart upload can be resumed")
	f.IntVar(&s.logDays, "log-days", d.LogDays, "`days` for which access logs are kept")
	f.BoolVar(&s.intelligentTiering, "intelligent-tiering", false, "let S3 move what nobody reads to cheaper storage")
	f.BoolVar(&s.immutablePackages, "immutable-packages", false, "S3 refuses to overwrite a package's bytes, and to replace any object unseen, for every client (except --manual-user with MFA)")
	f.StringVar(&s.oidcProvider, "oidc-provider-arn", "", "the account's existing OIDC provider for GitHub (`ARN`; default: the stack makes it)")
	f.StringVar(&s.manualUser, "manual-user", "", "IAM user `name` for manual uploads and emergencies (default: none)")
	f.StringVar(&s.boundary, "permissions-boundary", "", "`name` of a managed policy of the account that bounds every role and user of the stack")
	f.BoolVar(&s.cloudTrail, "cloudtrail", false, "record every write to the bucket with CloudTrail (paid)")
	f.BoolVar(&s.alarms, "alarms", d.Alarms, "paid metrics, the alarms on them and the dashboard")
	f.StringVar(&s.alarmEmail, "alarm-email", "", "`address` that receives the alarms and the budget's warnings")
	f.IntVar(&s.monthlyBudget, "monthly-budget", 0, "warn when the cache's services cost more `dollars` a month (0: never)")
	f.BoolVar(&s.protect, "protect", d.Protect, "protect the stack from being deleted, and what readers and publishers depend on from being replaced (with --name-prefix, default false)")
	f.StringVar(&s.githubOrg, "github-org", p.Owner, "GitHub organisation or user that owns the publishing repository")
	f.StringVar(&s.githubRepo, "github-repo", p.Repo, "the publishing repository")
	f.StringVar(&s.ownerID, "github-owner-id", "", "`number` of the owner: gh api repos/O/R --jq .owner.id")
	f.StringVar(&s.repoID, "github-repo-id", "", "`number` of the repository: gh api repos/O/R --jq .id")
	f.StringVar(&s.environment, "environment", p.Environment, "GitHub environment that a publishing job must run in (none: scope by --ref)")
	f.StringVar(&s.ref, "ref", "", "git `ref` of the publishing run, such as refs/heads/main or refs/tags/v*; alone it replaces --environment")
	f.StringVar(&s.workflow, "workflow", "", "job_workflow_ref that must match, such as o/r/.github/workflows/publish.yml@refs/heads/main")
	f.StringVar(&s.roleName, "role-name", p.Role, "`name` of the publishing role")
	f.StringSliceVar(&s.prefixes, "prefix", nil, "part of the bucket that the publishing role reaches, ending in / (repeat; default: all of it)")
	f.BoolVar(&s.trustAnyRef, "trust-any-ref", false, "trust every run of the repository: any branch, tag, pull request, environment")
	f.IntVar(&s.sessionHours, "session-hours", int(p.Session/time.Hour), "longest session of the roles, 1 to 12 `hours`")
	f.StringVar(&s.maintainEnvironment, "maintain-environment", d.Publishers[1].Environment, "GitHub environment for the role that may delete (none: no such role)")
	f.BoolVar(&s.indexerQueue, "indexer-queue", false, "S3 tells a queue what is stored, for hosts that run publish indexer; with its alarms and their role")
	f.StringSliceVar(&s.indexerTrust, "indexer-trust", d.IndexerTrust, "`who` may assume that role: ec2, ecs, or the ARN of a role, a user or an account's root (repeat)")
	o := &s.options
	f.StringArrayVar(&o.Tags, "tag", nil, "tag of every resource, as `KEY=VALUE` (repeat)")
	f.BoolVar(&o.Inventory, "inventory", false, "S3 lists all objects and versions into the log bucket every week (paid)")
	f.BoolVar(&o.Athena, "athena", false, "tables over the access logs for Athena, and saved queries (queries are paid)")
	f.IntVar(&o.LockLogDays, "lock-log-days", 0, "`days` for which nobody can delete the records of --cloudtrail: Object Lock in a bucket of their own (0: not locked)")
	f.StringVar(&o.LockLogMode, "lock-log-mode", d.LockLogMode, "`mode` of that lock: governance, or compliance, which nobody can lift")
	f.IntVar(&o.CertificateDays, "certificate-days", 0, "alarm when the certificate ends within so many `days`, 1 to 60 (0: none)")
	f.IntVar(&o.CostAnomaly, "cost-anomaly", 0, "warn of unusual costs of the stack of so many `dollars` (0: never)")
	f.BoolVar(&o.CacheTags, "cache-tags", false, "CloudFront reads tags from the metadata cache-tag of objects, for invalidations by tag")
	f.StringVar(&o.ReplicaRegion, "replica-region", "", "second `region` with a copy of the cache, from which CloudFront reads when S3 fails in the first (paid)")
	f.StringVar(&o.SigningKey, "signing-key", "", "`key` in KMS with which the publishing role may sign: new, which the stack makes and keeps (paid), or the ARN of one in "+infra.Region)
	f.StringVar(&s.deployer, "deployer", "", "repository whose workflow deploys this stack, as `repo=O/R,owner-id=N,repo-id=N`, and environment=NAME (default infrastructure)")
	f.StringArrayVar(&s.publishers, "publisher", nil,
		"one more role, as `key=value,...` (repeat): name, repo, repo-id, owner-id, environment, ref, workflow, prefix (repeat), from (repeat), access=read|publish|maintain, pull-requests=true, sign=true, expire-days, session-hours")
	takeBack(f)
	return s
}

// aliases are names of the Python stack's variables, and CDK's own.
var aliases = map[string]string{
	"account":        "CDK_DEFAULT_ACCOUNT",
	"github-org":     "CDK_GITHUB_ORG",
	"github-repo":    "CDK_GITHUB_REPO",
	"domain":         "CDK_DOMAIN_NAME",
	"hosted-zone-id": "CDK_HOSTED_ZONE_ID",
}

// fill gives every flag that the command line left alone its value from elsewhere.
func (s *settings) fill(getenv func(string) string) error {
	context, err := cdkContext(getenv)
	if err != nil {
		return err
	}
	elsewhere := []func(name string) ([]string, string){
		func(name string) ([]string, string) {
			return single(getenv(variable(name))), variable(name)
		},
		func(name string) ([]string, string) { return context[name], "context " + name },
		func(name string) ([]string, string) { return single(getenv(aliases[name])), aliases[name] },
	}
	if err := s.take("config", elsewhere); err != nil {
		return err
	}
	if s.config != "" {
		file, err := readConfig(s.config, s.flags)
		if err != nil {
			return err
		}
		from := func(name string) ([]string, string) { return file[name], s.config }
		// What cdk knows of the account is a default, not a choice: it comes after.
		elsewhere = append(elsewhere[:2:2], from, elsewhere[2])
	}
	found := []error{s.take("domain", elsewhere)}
	s.flags.VisitAll(func(f *pflag.Flag) {
		// --domain none beside a file takes the file's zone and certificate along.
		if slices.Contains(belongs[f.Name], "domain") && s.flags.Changed("domain") && orNone(s.domain) == "" {
			return
		}
		found = append(found, s.take(f.Name, elsewhere))
	})
	return errors.Join(found...)
}

// variable is the environment variable of a setting.
func variable(name string) string {
	return "SPACK_CACHE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// settingsTable lists every setting, in Markdown.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| setting | variable | default | meaning |\n|---|---|---|---|\n")
	newSettings().flags.VisitAll(func(f *pflag.Flag) {
		kind, meaning := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if kind != "" {
			name += " " + kind
		}
		byDefault := f.DefValue
		if byDefault == "" || byDefault == "[]" {
			byDefault = " "
		} else {
			byDefault = "`" + byDefault + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", name, variable(f.Name), byDefault, strings.ReplaceAll(meaning, "|", "\\|"))
	})
	return b.String()
}

// take sets one flag from the first place that knows it.
func (s *settings) take(name string, elsewhere []func(string) ([]string, string)) error {
	if s.flags.Changed(name) {
		return nil
	}
	for _, look := range elsewhere {
		values, place := look(name)
		if len(values) == 0 {
			continue
		}
		if err := s.set(name, values); err != nil {
			return fmt.Errorf("%s: --%s: %w", place, name, err)
		}
		return nil
	}
	return nil
}

// set gives a flag its value, or all its values when it is a list.
func (s *settings) set(name string, values []string) error {
	f := s.flags.Lookup(name)
	if _, isList := f.Value.(pflag.SliceValue); !isList && len(values) > 1 {
		return fmt.Errorf("has %d values, %s, and takes one", len(values), strings.Join(values, " and "))
	}
	for _, v := range values {
		if err := s.flags.Set(name, v); err != nil {
			if want := kinds[f.Value.Type()]; want != "" {
				return fmt.Errorf("%q: want %s, or %s for the default", v, want, none)
			}
			return err
		}
	}
	return nil
}

func single(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// stack is the configuration that the settings describe.
func (s *settings) stack() (infra.Config, error) {
	c := infra.Default()
	if s.region != infra.Region {
		return c, fmt.Errorf("--region %s: the stack lives in %s, the only region from which CloudFront takes certificates, logs and metrics", s.region, infra.Region)
	}
	c.StackName, c.NamePrefix, c.Account = s.nameOfStack(), orNone(s.namePrefix), s.account
	c.Suffix, c.BucketName = orNone(s.suffix), orNone(s.bucketName)
	if existing := orNone(s.existingBucket); existing != "" {
		if c.BucketName != "" || c.Suffix != "" {
			return c, errors.New("--existing-bucket is the whole name: leave out --bucket-name and --suffix")
		}
		c.BucketName = existing
	}
	c.Domain, c.HostedZoneID, c.ZoneName, c.CertificateArn = orNone(s.domain), orNone(s.hostedZoneID), orNone(s.zoneName), orNone(s.certificate)
	c.QueryStrings, c.PriceClass = infra.QueryStrings(s.queryStrings), s.priceClass
	c.OriginShield, c.WebACLArn = s.originShield, orNone(s.wafArn)
	c.NoncurrentDays, c.AbortUploadDays, c.LogDays = s.noncurrentDays, s.abortUploadDays, s.logDays
	c.IntelligentTiering, c.ImmutablePackages = s.intelligentTiering, s.immutablePackages
	c.OIDCProviderArn, c.ManualUser, c.PermissionsBoundary = orNone(s.oidcProvider), orNone(s.manualUser), orNone(s.boundary)
	c.CloudTrail, c.Alarms, c.AlarmEmail, c.MonthlyBudget = s.cloudTrail, s.alarms, orNone(s.alarmEmail), s.monthlyBudget
	c.IndexerQueue = s.indexerQueue
	if trust := listOrNone(s.indexerTrust); trust != nil {
		c.IndexerTrust = trust
	}
	c.Protect, c.Settings = s.protect, s.spoken()
	if c.NamePrefix != "" && !s.given("protect") {
		c.Protect = false // production is the deployment without a prefix
	}
	c.Options = s.options
	c.Tags, c.ReplicaRegion, c.SigningKey = listOrNone(s.options.Tags), orNone(s.options.ReplicaRegion), orNone(s.options.SigningKey)
	// Before it is multiplied: so many hours could overflow into a valid duration.
	if s.sessionHours < 1 || s.sessionHours > 12 {
		return c, fmt.Errorf("--session-hours %d: IAM allows 1 to 12", s.sessionHours)
	}
	if text := orNone(s.deployer); text != "" {
		p, err := parseDeployer(text)
		if err != nil {
			return c, fmt.Errorf("--deployer %s: %w", text, err)
		}
		p.Role, c.Deployer = c.DeployRole(), &p
	}
	c.Publishers = s.mainPublishers()
	for _, text := range listOrNone(s.publishers) {
		p, err := s.parsePublisher(text)
		if err != nil {
			return c, fmt.Errorf("--publisher %s: %w", text, err)
		}
		c.Publishers = append(c.Publishers, p)
	}
	return c, nil
}

// nameOfStack is the given name, or the default one with the prefix.
func (s *settings) nameOfStack() string {
	if s.given("stack-name") {
		return s.stackName
	}
	return s.prefixed(s.stackName)
}

func (s *settings) prefixed(name string) string {
	return infra.Config{NamePrefix: orNone(s.namePrefix)}.Prefixed(name)
}

// mainPublishers are the default publisher and, unless turned off, its maintainer.
func (s *settings) mainPublishers() []infra.Publisher {
	p := infra.Default().Publishers[0]
	p.Role = s.roleName
	if !s.given("role-name") {
		p.Role = s.prefixed(s.roleName)
	}
	p.Owner, p.Repo, p.OwnerID, p.RepoID = s.githubOrg, s.githubRepo, orNone(s.ownerID), orNone(s.repoID)
	p.Environment, p.Ref, p.Workflow = orNone(s.environment), orNone(s.ref), orNone(s.workflow)
	p.AnyRef, p.Prefixes = s.trustAnyRef, listOrNone(s.prefixes)
	p.Session = time.Duration(s.sessionHours) * time.Hour
	if !s.flags.Changed("environment") && (p.Ref != "" || s.trustAnyRef) {
		p.Environment = ""
	}
	all := []infra.Publisher{p}
	if orNone(s.maintainEnvironment) != "" {
		m := p
		d := infra.Default().Publishers[1]
		m.Name, m.Role, m.Access, m.Environment = d.Name, s.prefixed(d.Role), d.Access, s.maintainEnvironment
		m.AnyRef, m.Ref, m.Workflow = false, "", ""
		all = append(all, m)
	}
	return all
}

// parsePublisher reads one --publisher. What it leaves out is the main one's.
func (s *settings) parsePublisher(text string) (infra.Publisher, error) {
	p := infra.Publisher{
		Owner: s.githubOrg, Repo: s.githubRepo, OwnerID: orNone(s.ownerID), RepoID: orNone(s.repoID),
		Access: infra.Publish, Session: time.Duration(s.sessionHours) * time.Hour,
	}
	if strings.Contains(","+text, ",repo=") {
		// Another repository has other numbers.
		p.OwnerID, p.RepoID = "", ""
	}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return p, fmt.Errorf("%q is not key=value", part)
		}
		if err := setPublisher(&p, key, value); err != nil {
			return p, err
		}
	}
	if p.Role == "" {
		p.Role = s.prefixed("slurm-factory-" + p.Name)
	}
	return p, nil
}

// parseDeployer reads --deployer. Its roles only read and hand over.
func parseDeployer(text string) (infra.Publisher, error) {
	p := infra.Publisher{Name: "deployer", Environment: "infrastructure", Access: infra.Read, Session: time.Hour}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		switch {
		case !ok:
			return p, fmt.Errorf("%q is not key=value", part)
		case !slices.Contains([]string{"repo", "owner-id", "repo-id", "environment", "ref", "workflow"}, key):
			return p, fmt.Errorf("%q is no key of a deployer", key)
		}
		if err := setPublisher(&p, key, value); err != nil {
			return p, err
		}
	}
	return p, nil
}

func setPublisher(p *infra.Publisher, key, value string) (err error) {
	switch key {
	case "name":
		p.Name = value
	case "role":
		p.Role = value
	case "repo":
		p.Owner, p.Repo, _ = strings.Cut(value, "/")
	case "owner-id":
		p.OwnerID = value
	case "repo-id":
		p.RepoID = value
	case "environment":
		p.Environment = value
	case "ref":
		p.Ref = value
	case "workflow":
		p.Workflow = value
	case "prefix":
		p.Prefixes = append(p.Prefixes, value)
	case "from":
		p.From = append(p.From, value)
	case "access":
		p.Access = infra.Access(value)
	case "sign":
		p.Signs, err = strconv.ParseBool(value)
	case "pull-requests":
		p.PullRequests, err = strconv.ParseBool(value)
	case "expire-days":
		p.ExpireDays, err = strconv.Atoi(value)
	case "session-hours":
		hours, wrong := strconv.Atoi(value)
		if p.Session, err = time.Duration(hours)*time.Hour, wrong; err == nil && (hours < 1 || hours > 12) {
			err = errors.New("IAM allows 1 to 12 hours")
		}
	default:
		return fmt.Errorf("%q is no key of a publisher", key)
	}
	if errors.Is(err, strconv.ErrSyntax) || errors.Is(err, strconv.ErrRange) {
		kind := map[bool]string{true: "bool", false: "int"}[key == "pull-requests" || key == "sign"]
		err = errors.New("want " + kinds[kind])
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return nil
}
