package key

import "time"

// SetClock makes it another time for this package until the function that it returns is called.
func SetClock(t time.Time) func() {
	was := now
	now = func() time.Time { return t }
	return func() { now = was }
}
