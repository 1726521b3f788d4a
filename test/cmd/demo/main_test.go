package main

import (
	"bytes"
	"regexp"
	"testing"
)

// The demo shows what it says it shows.
func TestDemo(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-once", "-sample", "../../testdata/v3-signed"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	rest := out.String()
	for _, want := range []string{
		`\$ publish --dry-run`,
		`v3/manifests/index/index\.manifest\.json`,
		`\$ publish \S+ s3://demo/site`,
		`\$ publish \S+ s3://demo/site`,
		`nothing to do|unchanged|up to date`,
		`two more packages`,
		`invalidation 1: .*/site/v3/manifests/index/index\.manifest\.json`,
		`invalidation 2: .*/site/v3/manifests/index/index\.manifest\.json`,
		`\$ publish verify http://127\.0\.0\.1:\d+/site`,
		`spack mirror add demo http://127\.0\.0\.1:\d+/site\n`,
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no %q, in this order, in\n%s", want, &out)
		}
		rest = rest[at[1]:]
	}
	if regexp.MustCompile(`invalidation 3`).MatchString(rest) {
		t.Errorf("the second run invalidated:\n%s", &out)
	}
}
