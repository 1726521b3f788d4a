package remote

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// What is the same of many packages is one line of a status, a push and a drain, failures that a status does not list are
// counted, and --verbose shows all.
func TestManyPackagesAreOneLine(t *testing.T) {
	const reason = "it is not signed"
	var jobs []queue.Job
	for i := range 100 {
		jobs = append(jobs, queue.Job{ID: int64(i), Mirror: "cache", State: queue.Failed, Reason: reason, Package: fmt.Sprintf("p%d@1/abcdefg", i), File: fmt.Sprintf("v3/manifests/spec/p/p%d-1-abcdefghijkl.spec.manifest.json", i)})
	}
	s := daemon.Status{Healthy: true, Failed: jobs, Mirrors: []daemon.MirrorStatus{{Name: "cache", Jobs: map[queue.State]int{queue.Failed: 150}}}}
	const together = "100 packages: cache: it is not signed: p0-1-abcdefg, p1-1-abcdefg, p2-1-abcdefg, p3-1-abcdefg, p4-1-abcdefg and 95 more\n"
	for _, row := range []struct {
		name  string
		shown cli.Output
		print func(*bytes.Buffer, cli.Output)
		want  []string
		lines int
	}{
		{"status", cli.Output{}, func(b *bytes.Buffer, o cli.Output) {
			var text strings.Builder
			statusText(&text, s, o)
			b.WriteString(text.String())
		}, []string{"failed: " + together, "failed: 50 more before these\n"}, 4},
		{"status --verbose", cli.Output{Verbose: true}, func(b *bytes.Buffer, o cli.Output) {
			var text strings.Builder
			statusText(&text, s, o)
			b.WriteString(text.String())
		}, []string{"failed: cache p7@1/abcdefg (job 7): it is not signed\n", "failed: 50 more before these\n"}, 103},
		{"drain", cli.Output{}, func(b *bytes.Buffer, o cli.Output) { PrintDrained(b, o, daemon.Drained{Failed: jobs}, false) }, []string{"  failed: " + together}, 2},
		{"push", cli.Output{}, func(b *bytes.Buffer, o cli.Output) { printJobs(cli.Env{Stdout: b, Output: o}, jobs, "") }, []string{"100 packages: cache: failed: it is not signed: p0-1-abcdefg,"}, 1},
		{"push --verbose", cli.Output{Verbose: true}, func(b *bytes.Buffer, o cli.Output) { printJobs(cli.Env{Stdout: b, Output: o}, jobs, "") }, []string{"cache p7@1/abcdefg: failed: it is not signed\n"}, 100},
	} {
		var b bytes.Buffer
		row.print(&b, row.shown)
		for _, want := range row.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s lacks %q:\n%s", row.name, want, b.String())
			}
		}
		if n := strings.Count(b.String(), "\n"); n != row.lines {
			t.Errorf("%s has %d lines, want %d", row.name, n, row.lines)
		}
	}
}
