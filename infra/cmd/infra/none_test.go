package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestNoneTakesEverySettingBack: each setting that was given none means what it means when it
// was never given, whatever the stack remembers; the four of ownNone say what theirs means.
func TestNoneTakesEverySettingBack(t *testing.T) {
	never := must(t, nil, nil, "")
	remembered := map[string]string{"bool": "true", "int": "7", "string": "x"}
	newSettings().flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(ownNone, f.Name) {
			if f.Name != "alarm-email" && !strings.Contains(f.Usage, none) {
				t.Errorf("--%s: %s does not say what none means", f.Name, f.Usage)
			}
			return
		}
		s := newSettings()
		if err := s.flags.Parse([]string{"--" + f.Name + "=" + none}); err != nil {
			t.Errorf("--%s none: %v", f.Name, err)
			return
		}
		if err := s.fill(func(string) string { return "" }); err != nil {
			t.Errorf("--%s none: %v", f.Name, err)
			return
		}
		if err := s.remember(map[string][]string{f.Name: {remembered[f.Value.Type()]}}); err != nil {
			t.Errorf("--%s none beside a remembered value: %v", f.Name, err)
		}
		c, err := s.stack()
		if err != nil {
			t.Errorf("--%s none: %v", f.Name, err)
			return
		}
		if !slices.Contains(transient, f.Name) && !slices.Equal(c.Settings[f.Name], []string{none}) {
			t.Errorf("--%s none is remembered as %q", f.Name, c.Settings[f.Name])
		}
		c.Settings = never.Settings
		if !reflect.DeepEqual(c, never) {
			t.Errorf("--%s none:\n%+v, want the default\n%+v", f.Name, c, never)
		}
		// What the stack remembers is read again.
		if err := newSettings().remember(map[string][]string{f.Name: {none}}); err != nil {
			t.Errorf("--%s: %v", f.Name, err)
		}
	})
}

// TestNoneIsTheDefaultOfTheDeployment: with a prefix, some defaults are others.
func TestNoneIsTheDefaultOfTheDeployment(t *testing.T) {
	c := must(t, []string{"--name-prefix", "staging", "--stack-name", none, "--role-name", none, "--protect=none"}, nil, "")
	if c.StackName != "staging-SlurmFactoryInfraStack" || c.Publishers[0].Role != "staging-slurm-factory-github-actions" || c.Protect {
		t.Errorf("stack %s, role %s, protected: %t", c.StackName, c.Publishers[0].Role, c.Protect)
	}
}

// TestBadNumbersAreRefusedInWords: the words of Go's parser help nobody.
func TestBadNumbersAreRefusedInWords(t *testing.T) {
	for _, args := range [][]string{
		{"--monthly-budget", "x"}, {"--log-days", "1e3"}, {"--alarms=perhaps"}, {"--session-hours", "99999999999999999999"},
		{"--publisher", "name=a,ref=refs/heads/m,session-hours=x"}, {"--publisher", "name=a,pull-requests=x"}, {"--publisher", "name=a,prefix=a/,expire-days=x"},
	} {
		_, err := configured(t, args, nil, "")
		if err == nil || strings.Contains(err.Error(), "strconv") || !strings.Contains(err.Error(), "want a whole number") && !strings.Contains(err.Error(), "want true or false") {
			t.Errorf("%v: %v", args, err)
		}
	}
}
