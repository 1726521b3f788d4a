// Package nofile bounds what is done at once by the number of files that the process may have open (RLIMIT_NOFILE,
// `ulimit -n`).
package nofile

import (
	"math"
	"sync"
	"syscall"
)

// reserved are the descriptors of the process itself: standard streams, the queue, a socket, the page.
const reserved = 40

// Limit is how many files may be open. Go raises the soft limit to the hard one when a process starts.
var Limit = sync.OnceValue(func() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur)
})

// AtOnce is how many of most things may be done at once if each of them has so many files open. Files and
// connections share the limit, so each kind gets half of it. One thing at a time is always done.
func AtOnce(most, each int) int { return atOnce(Limit(), most, each) }

func atOnce(limit, most, each int) int { return max(1, min(most, (limit-reserved)/2/each)) }
