package main

import (
	"runtime"
	"runtime/debug"
)

// firstHeap is the size in MiB that the heap reaches before garbage is first collected. The runtime begins with 4 MiB, and a publisher
// of a few packages spends a third of its processor time on collecting what ends with it anyway.
const firstHeap = 32

// collectLate puts off the first garbage collection. From the second one on, GOGC is what it would be.
func collectLate() {
	const runtimeBegins = 4
	gogc := debug.SetGCPercent(100 * firstHeap / runtimeBegins)
	runtime.AddCleanup(new([64]byte), func(gogc int) { debug.SetGCPercent(gogc) }, gogc)
}
