//go:build hasty

package notice

import "time"

// minute is three seconds in a program for tests, so that a prune does not take a quarter of an hour. Such a
// program must not share a mirror with a released program.
const minute = 3 * time.Second
