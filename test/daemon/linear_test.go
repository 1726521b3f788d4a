package daemon

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// An index is a set that only grows. A publish adds one package at some moment between its being
// asked for and its being acknowledged, and a reader sees all that was added at some moment while he
// reads.
var growing = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		set := state.(uint64)
		if i, ok := input.(int); ok { // a publish of package i
			return true, set | 1<<i
		}
		return output.(uint64) == set, set
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string {
		if i, ok := input.(int); ok {
			return fmt.Sprintf("publish %d", i)
		}
		return fmt.Sprintf("read %b", output)
	},
}

// Several daemons publish into one mirror, readers look: there is one order of all that they did.
func TestIndexIsLinearizable(t *testing.T) {
	t.Parallel()
	const daemons, each, readers = 3, 8, 3
	server := s3server.Start(t)
	bucket := server.Bucket(t)
	u := spackmirror.New(spackmirror.V3, daemons*each)
	number := make(map[string]int)
	for i := range u.Len() {
		number[u.Hash(i)] = i
	}
	var mu sync.Mutex
	var history []porcupine.Operation
	began := time.Now()
	note := func(client int, input, output any, from time.Time) {
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{ClientId: client, Input: input, Output: output, Call: int64(from.Sub(began)), Return: int64(time.Since(began))})
	}
	var publishing, reading sync.WaitGroup
	var done atomic.Bool
	for d := range daemons {
		h := newHost(t, "s3://"+bucket+"/noble", append(server.Environ(), "AWS_ENDPOINT_URL="+server.Endpoint))
		h.mirror = "    settle: 0s\n"
		h.start()
		publishing.Go(func() {
			for n := range each {
				i := n*daemons + d
				one := mirrorOf(t, u, u.Range(i, i+1))
				from := time.Now()
				drop(t, one, h.source)
				if r := h.run("push", "--wait", h.source); r.Code != 0 {
					t.Error(r)
					return
				}
				note(d, i, nil, from)
			}
		})
	}
	for r := range readers {
		reading.Go(func() {
			for !done.Load() {
				from := time.Now()
				m := reader.V3(reader.Dir(filepath.Join(server.Path(bucket), "noble")))
				if !m.Works() {
					t.Errorf("a reader finds %v", m.Broken)
					return
				}
				set := uint64(0)
				for hash := range m.Specs {
					set |= 1 << number[hash]
				}
				note(daemons+r, nil, set, from)
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	publishing.Wait()
	done.Store(true)
	reading.Wait()
	switch porcupine.CheckOperationsTimeout(growing, history, time.Minute) {
	case porcupine.Illegal:
		t.Errorf("no order of these %d operations explains what was seen: %v", len(history), history)
	case porcupine.Unknown:
		t.Errorf("no order of %d operations was found in a minute", len(history))
	}
	// What the check is worth: a package that is lost is found out.
	lost := append(history, porcupine.Operation{ClientId: 99, Output: uint64(0), Call: int64(time.Since(began)), Return: int64(time.Since(began)) + 1})
	if porcupine.CheckOperations(growing, lost) {
		t.Error("an index that has lost everything is explained, too")
	}
	t.Logf("%d operations", len(history))
}
