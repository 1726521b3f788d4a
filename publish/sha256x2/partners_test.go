package sha256x2

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// beside hashes pieces beside another hash that takes pause to read each of its own, and returns for how long it
// has waited. Hashing itself takes no time here, since time is virtual.
func beside(h, other *Hash, pause time.Duration, pieces int) time.Duration {
	piece := noise(1, 640)
	stop := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(pause):
				other.Write(piece)
			}
		}
	})
	began := time.Now()
	for range pieces {
		h.Write(piece)
	}
	waited := time.Since(began)
	close(stop)
	g.Wait()
	return waited
}

// A fast file is not hashed at the speed of a slow one: it waits for a few of its pieces only.
func TestAFastFileDoesNotWaitForASlowOne(t *testing.T) {
	if !interleaves {
		t.Log("not on this processor")
		return
	}
	const pieces = 10_000
	for _, pause := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 9 * time.Millisecond, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			var pairs Pairs
			fast, slow := pairs.New(), pairs.New()
			if waited := beside(fast, slow, pause, pieces); waited > pieces*15*time.Microsecond {
				t.Errorf("beside one that reads for %v a piece, it waited for %v", pause, waited)
			}
			fast.Close()
			slow.Close()
		})
	}
}

// A partner that was slow is waited for again when it keeps up.
func TestASlowFileThatBecomesFastIsAPartnerAgain(t *testing.T) {
	if !interleaves {
		t.Log("not on this processor")
		return
	}
	synctest.Test(t, func(t *testing.T) {
		var pairs Pairs
		h, other := pairs.New(), pairs.New()
		beside(h, other, 9*time.Millisecond, 1000)
		if h.rest != longestRest {
			t.Errorf("after a slow partner it rests for %d pieces", h.rest)
		}
		beside(h, other, patience/3, 1000)
		if h.rest != 0 {
			t.Errorf("after a partner that kept up it rests for %d pieces", h.rest)
		}
		h.Close()
		other.Close()
	})
}
