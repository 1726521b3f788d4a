package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// spack is a mirror as Spack wrote it.
func spack(t testing.TB, fixture string) string {
	t.Helper()
	dir, err := filepath.Abs("../../test/testdata/" + fixture)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

type variables map[string]string

func (v variables) lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

// execute runs the program in this process.
func execute(t testing.TB, env variables, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), cli.Env{Args: args, Lookup: env.lookup, Environ: env.environ, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
