package main

import (
	"bytes"
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
