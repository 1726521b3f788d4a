package cli

import (
	"fmt"

	"github.com/dustin/go-humanize"
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

// Below makes an error name the mirror of a tree that it is about.
func Below(path string, err error) error {
	if path == "" || err == nil {
		return err
	}
	return fmt.Errorf("mirror %q: %w", path, err)
}
