package main

import (
	"bytes"
	"strings"
	"testing"
)

// A defect is exit code 1, and never 2, which is that of wrong usage. It is said that it is one, with what is worth
// reporting.
func TestAPanicIsAnInternalError(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(t.Context(), environment{
		args: []string{"../../test/testdata/v3-unsigned", "file://" + t.TempDir()}, stdout: &out, stderr: &errs,
		lookup: func(name string) (string, bool) {
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
	if code != exitInternal {
		t.Errorf("exit code %d", code)
	}
}
