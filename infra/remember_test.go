package infra

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// TestSettingsAreStoredInTheTemplate: what a deployment was made from is found in it by
// the next one, and its protection is part of the assembly that cdk deploys.
func TestSettingsAreStoredInTheTemplate(t *testing.T) {
	c := variants()["plain"]
	c.Settings = map[string][]string{"domain": {"none"}, "prefix": {"a/", "b/"}, "publisher": {}}
	for _, protect := range []bool{true, false} {
		c.Protect = protect
		dir, err := Synth(c, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, c.StackName+".template.json"))
		if err != nil {
			t.Fatal(err)
		}
		tpl, err := template.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Remembered(tpl); err != nil || !reflect.DeepEqual(got, c.Settings) {
			t.Errorf("remembered %v, %v; want %v", got, err, c.Settings)
		}
		if b, err = os.ReadFile(filepath.Join(dir, "manifest.json")); err != nil {
			t.Fatal(err)
		}
		var manifest struct {
			Artifacts map[string]struct {
				Properties struct{ TerminationProtection bool }
			}
		}
		if err := json.Unmarshal(b, &manifest); err != nil {
			t.Fatal(err)
		}
		if got := manifest.Artifacts[c.StackName].Properties.TerminationProtection; got != protect {
			t.Errorf("termination protection %t, want %t", got, protect)
		}
	}
}

func TestRememberedOfOtherTemplates(t *testing.T) {
	for body, wrong := range map[string]bool{
		`{}`:                         false,
		`{"Metadata": {"Other": 1}}`: false,
		`{"Metadata": {"SlurmFactory::Settings": []}}`:                   true,
		`{"Metadata": {"SlurmFactory::Settings": {"domain": "x"}}}`:      true,
		`{"Metadata": {"SlurmFactory::Settings": {"domain": ["x", 1]}}}`: false,
	} {
		tpl, err := template.Parse([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Remembered(tpl); (err != nil) != wrong {
			t.Errorf("%s: %v", body, err)
		}
	}
}
