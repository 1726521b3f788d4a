//go:build hasty

package notice

import "time"

// minute is three seconds in a program for tests, so that a prune waits for no quarter of an hour. It must not work beside a program that is released.
const minute = 3 * time.Second
