package main

import (
	"runtime"
	"runtime/debug"
)

// firstHeap is the heap size in MiB at which garbage is first collected. The runtime's default is 4 MiB; with
// it a publish of a few packages spends a third of its processor time on collecting garbage.
const firstHeap = 32

// collectLate delays the first garbage collection. From the second one on, GOGC has its usual effect.
func collectLate() {
	const runtimeBegins = 4
	gogc := debug.SetGCPercent(100 * firstHeap / runtimeBegins)
	runtime.AddCleanup(new([64]byte), func(gogc int) { debug.SetGCPercent(gogc) }, gogc)
}
