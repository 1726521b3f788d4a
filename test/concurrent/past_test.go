package concurrent

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

var pastRounds = flag.Int("past-rounds", 10, "rounds of withdrawals, undos and rollbacks beside publishers")

// Eight publishers, half of them of a view, are at work while a package is withdrawn or given again, the index is rolled back, and a prune
// is planned. In each round the mirror and the view can be read whole afterwards; what was withdrawn is in neither, and what was
// given again and published is.
func TestPublishersBesideWithdrawalsAndRollbacks(t *testing.T) {
	const munge, all = "7mkbpyyr2uyfmpq6apumjyhzljbzlcr5", 11
	n := *pastRounds
	if testing.Short() {
		n = 2
	}
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	bucket := server.Bucket(t)
	env := append(server.Environ(), "AWS_ENDPOINT_URL="+server.Endpoint)
	to := "s3://" + bucket + "/m"
	dir := reader.Dir(filepath.Join(server.Path(bucket), "m"))
	source := "../testdata/v3-signed"
	run := func(allowed string, args ...string) {
		r, err := program.Run(env, bin, args...)
		if err != nil || r.Code != 0 && (allowed == "" || !strings.Contains(r.Stderr, allowed)) {
			t.Errorf("%v: %v, %v", args, err, r)
		}
	}
	run("", "--include", "zlib", source, to)
	run("", "--view", "site", source, to)
	began := time.Now()
	for round := range n {
		out := round%2 == 0
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				args := []string{source, to}
				if i%2 == 0 {
					args = append([]string{"--view", "site"}, args...)
				}
				run("", args...)
			})
		}
		change := []string{"withdraw", to, "munge", "--undo"}
		if out {
			change = []string{"withdraw", to, "munge", "--reason", fmt.Sprint("round ", round)}
		}
		group.Go(func() { run("", change...) })
		group.Go(func() { run("is gone", "rollback", to, "--to", "2") })
		group.Go(func() { run("", "prune", "--keep-root", "zlib", to) })
		group.Wait()
		if !out {
			run("", "--view", "site", source, to) // what the rollback took out
		}
		m, view := reader.V3(dir), reader.View(dir, "site")
		if !m.Works() || !view.Works() {
			t.Fatalf("round %d: broken: %v %v", round, m.Broken, view.Broken)
		}
		if out && (m.Specs[munge] || view.Specs[munge]) {
			t.Fatalf("round %d: it is withdrawn, and offered by the mirror %t, by the view %t", round, m.Specs[munge], view.Specs[munge])
		}
		if !out && (len(m.Specs) != all || !view.Specs[munge]) {
			t.Fatalf("round %d: it was given again: %d packages, in the view %t", round, len(m.Specs), view.Specs[munge])
		}
	}
	run("", "verify", "--deep", to)
	t.Logf("%d rounds in %v", n, time.Since(began).Round(time.Second))
}
