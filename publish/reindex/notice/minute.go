//go:build !hasty

package notice

import "time"

// minute is the unit of the times that publishers and pruners share.
const minute = time.Minute
