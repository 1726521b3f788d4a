package queue_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// thorough is what make faults asks for: go test ./publish/queue -args -thorough.
var thorough = flag.Bool("thorough", false, "all kills of a process with a queue")

// What was acknowledged is terminal or queued, whenever the process is killed: a victim
// works as fast as it can and says what was acknowledged to it, until it is killed.
func TestKilledAtAnyMoment(t *testing.T) {
	rounds := 60
	switch {
	case *thorough:
		rounds = 200
	case testing.Short():
		rounds = 20
	}
	k := &killing{dir: t.TempDir(), accepted: map[string]bool{}, ended: map[string]string{}}
	for range rounds {
		k.round(t)
		k.check(t)
		if t.Failed() {
			return
		}
	}
	if len(k.ended) < rounds/10 || len(k.accepted) == len(k.ended) {
		t.Errorf("in %d rounds %d were accepted and %d ended: this tested little", rounds, len(k.accepted), len(k.ended))
	}
}

// A killing is what victims said so far.
type killing struct {
	dir      string
	accepted map[string]bool   // by digest
	ended    map[string]string // and how
}

// round starts a victim and kills it a random time after it has said a random number of
// things, so that much is done on a slow machine, too.
func (k *killing) round(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "QUEUE_TEST_VICTIM="+k.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for left := rand.N(30); lines.Scan(); left-- {
		if left == 0 {
			time.AfterFunc(rand.N(4*time.Millisecond), func() { cmd.Process.Kill() })
		}
		var what, digest string
		fmt.Sscan(lines.Text(), &what, &digest)
		switch what {
		case "accepted":
			k.accepted[digest] = true
		case "published", "failed", "cancelled":
			k.ended[digest] = what
		}
	}
	cmd.Wait()
}

func (k *killing) check(t *testing.T) {
	t.Helper()
	q, err := queue.Open(t.Context(), k.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	all, err := q.Jobs(t.Context(), queue.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, j := range all {
		there[j.Digest] = true
		if j.State == queue.Checking || j.State == queue.Publishing {
			t.Errorf("job %s is still claimed by the dead: %s", j.Digest, j.State)
		}
		if how, ok := k.ended[j.Digest]; ok && how != string(j.State) {
			t.Errorf("job %s was acknowledged as %s and is %s", j.Digest, how, j.State)
		}
	}
	for digest := range k.accepted {
		if !there[digest] {
			t.Errorf("job %s was acknowledged and is lost", digest)
		}
	}
	obligations, err := q.Obligations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range obligations {
		if o.State != queue.Due {
			t.Errorf("obligation %d of the dead is %s", o.ID, o.State)
		}
	}
}

// victim works until it is killed. It is a process of its own.
func victim(dir string) {
	ctx := context.Background()
	q, err := queue.Open(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("open")
	v := &worker{q: q}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				digest := fmt.Sprint(rand.Uint64())
				_, err := q.Accept(ctx, queue.Job{Mirror: "m", File: digest, Digest: digest})
				v.said(err, "accepted", digest)
			}
		})
	}
	wg.Go(func() {
		for {
			v.check(ctx)
			v.publish(ctx)
		}
	})
	wg.Wait()
}

type worker struct{ q *queue.Queue }

// said tells what was acknowledged. Each line is one write, which the kernel keeps.
func (v *worker) said(err error, what string, digests ...string) {
	if err != nil {
		fmt.Fprintln(os.Stderr, what, err)
		os.Exit(1)
	}
	for _, d := range digests {
		fmt.Println(what, d)
	}
}

func (v *worker) check(ctx context.Context) {
	claimed, err := v.q.Claim(ctx, "m", queue.Checking, queue.Limits{Jobs: 50})
	v.said(err, "claimed")
	changes := map[queue.State][]queue.Change{}
	digests := map[queue.State][]string{}
	for i, j := range claimed {
		to := []queue.State{queue.Ready, queue.Ready, queue.Failed, queue.Cancelled, queue.Accepted}[i%5]
		changes[to] = append(changes[to], queue.Change{ID: j.ID, To: to})
		digests[to] = append(digests[to], j.Digest)
	}
	for to, c := range changes {
		err := v.q.Change(ctx, queue.Checking, c...)
		if to.Ended() {
			v.said(err, string(to), digests[to]...)
		}
	}
}

func (v *worker) publish(ctx context.Context) {
	claimed, err := v.q.Claim(ctx, "m", queue.Publishing, queue.Limits{Jobs: 100})
	v.said(err, "claimed")
	if len(claimed) == 0 {
		return
	}
	id, err := v.q.Intend(ctx, "m", []byte("forget"), claimed[0].ID)
	v.said(err, "intended")
	var changes []queue.Change
	var digests []string
	for _, j := range claimed {
		changes = append(changes, queue.Change{ID: j.ID, To: queue.Published})
		digests = append(digests, j.Digest)
	}
	v.said(v.q.Finish(ctx, id, []byte("forget"), changes...), string(queue.Published), digests...)
	v.said(v.q.Meet(ctx, id), "met")
}
