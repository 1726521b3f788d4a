package main

import (
	"bytes"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// execute runs the program in this process.
func execute(t testing.TB, env clitest.Variables, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), cli.Env{Args: args, Lookup: env.Lookup, Environ: env.Environ, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// spack and write are those of clitest, for short.
func spack(t testing.TB, fixture string) string { t.Helper(); return clitest.Spack(t, fixture) }
func write(t testing.TB, name, content string)  { t.Helper(); clitest.Write(t, name, content) }
