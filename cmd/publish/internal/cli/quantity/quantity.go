// Package quantity holds kinds of flag values that package pflag lacks: numbers of bytes, rates, ages,
// durations and counts, as people write them.
package quantity

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// Timeout is a flag for the limit of a duration, such as 30m; 0: no limit.
func Timeout(d *time.Duration) pflag.Value { return (*timeout)(d) }

// A timeout is a duration of 0 or more.
type timeout time.Duration

// String implements pflag.Value.
func (t *timeout) String() string {
	if *t == 0 {
		return ""
	}
	return time.Duration(*t).String()
}

// Type implements pflag.Value.
func (*timeout) Type() string { return "duration" }

// Set implements pflag.Value.
func (t *timeout) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("must be a duration of 0 or more, such as 30m")
	}
	*t = timeout(d)
	return nil
}

// Bytes is a flag for a number of bytes with a unit, such as 16MiB.
func Bytes(n *int64) pflag.Value { return bytesValue{n: n} }

// Rate is a flag for a number of bytes per second, such as 50MB/s.
func Rate(n *int64) pflag.Value { return bytesValue{n: n, rate: true} }

// A bytesValue is a number of bytes, or of bytes per second.
type bytesValue struct {
	n    *int64
	rate bool
}

func (v bytesValue) String() string {
	if v.n == nil || *v.n == 0 {
		return ""
	}
	if v.rate {
		return humanize.Bytes(uint64(*v.n)) + "/s"
	}
	return humanize.IBytes(uint64(*v.n))
}

func (v bytesValue) Type() string { return "size" }

func (v bytesValue) Set(text string) error {
	if v.rate {
		text = strings.TrimSuffix(text, "/s")
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n > 1<<50 {
		return fmt.Errorf("%q is no size: want a number with kB, MB, GB, KiB, MiB or GiB", text)
	}
	*v.n = int64(n)
	return nil
}

// Age is a flag for a duration that may be long: 90d, 2w, 36h.
func Age(d *time.Duration) pflag.Value { return ageValue{d} }

type ageValue struct{ d *time.Duration }

func (v ageValue) String() string {
	switch {
	case v.d == nil || *v.d == 0:
		return ""
	case *v.d%day == 0:
		return fmt.Sprintf("%dd", *v.d/day)
	}
	return v.d.String()
}

func (ageValue) Type() string { return "age" }

const day = 24 * time.Hour

// maxDays keeps the duration within the range of a Duration.
const maxDays = 36500

func (v ageValue) Set(text string) error {
	units := map[string]time.Duration{"d": day, "w": 7 * day}
	for unit, length := range units {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil || n > maxDays {
				return fmt.Errorf("%q is no age: want a number with d, w, h or m, such as 90d", text)
			}
			*v.d = time.Duration(n) * length
			return nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no age: want a number with d, w, h or m, such as 90d", text)
	}
	*v.d = d
	return nil
}

// Count is a flag for a number of at least 1. 0, the default of the program, is not shown.
func Count(n *int) pflag.Value { return (*count)(n) }

type count int

// String implements pflag.Value.
func (c *count) String() string {
	if *c == 0 {
		return ""
	}
	return strconv.Itoa(int(*c))
}

// Type implements pflag.Value.
func (*count) Type() string { return "int" }

// Set implements pflag.Value.
func (c *count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return errors.New("want a number of at least 1")
	}
	*c = count(n)
	return nil
}
