package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

// redeployed is the configuration of a command line over a stack that remembers settings.
func redeployed(t *testing.T, stored map[string][]string, args ...string) infra.Config {
	t.Helper()
	s := newSettings()
	if err := s.flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := s.fill(func(string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	if err := s.remember(stored); err != nil {
		t.Fatal(err)
	}
	c, err := s.stack()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAFlagChangesOneSetting: what is not given stays as it was deployed, and what makes
// no sense beside what was given goes.
func TestAFlagChangesOneSetting(t *testing.T) {
	stored := map[string][]string{
		"domain": {"cache.example.com"}, "hosted-zone-id": {"Z1"}, "zone-name": {"example.com"},
		"suffix": {"abcde"}, "alarms": {"false"}, "noncurrent-days": {"60"}, "environment": {"release"},
		"github-org": {"o"}, "github-repo": {"r"}, "github-owner-id": {"1"}, "github-repo-id": {"2"},
		"publisher": {"name=a,environment=x", "name=b,environment=y"}, "manual-user": {"james"},
	}
	same := redeployed(t, stored)
	if same.Domain != "cache.example.com" || same.HostedZoneID != "Z1" || same.ZoneName != "example.com" || same.Suffix != "abcde" || same.Alarms ||
		same.NoncurrentDays != 60 || len(same.Publishers) != 4 || same.Publishers[0].RepoID != "2" || same.ManualUser != "james" {
		t.Errorf("without a flag: %+v", same)
	}
	if !reflect.DeepEqual(same.Settings, stored) {
		t.Errorf("the next deployment would store %v, want %v", same.Settings, stored)
	}
	for _, row := range []struct {
		flag string
		got  func(infra.Config) string
		want string
	}{
		{"--noncurrent-days=30", func(c infra.Config) string { return c.Domain + " " + c.Suffix }, "cache.example.com abcde"},
		{"--domain=none", func(c infra.Config) string { return c.Domain + c.HostedZoneID + c.ZoneName }, ""},
		{"--domain=", func(c infra.Config) string { return c.Domain + c.HostedZoneID + c.ZoneName }, ""},
		{"--domain=new.example.com", func(c infra.Config) string { return c.Domain + " " + c.HostedZoneID + " " + c.ZoneName }, "new.example.com Z1 example.com"},
		{"--domain=cache.example.com", func(c infra.Config) string { return c.HostedZoneID }, "Z1"},
		{"--hosted-zone-id=Z2", func(c infra.Config) string { return c.Domain + " " + c.ZoneName }, "cache.example.com "},
		{"--bucket-name=mine", func(c infra.Config) string { return c.Bucket() }, "mine"},
		{"--existing-bucket=mine", func(c infra.Config) string { return c.Bucket() }, "mine"},
		{"--github-repo=other", func(c infra.Config) string { return c.Publishers[0].OwnerID + c.Publishers[0].RepoID }, ""},
		{"--github-org=other", func(c infra.Config) string { return c.Publishers[0].OwnerID + c.Publishers[0].RepoID }, ""},
		{"--ref=refs/heads/main", func(c infra.Config) string { return c.Publishers[0].Environment + " " + c.Publishers[0].Ref }, "release refs/heads/main"},
		{"--trust-any-ref", func(c infra.Config) string { return c.Publishers[0].Environment }, ""},
		{"--publisher=none", func(c infra.Config) string { return c.Publishers[len(c.Publishers)-1].Name }, "maintain"},
		{"--publisher=name=c,environment=z", func(c infra.Config) string { return c.Publishers[len(c.Publishers)-1].Name }, "c"},
		{"--manual-user=none", func(c infra.Config) string { return c.ManualUser }, ""},
		{"--alarms", func(c infra.Config) string { return strings.Join(c.Settings["alarms"], "") }, "true"},
	} {
		if got := row.got(redeployed(t, stored, row.flag)); got != row.want {
			t.Errorf("%s: %q, want %q", row.flag, got, row.want)
		}
	}
	anyRef := map[string][]string{"trust-any-ref": {"true"}}
	if p := redeployed(t, anyRef, "--environment", "release").Publishers[0]; p.AnyRef || p.Environment != "release" {
		t.Errorf("an environment does not narrow --trust-any-ref: %+v", p)
	}
	certificate := map[string][]string{"domain": {"a.example.com"}, "certificate-arn": {"arn:aws:acm:us-east-1:1:certificate/1"}}
	if c := redeployed(t, certificate, "--domain", "b.example.com"); c.CertificateArn != "" {
		t.Error("the certificate of another name was kept")
	}
}

// TestOnlySettingsAreRemembered: where a stack is, and what is allowed once, is not.
func TestOnlySettingsAreRemembered(t *testing.T) {
	c := must(t, []string{"--account", "123456789012", "--stack-name", "Other", "--domain", "none"}, nil, "suffix: abcde\n")
	if want := map[string][]string{"domain": {"none"}, "suffix": {"abcde"}}; !reflect.DeepEqual(c.Settings, want) {
		t.Errorf("stored %v, want %v", c.Settings, want)
	}
	if c := must(t, nil, nil, ""); len(c.Settings) != 0 {
		t.Errorf("defaults are stored: %v", c.Settings)
	}
	if newSettings().flags.Lookup("allow") != nil {
		t.Error("--allow is a setting: what is permitted once would be permitted for good")
	}
}

// TestSettingsOfALaterVersion: a setting that we do not know is never dropped silently.
func TestSettingsOfALaterVersion(t *testing.T) {
	s := newSettings()
	err := s.remember(map[string][]string{"time-machine": {"true"}})
	var h hinted
	if err == nil || !strings.Contains(err.Error(), "time-machine") || !errors.As(err, &h) || !strings.Contains(h.hint, "later commit") {
		t.Errorf("%v", err)
	}
}

// TestRememberedIsAConfigFile: what infra settings --deployed and destroy print can be
// given back with --config, whatever is in it.
func TestRememberedIsAConfigFile(t *testing.T) {
	stored := map[string][]string{"suffix": {"00012"}, "workflow": {`o/r/.github/workflows/p.yml@refs/heads/a: "b" #c`},
		"publisher": {"name=a,environment=x", "name=b,ref=refs/tags/v*"}, "prefix": {}}
	path := filepath.Join(t.TempDir(), "infra.yaml")
	if err := os.WriteFile(path, []byte(asFile(stored)), 0o600); err != nil {
		t.Fatal(err)
	}
	got := must(t, []string{"--config", path}, nil, "").Settings
	delete(stored, "prefix")
	if !reflect.DeepEqual(got, stored) {
		t.Errorf("read %v, wrote %v", got, stored)
	}
}

// TestAPrefixMakesASecondDeployment: every name that was not given gets it, and production
// is the one without.
func TestAPrefixMakesASecondDeployment(t *testing.T) {
	c := must(t, []string{"--name-prefix", "staging", "--publisher", "name=pr,environment=x"}, nil, "")
	var roles []string
	for _, p := range c.Publishers {
		roles = append(roles, p.Role)
	}
	if got := strings.Join(append(roles, c.StackName), " "); got != "staging-slurm-factory-github-actions staging-slurm-factory-maintain staging-slurm-factory-pr staging-SlurmFactoryInfraStack" {
		t.Error(got)
	}
	if c.Protect || !must(t, []string{"--name-prefix", "staging", "--protect"}, nil, "").Protect || !must(t, nil, nil, "").Protect {
		t.Error("want production protected, and staging where it is asked for")
	}
	given := must(t, []string{"--name-prefix", "staging", "--stack-name", "S", "--role-name", "r", "--manual-user", "u"}, nil, "")
	if given.StackName != "S" || given.Publishers[0].Role != "r" || given.ManualUser != "u" {
		t.Errorf("given names were changed: %+v", given)
	}
}

func TestAllowNeedsAName(t *testing.T) {
	for _, bad := range []string{"cache.example.com", "removal:", "removal:a,b", ""} {
		if code, _, stderr := try("synth", "--account", "123456789012", "--allow", bad); code != exitUsage || !strings.Contains(stderr, "removal:NAME") {
			t.Errorf("--allow %q: exit code %d, %s", bad, code, stderr)
		}
	}
}
