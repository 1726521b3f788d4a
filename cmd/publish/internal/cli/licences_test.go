package cli_test

import (
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A rule without a value would keep nothing out, and is an error.
func TestARuleWithoutAValue(t *testing.T) {
	for text, want := range map[string]string{
		"unknown: deny\npackages:\n  deny:\n":       "3:3: deny: it has no value",
		"licenses:\n  deny: [GPL-3.0-only, null]\n": "2:24: an item of a list: it has no value",
	} {
		if _, err := cli.ParseLicences([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := cli.ParseLicences([]byte("unknown: deny\n")); err != nil {
		t.Error(err)
	}
}
