package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/removal"
)

// TestMisspeltAllowIsNamed: an --allow for what does not go is no error, since it harms
// nothing, and it is said.
func TestMisspeltAllowIsNamed(t *testing.T) {
	allow := &allowed{}
	if err := allow.Set("removal:slurm-factory-maintain,removal:slurm-factory-maintian"); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	allow.warnUnused(&errs, isLost([]removal.Loss{{Name: "slurm-factory-maintain"}}))
	if got, want := errs.String(), "warning: --allow removal:slurm-factory-maintian permits nothing: nothing of this name goes\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestTheHintAllowsEverything: the command line of the hint allows what was allowed before as
// well, since a second -c allow= takes the place of the first.
func TestTheHintAllowsEverything(t *testing.T) {
	losses := []removal.Loss{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	allow := &allowed{names: []string{"b"}}
	for want, form := range map[string]func(string) string{
		"to remove it on purpose: --allow removal:a --allow removal:b --allow removal:c": asFlag,
		"to remove it on purpose: -c allow=removal:a,removal:b,removal:c":                asContext,
	} {
		err := allow.check(site{}, losses, form)
		if err == nil || !strings.HasSuffix(hintFor(err), want) || strings.Contains(err.Error(), "\n  b ") {
			t.Errorf("%v\nhint: %s", err, hintFor(err))
		}
	}
	allow.names = []string{"a", "b", "c"}
	if err := allow.check(site{}, losses, asFlag); err != nil {
		t.Error(err)
	}
}
