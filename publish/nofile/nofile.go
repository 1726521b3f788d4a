// Package nofile limits concurrency by the number of files that a process may have open (`ulimit -n`,
// RLIMIT_NOFILE).
package nofile

import (
	"math"
	"sync"
	"syscall"
)

// reserved is the number of descriptors that the process itself needs: standard streams, the queue, a socket, the
// page.
const reserved = 40

// Limit returns the maximum number of open files. Go raises the soft limit to the hard one when a process starts.
var Limit = sync.OnceValue(func() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur)
})

// AtOnce returns how many of most operations may run at once if each of them has a number of files open. Files and
// connections share the limit, so each kind gets half of it. The result is at least 1.
func AtOnce(most, each int) int { return atOnce(Limit(), most, each) }

func atOnce(limit, most, each int) int { return max(1, min(most, (limit-reserved)/2/each)) }
