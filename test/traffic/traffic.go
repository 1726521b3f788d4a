// Package traffic lets publishers, a withdrawer, a rollback and a prune work on one mirror at once, round after round, while a client reads it.
package traffic

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// The least times of a prune, in a program for which a minute takes three seconds.
const (
	minute = 3 * time.Second
	minAge = 60 * minute
	grace  = 10 * minute
)

// pace is how long a round takes at least beside prunes, so that these find something that is old enough.
const pace = 3 * time.Second

const (
	munge = "7mkbpyyr2uyfmpq6apumjyhzljbzlcr5"
	other = 64 // shares of packages that come and go: 16 rounds take all
	each  = 2  // packages of a share
)

// Options say what happens.
type Options struct {
	Rounds int
	Source string // directory of the fixture v3-signed
	// Deletes lets prunes delete one after the other, by program.Hasty. Otherwise one is planned in each round.
	Deletes bool
	// Beside, if set, begins something that reads the mirror in a directory until done is closed, and returns what waits for that.
	Beside func(dir string, done <-chan struct{}) (wait func())
}

var (
	count   = flag.Int("rounds", 10, "rounds of withdrawals, undos and rollbacks beside publishers")
	deletes = flag.Bool("deletes", false, "delete in the prunes beside them")
)

// Flags are the options that the flags of a test say.
func Flags() Options { return Options{Rounds: *count, Deletes: *deletes} }

// Run lets eight publishers work at once: two of a view, two of the same packages without it, and four of packages that nothing keeps. In each round
// a package is withdrawn or given again, and the index is rolled back. Afterwards the mirror and the view can be read whole; what
// was withdrawn is in neither, and what was given again and published is.
func Run(t *testing.T, o Options) {
	build := program.Publish
	if o.Deletes {
		build = program.Hasty
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	bucket := server.Bucket(t)
	r := &run{
		T: t, o: o, bin: bin, env: append(server.Environ(), "AWS_ENDPOINT_URL="+server.Endpoint), to: "s3://" + bucket + "/m",
		dir: filepath.Join(server.Path(bucket), "m"), mirror: server.Mirror(bucket, "m"), done: make(chan struct{}),
	}
	r.prepare()
	began := time.Now()
	var beside sync.WaitGroup
	beside.Go(r.read)
	if o.Deletes {
		beside.Go(r.prune)
	}
	if o.Beside != nil {
		wait := o.Beside(r.dir, r.done)
		beside.Go(wait)
	}
	n := 0
	for ; n < o.Rounds && !t.Failed(); n++ {
		next := time.Now().Add(pace)
		r.round(n)
		if o.Deletes {
			time.Sleep(time.Until(next))
		}
	}
	took := time.Since(began).Round(time.Second)
	close(r.done)
	beside.Wait()
	// A prune that stops leaves documents that it has taken out of the index, all of them old. The next one deletes them.
	for tries := 0; o.Deletes && r.stopped && tries < 3; tries++ {
		r.pruneOnce()
	}
	r.publish([]string{"verify", "--deep", r.to})
	t.Logf("%d rounds in %v; %d prunes, of which %d stopped because the storage was slow, deleted %d objects and spared %d; %d reads, of which %d of an index that had been replaced",
		n, took, r.prunes, r.slow, r.deleted, r.spared, r.reads, r.old)
}

type run struct {
	*testing.T
	o            Options
	bin, to, dir string
	mirror       reader.Source
	env          []string
	list         string          // the hashes of the fixture, in a file
	all          map[string]bool // these hashes
	shares       []string
	out          bool // the package is withdrawn
	done         chan struct{}

	stopped                                   bool // the last prune did
	prunes, slow, deleted, spared, reads, old int
}

func (r *run) prepare() {
	r.all = reader.V3(reader.Dir(r.o.Source)).Specs
	var text strings.Builder
	for h := range r.all {
		fmt.Fprintln(&text, h)
	}
	r.list = filepath.Join(r.TempDir(), "keep")
	if err := os.WriteFile(r.list, []byte(text.String()), 0o644); err != nil {
		r.Fatal(err)
	}
	u := spackmirror.New(spackmirror.V3, other*each)
	u.Tarball = spackmirror.Kilobytes(4)
	for i := range other {
		dir := r.TempDir()
		if err := u.Write(dir, u.Range(i*each, (i+1)*each)); err != nil {
			r.Fatal(err)
		}
		r.shares = append(r.shares, dir)
	}
	r.publish([]string{"--include", "zlib", r.o.Source, r.to})
	r.publish([]string{"--view", "site", r.o.Source, r.to})
}

// publish runs the program. It must succeed, or say that it did nothing for one of the reasons.
func (r *run) publish(args []string, reasons ...string) (done bool) {
	done, _ = r.try(args, reasons...)
	return done
}

// try is publish that returns what the program said, too.
func (r *run) try(args []string, reasons ...string) (done bool, said string) {
	out, err := program.Run(r.env, r.bin, args...)
	refused := func(why string) bool { return strings.Contains(out.Stderr, why) }
	if err != nil || out.Code != 0 && !slices.ContainsFunc(reasons, refused) {
		r.Errorf("%v: %v, %v", args, err, out)
	}
	return err == nil && out.Code == 0, out.Stderr
}

// atWork is what some commands say beside a prune.
const atWork = "a prune of this mirror is at work"

func (r *run) round(n int) {
	wanted := n%2 == 0
	site := []string{"--view", "site", r.o.Source, r.to}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			switch i % 4 {
			case 0:
				r.publish(site)
			case 1:
				r.publish([]string{r.o.Source, r.to})
			default:
				r.publish([]string{r.shares[(4*n+i/4*2+i%4-2)%other], r.to})
			}
		})
	}
	changed := false
	half := false // given again by the mirror, and perhaps not by the view: a prune began in between, and the command is to be repeated
	group.Go(func() {
		if wanted {
			changed = r.publish([]string{"withdraw", r.to, "munge", "--reason", fmt.Sprint("round ", n)})
		} else {
			var said string
			changed, said = r.try([]string{"withdraw", r.to, "munge", "--undo"}, atWork)
			half = !changed && strings.Contains(said, "view site: "+atWork)
		}
	})
	group.Go(func() { r.publish([]string{"rollback", r.to, "--to", "2"}, "is gone", atWork) })
	if !r.o.Deletes {
		group.Go(func() { r.publish([]string{"prune", "--keep-list", r.list, r.to}) })
	}
	group.Wait()
	if changed {
		r.out = wanted
	}
	if !r.out {
		r.publish(site) // what the rollback took out
	}
	m, view := reader.V3(r.source()), reader.View(r.source(), "site")
	if !m.Works() || !view.Works() {
		r.Errorf("round %d: broken: %v %v", n, m.Broken, view.Broken)
	}
	if r.out && !half && (m.Specs[munge] || view.Specs[munge]) {
		r.Errorf("round %d: it is withdrawn, and offered by the mirror %t, by the view %t", n, m.Specs[munge], view.Specs[munge])
	}
	for h := range r.all {
		if !r.out && (!m.Specs[h] || !view.Specs[h]) {
			r.Errorf("round %d: it was given again, and %s is offered by the mirror %t, by the view %t", n, h, m.Specs[h], view.Specs[h])
		}
	}
}

// source is the mirror as a client finds it, and beside prunes without a list: what is listed may be deleted before it is read.
func (r *run) source() reader.Source {
	src := r.mirror
	if r.o.Deletes {
		src.List = nil
	}
	return src
}

// read reads the mirror again and again, like a client that has read an index some time ago, less than the grace period.
func (r *run) read() {
	for {
		select {
		case <-r.done:
			return
		default:
		}
		src := r.source()
		src.List = nil
		get, began := src.Get, time.Now()
		pointer, held := "", false
		src.Get = func(name string) ([]byte, error) {
			if !held && strings.HasPrefix(name, "v3/manifests/spec/") {
				held = true
				if r.o.Deletes {
					time.Sleep(rand.N(grace*3/4) - time.Since(began))
				}
			}
			content, err := get(name)
			if strings.HasSuffix(name, "/index.manifest.json") {
				pointer = string(content)
			}
			return content, err
		}
		m := reader.V3(src)
		took := time.Since(began)
		if now, _ := get("v3/manifests/index/index.manifest.json"); string(now) != pointer {
			r.old++
		}
		r.reads++
		for _, f := range m.Broken {
			// What is withdrawn is refused to every client at once.
			if !strings.HasPrefix(f.Name, "v3/manifests/spec/munge/") && took < grace {
				r.Errorf("a client of an index that it read %v ago: %v", took, f)
			}
		}
	}
}

// prune deletes what nothing keeps, again and again.
func (r *run) prune() {
	for {
		select {
		case <-r.done:
			return
		case <-time.After(grace / 2):
		}
		if !r.pruneOnce() {
			return
		}
	}
}

func (r *run) pruneOnce() bool {
	out, err := program.Run(r.env, r.bin, "prune", "--keep-list", r.list, "--min-age", minAge.String(), "--grace", grace.String(), "--yes", "--json", r.to)
	var said struct {
		Mirrors []struct {
			Deleted struct{ Objects, Spared int }
		}
	}
	if err == nil {
		err = json.Unmarshal([]byte(out.Stdout), &said)
	}
	// For a request and what is before it there are some seconds, which on a busy machine may pass.
	slow := strings.Contains(out.Stderr, "the storage is too slow to delete safely") || strings.Contains(out.Stderr, "this host was asleep")
	if err != nil || out.Code != 0 && !slow {
		r.Errorf("prune: %v, %v", err, out)
		return false
	}
	r.stopped = slow
	if r.prunes++; slow {
		r.slow++
	}
	for _, m := range said.Mirrors {
		r.deleted, r.spared = r.deleted+m.Deleted.Objects, r.spared+m.Deleted.Spared
	}
	return true
}
