package crash

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

// A change is a command that takes packages from clients, or gives them again.
type change struct {
	name   string
	read   func(reader.Source) *reader.Mirror
	before [][]string // commands, in which $S3 stands for the mirror
	run    []string
}

func changes() []change {
	v3, v2 := "../testdata/v3-signed", "../testdata/v2-signed"
	withdraw := []string{"withdraw", "$S3", "munge", "--reason", "CVE-2026-1", "--with-dependents"}
	undo := []string{"withdraw", "$S3", "munge", "--undo"}
	view := []string{"view", "set", "$S3", "site", "munge"}
	prune := []string{"prune", "--alone", "--yes", "--keep-root", "munge", "--keep-generations", "0", "$S3"}
	var all []change
	for layout, source := range map[string]string{"v3": v3, "v2": v2} {
		read := reader.V3
		if layout == "v2" {
			read = reader.V2
		}
		steps := [][]string{{"--include", "zlib", source, "$S3"}, {source, "$S3"}}
		all = append(all,
			change{"withdraw " + layout, read, steps, withdraw},
			change{"undo " + layout, read, append(slices.Clone(steps), withdraw), undo},
			change{"rollback " + layout, read, steps, []string{"rollback", "$S3", "--to", "1"}},
			change{"prune " + layout, read, steps, prune},
		)
		if layout == "v3" {
			viewed := append(slices.Clone(steps), view)
			all = append(all,
				change{"withdraw from a view", read, viewed, withdraw},
				change{"undo in a view", read, append(slices.Clone(viewed), withdraw), undo},
				change{"set a view", read, steps, view},
			)
		}
	}
	slices.SortFunc(all, func(a, b change) int { return strings.Compare(a.name, b.name) })
	return all
}

// A command that takes packages back, gives them again or deletes them is killed with SIGKILL before and after each of its requests.
// Whatever a mirror offers then can be read whole, and repeating the command leaves what an undisturbed one leaves.
func TestChangesAreKilledAtEveryRequest(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	for i, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			w := &world{server: server, bin: bin, bucket: fmt.Sprintf("change-%d", i)}
			if err := server.CreateBucket(w.bucket); err != nil {
				t.Fatal(err)
			}
			for _, args := range c.before {
				w.must(t, c.args(args, w)...)
			}
			begin := t.TempDir() + "/begin"
			clone(t, server.Path(w.bucket), begin)
			proxy := faultproxy.Start(t, server.Endpoint)
			r, err := program.Run(w.env(proxy.URL), bin, c.args(c.run, w)...)
			if err != nil || r.Code != 0 {
				t.Fatalf("undisturbed: %v, %v", err, r)
			}
			requests := len(proxy.Log())
			end := c.offered(t, w)
			var all sync.WaitGroup
			for k := 1; k <= requests; k++ {
				for f, when := range []string{"before", "after"} {
					if left(k, f) {
						continue
					}
					all.Go(func() {
						busy <- struct{}{}
						defer func() { <-busy }()
						c.killed(t, *w, begin, k, when, end)
					})
				}
			}
			all.Wait()
			t.Logf("%d requests", requests)
		})
	}
}

func (c change) args(args []string, w *world) []string {
	out := slices.Clone(args)
	for i := range out {
		if out[i] == "$S3" {
			out[i] = w.destination()
		}
	}
	return out
}

// offered are the packages that a reader can install, of the mirror and of its view.
func (c change) offered(t *testing.T, w *world) string {
	t.Helper()
	m := c.read(w.mirror())
	if !m.Works() {
		t.Errorf("%s: broken: %v", c.name, m.Broken)
	}
	text := fmt.Sprint(slices.Sorted(maps.Keys(m.Specs)))
	if strings.Contains(c.name, "view") {
		r, err := program.Run(w.env(w.server.Endpoint), w.bin, "view", "show", w.destination(), "site")
		if err != nil || r.Code != 0 && !strings.Contains(r.Stderr, "no such object") {
			t.Errorf("%s: %v, %v", c.name, err, r)
		}
		shown, _, _ := strings.Cut(r.Stdout, ", sha256") // the address differs
		text += shown
	}
	return text
}

func (c change) killed(t *testing.T, w world, begin string, k int, when, end string) {
	w.bucket = fmt.Sprintf("%s-%d-%s", w.bucket, k, when)
	clone(t, begin, w.server.Path(w.bucket))
	defer os.RemoveAll(w.server.Path(w.bucket))
	proxy := faultproxy.Start(t, w.server.Endpoint)
	defer proxy.Close()
	running := make(chan *program.Process, 1)
	kill := func() {
		p := <-running
		p.Kill()
		running <- p
	}
	fault := faultproxy.Before(kill)
	if when == "after" {
		fault = faultproxy.After(kill)
	}
	proxy.At(k, fault)
	p, err := program.Begin(w.env(proxy.URL), w.bin, c.args(c.run, &w)...)
	if err != nil {
		t.Error(err)
		return
	}
	running <- p
	_, _ = p.Wait()
	proxy.Wait()
	where := fmt.Sprintf("killed %s request %d, %s", when, k, hit(proxy.Log(), k))
	if m := c.read(w.mirror()); !m.Works() {
		t.Errorf("%s: broken: %v", where, m.Broken)
	}
	again, err := program.Run(w.env(w.server.Endpoint), w.bin, c.args(c.run, &w)...)
	done := err == nil && (again.Code == 0 || strings.Contains(again.Stderr, "nothing that is withdrawn"))
	if !done {
		t.Errorf("%s: again: %v, %v", where, err, again)
		return
	}
	if got := c.offered(t, &w); got != end {
		t.Errorf("%s: offered are\n%s\nand not\n%s", where, got, end)
	}
	if r, err := program.Run(w.env(w.server.Endpoint), w.bin, "verify", "--deep", w.destination()); err != nil || r.Code != 0 {
		t.Errorf("%s: verify: %v, %v", where, err, r)
	}
}
