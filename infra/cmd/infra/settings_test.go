package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// configured is the configuration of a command line, an environment and a file.
func configured(t *testing.T, args []string, env map[string]string, file string) (infra.Config, error) {
	t.Helper()
	s := newSettings()
	if file != "" {
		path := filepath.Join(t.TempDir(), "infra.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := s.flags.Parse(args); err != nil {
		return infra.Config{}, err
	}
	if err := s.fill(func(k string) string { return env[k] }); err != nil {
		return infra.Config{}, err
	}
	return s.stack()
}

func must(t *testing.T, args []string, env map[string]string, file string) infra.Config {
	t.Helper()
	c, err := configured(t, args, env, file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNoSettingsIsTheDefault: the flags' defaults are infra.Default and nothing else.
func TestNoSettingsIsTheDefault(t *testing.T) {
	got, want := must(t, nil, nil, ""), infra.Default()
	if len(got.Publishers) != len(want.Publishers) {
		t.Fatalf("%d publishers, want %d", len(got.Publishers), len(want.Publishers))
	}
	for i := range want.Publishers {
		g, w := got.Publishers[i], want.Publishers[i]
		if g.Name != w.Name || g.Role != w.Role || g.Environment != w.Environment || g.Access != w.Access || g.Session != w.Session {
			t.Errorf("publisher %+v, want %+v", g, w)
		}
	}
	if got.StackName != want.StackName || got.PriceClass != want.PriceClass || got.Alarms != want.Alarms || got.NoncurrentDays != want.NoncurrentDays {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestWhoSpeaksFirstWins(t *testing.T) {
	file := "domain: file.example.com\nsuffix: file\nzone-name: file.example\naccount: 111111111111\n"
	env := map[string]string{
		"SPACK_CACHE_DOMAIN":  "env.example.com",
		"CDK_DOMAIN_NAME":     "python.example.com",
		"CDK_HOSTED_ZONE_ID":  "ZPYTHON",
		"CDK_DEFAULT_ACCOUNT": "999999999999",
		"CDK_CONTEXT_JSON":    `{"suffix": "context", "domain": "context.example.com", "aws:cdk:enable-path-metadata": true}`,
	}
	c := must(t, nil, env, file)
	for _, row := range [][3]string{
		{"variable over context, file and alias", c.Domain, "env.example.com"},
		{"context over file", c.Suffix, "context"},
		{"file", c.ZoneName, "file.example"},
		{"alias of the Python stack", c.HostedZoneID, "ZPYTHON"},
		{"file over what cdk found", c.Account, "111111111111"},
		{"flag over all", must(t, []string{"--domain", "flag.example.com"}, env, file).Domain, "flag.example.com"},
		{"alias without a file", must(t, nil, env, "").Account, "999999999999"},
		{"config named by a variable", must(t, nil, map[string]string{"SPACK_CACHE_CONFIG": "../../vantage.yaml"}, "").Suffix, "4b670"},
		{"config named by the context", must(t, nil, map[string]string{"CDK_CONTEXT_JSON": `{"config": "../../vantage.yaml"}`}, "").ManualUser, "james"},
	} {
		if row[1] != row[2] {
			t.Errorf("%s: %q, want %q", row[0], row[1], row[2])
		}
	}
}

func TestEverySettingInAFile(t *testing.T) {
	c := must(t, nil, nil, `
suffix: "00012"
alarms: false
session-hours: 4
prefix: [slurm/, noble/spack/]
publisher:
  - name=pr,pull-requests=true,prefix=pr/,expire-days=14
  - name=other,repo=o/r,repo-id=2,owner-id=1,ref=refs/heads/main,access=read,session-hours=1
  - name=promote,environment=production,from=staging/,prefix=prod/
`)
	if c.Suffix != "00012" || c.Alarms || c.Publishers[0].Session != 4*time.Hour || !slices.Equal(c.Publishers[0].Prefixes, []string{"slurm/", "noble/spack/"}) {
		t.Errorf("%+v", c)
	}
	if len(c.Publishers) != 5 {
		t.Fatalf("%d publishers", len(c.Publishers))
	}
	if p := c.Publishers[4]; !slices.Equal(p.From, []string{"staging/"}) || !slices.Equal(p.Prefixes, []string{"prod/"}) || p.Access != infra.Publish {
		t.Errorf("%+v", p)
	}
	pr, other := c.Publishers[2], c.Publishers[3]
	if !pr.PullRequests || pr.ExpireDays != 14 || pr.Role != "slurm-factory-pr" || pr.Repo != "slurm-factory" || pr.Session != 4*time.Hour {
		t.Errorf("%+v", pr)
	}
	if other.Owner != "o" || other.Repo != "r" || other.RepoID != "2" || other.OwnerID != "1" || other.Access != infra.Read || other.Session != time.Hour {
		t.Errorf("%+v", other)
	}
}

// TestAnUnquotedNumberKeepsItsDigits: an account that begins with 0 is no octal number.
func TestAnUnquotedNumberKeepsItsDigits(t *testing.T) {
	if c := must(t, nil, nil, "account: 012345678901\n"); c.Account != "012345678901" {
		t.Errorf("account %s", c.Account)
	}
}

// TestNoDomainTakesTheZoneAlong: a second deployment from the file of the first needs no
// more than --domain none. What the command line itself contradicts is still refused.
func TestNoDomainTakesTheZoneAlong(t *testing.T) {
	const file = "domain: cache.example.com\nhosted-zone-id: Z1\nzone-name: example.com\ncertificate-arn: arn:aws:acm:us-east-1:123456789012:certificate/1\nsuffix: a\n"
	for name, c := range map[string]infra.Config{
		"flag":     must(t, []string{"--domain", "none"}, nil, file),
		"variable": must(t, nil, map[string]string{"SPACK_CACHE_DOMAIN": "none"}, file),
	} {
		if c.Domain != "" || c.HostedZoneID != "" || c.ZoneName != "" || c.CertificateArn != "" {
			t.Errorf("%s: %+v", name, c)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := must(t, []string{"--domain", "none", "--hosted-zone-id", "Z1"}, nil, file).Validate(); err == nil {
		t.Error("a zone without a domain was accepted")
	}
	if c := must(t, nil, nil, file); c.HostedZoneID != "Z1" || c.Domain != "cache.example.com" {
		t.Errorf("the file alone: %+v", c)
	}
}

// TestKeysAndTextsMayBeQuoted: what YAML takes for nothing is a text in quotes.
func TestKeysAndTextsMayBeQuoted(t *testing.T) {
	c := must(t, nil, nil, "\"manual-user\": \"null\"\n'suffix': '007'\n")
	if c.ManualUser != "null" || c.Suffix != "007" {
		t.Errorf("%q %q", c.ManualUser, c.Suffix)
	}
}

func TestFileErrorsNameTheLine(t *testing.T) {
	for file, want := range map[string]string{
		"suffix: a\ndomian: x\n": "infra.yaml:2: domian is no setting",
		"config: other.yaml\n":   "infra.yaml:1: config is no setting",
		"suffix: {a: b}\n":       "infra.yaml:1: suffix: want a value",
		// None of these becomes a user called null, or one of two answers.
		"suffix: a\nmanual-user:\n": "infra.yaml:2: manual-user: has no value; none takes a setting back",
		"manual-user: ~\n":          "infra.yaml:1: manual-user: has no value",
		"manual-user: null\n":       "infra.yaml:1: manual-user: has no value",
		"publisher: []\n":           "infra.yaml:1: publisher: has no value",
		"tag: [a=b, ~]\n":           "infra.yaml:1: tag: has no value",
		"alarms: [true, false]\n":   "--alarms: has 2 values, true and false, and takes one",
		"alarms: maybe\n":           `infra.yaml: --alarms: "maybe": want true or false`,
		"monthly-budget: 1e3\n":     `infra.yaml: --monthly-budget: "1e3": want a whole number`,
		"- suffix\n":                "want lines of the form key: value",
		"suffix: [\n":               "infra.yaml",
	} {
		if _, err := configured(t, nil, nil, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
	if _, err := configured(t, []string{"--config", "no-such-file"}, nil, ""); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestScopes(t *testing.T) {
	publisher := func(args ...string) infra.Publisher { return must(t, args, nil, "").Publishers[0] }
	if p := publisher("--ref", "refs/heads/main"); p.Environment != "" || p.Ref != "refs/heads/main" {
		t.Errorf("--ref alone replaces the environment: %+v", p)
	}
	if p := publisher("--ref", "refs/heads/main", "--environment", "release"); p.Environment != "release" || p.Ref != "refs/heads/main" {
		t.Errorf("both: %+v", p)
	}
	if p := publisher("--trust-any-ref"); p.Environment != "" || !p.AnyRef {
		t.Errorf("--trust-any-ref: %+v", p)
	}
	if c := must(t, []string{"--trust-any-ref"}, nil, ""); c.Publishers[1].AnyRef || c.Publishers[1].Environment != "maintenance" {
		t.Errorf("the maintainer must not trust any ref: %+v", c.Publishers[1])
	}
	if c := must(t, []string{"--maintain-environment", "none"}, nil, ""); len(c.Publishers) != 1 {
		t.Errorf("%d publishers, want no maintainer", len(c.Publishers))
	}
	p := must(t, []string{"--github-repo-id", "5", "--publisher", "repo-id=7,name=x,repo=o/r"}, nil, "").Publishers[2]
	if p.RepoID != "7" || p.Repo != "r" {
		t.Errorf("order of a publisher's keys: %+v", p)
	}
	if p := must(t, []string{"--github-repo-id", "5", "--publisher", "name=x,repo=o/r"}, nil, "").Publishers[2]; p.RepoID != "" {
		t.Errorf("another repository took over the number of the first: %+v", p)
	}
}

func TestExistingBucket(t *testing.T) {
	if c := must(t, []string{"--existing-bucket", "cache"}, nil, ""); c.Bucket() != "cache" {
		t.Errorf("bucket %s", c.Bucket())
	}
	if _, err := configured(t, []string{"--existing-bucket", "cache", "--suffix", "x"}, nil, ""); err == nil {
		t.Error("two names were accepted")
	}
}

// TestPermissionsOfOptions: the table is complete, whatever options add roles.
func TestPermissionsOfOptions(t *testing.T) {
	_, stdout, _ := try("permissions", "--account", "123456789012", "--replica-region", "eu-west-1", "--signing-key", "new", "--deployer", "repo=o/r,owner-id=1,repo-id=2")
	for _, want := range []string{"role `slurm-factory-infra-deploy`", "role `slurm-factory-infra-diff`", "`SlurmFactoryInfraStack-replication`", "`s3:ReplicateObject`",
		"| role `slurm-factory-github-actions` | `KEY` | `kms:Sign`",
		"repo:o@1/r@2:environment:infrastructure", "repo:o@1/r@2:pull_request"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if _, plain, _ := try("permissions", "--account", "123456789012"); strings.Contains(plain, "infra-deploy") || strings.Contains(plain, "replication") {
		t.Errorf("roles that are not there:\n%s", plain)
	}
}

func TestDeployer(t *testing.T) {
	if c := must(t, nil, nil, ""); c.Deployer != nil {
		t.Errorf("%+v", c.Deployer)
	}
	d := must(t, []string{"--deployer", "repo=o/r,owner-id=1,repo-id=2"}, nil, "").Deployer
	if d == nil || d.Owner != "o" || d.Repo != "r" || d.OwnerID != "1" || d.RepoID != "2" || d.Environment != "infrastructure" || d.Access != infra.Read {
		t.Errorf("%+v", d)
	}
	if d := must(t, []string{"--deployer", "repo=o/r,owner-id=1,repo-id=2,environment=prod"}, nil, "").Deployer; d.Environment != "prod" {
		t.Errorf("%+v", d)
	}
	for text, want := range map[string]string{"o/r": "is not key=value", "repo=o/r,access=maintain": `"access" is no key of a deployer`} {
		if _, err := configured(t, []string{"--deployer", text}, nil, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestBadPublishers(t *testing.T) {
	for text, want := range map[string]string{
		"slurm":                   "is not key=value",
		"name=a,colour=red":       `"colour" is no key`,
		"name=a,expire-days=soon": "expire-days=soon",
		"name=a,pull-requests=x":  "pull-requests=x",
		"name=a,session-hours=x":  "session-hours=x",
	} {
		if _, err := configured(t, []string{"--publisher", text}, nil, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// try runs a command line that needs neither Node nor an account.
func try(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	e := environment{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	code = run(context.Background(), args, e)
	return code, out.String(), errs.String()
}

func TestUsageErrors(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"synth", "--no-such-flag"}, "unknown flag"},
		{[]string{"deploy", "--domian", "x"}, "hint: infra deploy --help lists the flags"},
		{[]string{"synth", "extra"}, "infra synth takes no argument \"extra\""},
		{[]string{"deploy", "staging"}, "infra deploy takes no argument \"staging\"\nhint: settings are flags"},
		{[]string{"diff", "staging", "--", "--verbose"}, "infra diff takes no argument \"staging\""},
		{[]string{"drift", "staging"}, "infra drift takes no argument \"staging\""},
		{[]string{"bootstrap", "aws://123456789012/us-east-1"}, "arguments for cdk follow --"},
		{[]string{"fly"}, "unknown command \"fly\"\nhint: infra --help lists the commands"},
		{[]string{"deplyo"}, "hint: did you mean infra deploy?"},
		{[]string{"synth"}, "--account is needed"},
		{[]string{"synth", "--account", "123456789012", "--region", "eu-west-1"}, "the only region"},
		{[]string{"bootstrap", "--region", "eu-west-1"}, "us-east-1"},
		{[]string{"cost", "--hit-rate", "90"}, "want 0 to 1"},
		{[]string{"cost", "--hit-rate", "NaN"}, "want 0 to 1"},
		{[]string{"cost", "--storage-gb", "-5"}, "--storage-gb -5: want 0 or more"},
		{[]string{"cost", "--requests", "+Inf"}, "--requests"},
		{[]string{"cost", "--paths", "nan"}, "--paths"},
		{[]string{"synth", "--account", "123456789012", "--session-hours", "13"}, "--session-hours 13"},
		{[]string{"synth", "--account", "123456789012", "--session-hours", "5124095576030431"}, "IAM allows 1 to 12"},
		{[]string{"synth", "--account", "123456789012", "--publisher", "name=x,ref=refs/heads/m,session-hours=0"}, "session-hours=0"},
		{[]string{"synth", "--account", "123456789012", "--log-days", "0"}, "--log-days 0: want 1 to 36500"},
		{[]string{"synth", "--account", "123456789012", "--noncurrent-days", "40000"}, "--noncurrent-days 40000"},
	} {
		if code, _, stderr := try(row.args...); code != exitUsage || !strings.Contains(stderr, row.want) {
			t.Errorf("%v: exit code %d, %s", row.args, code, stderr)
		}
	}
}

func TestCost(t *testing.T) {
	code, stdout, stderr := try("cost", "--storage-gb", "500", "--traffic-gb", "2048", "--alarms=false")
	if code != 0 || !strings.Contains(stdout, "$11.50") || !strings.Contains(stdout, "$87.04") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if strings.Contains(stdout, "CloudFront metrics") {
		t.Errorf("--alarms=false is charged for metrics:\n%s", stdout)
	}
	if code, stdout, _ := try("cost", "--json"); code != 0 || !strings.Contains(stdout, `"total":`) {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
}

func TestPermissions(t *testing.T) {
	code, stdout, _ := try("permissions", "--account", "123456789012", "--manual-user", "james")
	for _, want := range []string{"role `slurm-factory-github-actions`", "`s3:DeleteObject`", "user `james`", "environment:release"} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, stdout)
		}
	}
}

// TestPolicy prints JSON that IAM takes, and nothing without the names that it needs.
func TestPolicy(t *testing.T) {
	code, stdout, stderr := try("policy", "execution", "--account", "123456789012", "--permissions-boundary", "cache-boundary")
	d, err := policy.Parse([]byte(stdout))
	if code != 0 || err != nil || len(d.Statement) < 5 || !strings.Contains(stdout, "policy/cache-boundary") {
		t.Errorf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"policy"}, "want one name of a policy: boundary or execution"},
		{[]string{"policy", "admin", "--account", "123456789012"}, `policy "admin": want boundary or execution`},
		{[]string{"policy", "execution", "--suffix", "x"}, "--account is needed"},
	} {
		if code, _, stderr := try(row.args...); code != exitUsage || !strings.Contains(stderr, row.want) {
			t.Errorf("%v: exit code %d, %s", row.args, code, stderr)
		}
	}
}

func TestRecent(t *testing.T) {
	for version, want := range map[string]bool{
		pinned: true, "2.1148.2": true, "2.1200.0": true, "2.1148.0": false, "2.1147.9": false, "3.0.0": false, "1.204.0": false, "2.1148": false, "": false, "2.x.1": false,
	} {
		if recent(version) != want {
			t.Errorf("%q: %v", version, !want)
		}
	}
}

// TestPinnedIsWhatNpmInstalls compares with package.json.
func TestPinnedIsWhatNpmInstalls(t *testing.T) {
	for _, file := range []string{"../../package.json", "../../package-lock.json"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(`"aws-cdk": "`+pinned+`"`)) {
			t.Errorf("%s does not pin aws-cdk %s", file, pinned)
		}
		if bytes.Contains(b, []byte("resolved")) {
			t.Errorf("%s names the registry that it was written with", file)
		}
	}
}

func TestCDKExitCodePasses(t *testing.T) {
	script := filepath.Join(t.TempDir(), "cdk")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = --version ] && { echo '"+pinned+" (build x)'; exit; }\necho \"$@\"\nexit 42\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := try("bootstrap", "--account", "123456789012", "--cdk", script, "--profile", "p", "--", "--verbose")
	if code != 42 || strings.TrimSpace(stdout) != "--no-notices bootstrap aws://123456789012/us-east-1 --verbose --profile p" {
		t.Errorf("exit code %d, cdk %s", code, stdout)
	}
}

func TestOldCDKIsRefused(t *testing.T) {
	script := filepath.Join(t.TempDir(), "cdk")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho '3.0.0 (build x)'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := try("bootstrap", "--account", "123456789012", "--cdk", script)
	if code != exitFailed || !strings.Contains(stderr, "is version 3.0.0") || !strings.Contains(stderr, "npm ci") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestSnake(t *testing.T) {
	for name, want := range map[string]string{
		"BucketName": "BUCKET_NAME", "PublicUrl": "PUBLIC_URL", "GitHubActionsRoleArn": "GITHUB_ACTIONS_ROLE_ARN", "DryRunRoleArn": "DRY_RUN_ROLE_ARN",
	} {
		if got := snake(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
