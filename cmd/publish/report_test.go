package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

var seconds = regexp.MustCompile(`in [0-9.]+ s`)

// The plan, the publish, the second publish and the plan of nothing, as they are read.
func TestReportReads(t *testing.T) {
	source, destination := clitest.Spack(t, "v2-signed"), "file://"+t.TempDir()+"/mirror"
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--dry-run", "--include", "zlib"}, `
plan for SOURCE -> DESTINATION (dry run: nothing is written)
  source = SOURCE (argument)
  destination = DESTINATION (argument)
  dry-run = true (flag)
  include = [zlib] (flag)
  new       zlib@1.3.1/w5l2qjc, 4.1 KiB
  MIRROR  LAYOUT  NEW  REPLACED  UNCHANGED  SKIPPED  REJECTED  INDEX
  .       v2      1    0         0          0        0         0 -> 1
  would store 6 objects, 12 KiB, in about 7 requests: $0.0000
would publish 1 package
`},
		{[]string{"--include", "zlib"}, `
  MIRROR  LAYOUT  NEW  REPLACED  UNCHANGED  SKIPPED  REJECTED  INDEX
  .       v2      1    0         0          0        0         0 -> 1
published 1 package: 6 objects, 12 KiB in N s
`},
		{[]string{"--include", "zlib"}, `
  MIRROR  LAYOUT  NEW  REPLACED  UNCHANGED  SKIPPED  REJECTED  INDEX
  .       v2      0    0         1          0        0         1
nothing to do: everything is published
`},
		{[]string{"--dry-run", "--include", "zlib"}, `
plan for SOURCE -> DESTINATION (dry run: nothing is written)
  source = SOURCE (argument)
  destination = DESTINATION (argument)
  dry-run = true (flag)
  include = [zlib] (flag)
  unchanged zlib@1.3.1/w5l2qjc
  MIRROR  LAYOUT  NEW  REPLACED  UNCHANGED  SKIPPED  REJECTED  INDEX
  .       v2      0    0         1          0        0         1
  would store 0 objects, 0 B, in about 0 requests: $0.0000
nothing to do: everything is published
`},
	} {
		code, out, errs := execute(t, nil, append(row.args, source, destination)...)
		if code != cli.ExitDone {
			t.Fatalf("%q: exit code %d: %s", row.args, code, errs)
		}
		got := strings.NewReplacer(source, "SOURCE", destination, "DESTINATION").Replace(seconds.ReplaceAllString(out, "in N s"))
		if diff := cmp.Diff(strings.TrimPrefix(row.want, "\n"), got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", row.args, diff)
		}
	}
}

// With --json, standard output is one document whatever happens, and it says how it ended.
func TestReportIsOneDocument(t *testing.T) {
	destination := "file://" + t.TempDir() + "/mirror"
	for _, row := range []struct {
		args   []string
		source string
		result string
		code   int
	}{
		{[]string{"--dry-run"}, "v3-signed", "dry-run", cli.ExitDone},
		{nil, "v3-signed", "published", cli.ExitDone},
		{nil, "v3-signed", "unchanged", cli.ExitDone},
		{[]string{"--require-signed"}, "v3-unsigned", "failed", cli.ExitSource},
		{[]string{"--timeout", "1ns"}, "v3-signed", "failed", cli.ExitTimeout},
	} {
		code, out, _ := execute(t, nil, append(row.args, "--json", clitest.Spack(t, row.source), destination)...)
		var got task.Report
		dec := json.NewDecoder(strings.NewReader(out))
		if err := dec.Decode(&got); err != nil || dec.More() {
			t.Fatalf("%q: %v: %s", row.args, err, out)
		}
		if code != row.code || got.ExitCode != code || got.Result != row.result || got.Version != cli.ReportVersion || (got.Error == "") != (code == cli.ExitDone) {
			t.Errorf("%q: exit code %d, report %+v", row.args, code, got)
		}
		if strings.Contains(out, "null") {
			t.Errorf("%q: a list that is null: %s", row.args, out)
		}
	}
}
