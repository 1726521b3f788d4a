package cli

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// OneOf reports whether v is one of all.
func OneOf[T comparable](v T, all ...T) bool {
	for _, a := range all {
		if v == a {
			return true
		}
	}
	return false
}

// Bytes is a flag for a number of bytes, written as people do: 16MiB.
func Bytes(n *int64) pflag.Value { return bytesValue{n: n} }

// Rate is a flag for a number of bytes a second: 50MB/s.
func Rate(n *int64) pflag.Value { return bytesValue{n: n, rate: true} }

// A bytesValue is a number of bytes, or of bytes a second.
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

// Size is a number of bytes for people: 3.1 GiB.
func Size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// Short is a text as far as there is room for so many characters.
func Short(text string, room int) string {
	all := []rune(text)
	if len(all) <= room || room < 4 {
		return text
	}
	return string(all[:room-3]) + "..."
}

// Prefixed returns the path of a mirror in front of a line about it; nothing for the destination itself.
func Prefixed(mirror string) string {
	if mirror == "" {
		return ""
	}
	return mirror + ": "
}
