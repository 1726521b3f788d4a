package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A defect is exit code 1, and never 2, which is that of wrong usage. It is said that it is one, with what is worth
// reporting.
func TestAPanicIsAnInternalError(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(t.Context(), cli.Env{
		Args: []string{"../../test/testdata/v3-unsigned", "file://" + t.TempDir()}, Stdout: &out, Stderr: &errs,
		Lookup: func(name string) (string, bool) {
			if name == "PUBLISH_INCLUDE" {
				panic("nobody has thought of this")
			}
			return "", false
		},
	})
	for _, want := range []string{"publish: a defect of this program: nobody has thought of this", "hint: what is complete stays", "panic_test.go"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("want %q: %s", want, errs.String())
		}
	}
	if code != cli.ExitInternal {
		t.Errorf("exit code %d", code)
	}
}
