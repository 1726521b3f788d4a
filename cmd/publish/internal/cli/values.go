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

// Size formats a number of bytes for people: 3.1 GiB.
func Size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// Short cuts a text to a number of characters.
func Short(text string, room int) string {
	all := []rune(text)
	if len(all) <= room || room < 4 {
		return text
	}
	return string(all[:room-3]) + "..."
}

// Prefixed returns the path of a mirror as the prefix of a line about it; empty for the destination itself.
func Prefixed(mirror string) string {
	if mirror == "" {
		return ""
	}
	return mirror + ": "
}

// Below adds to an error the mirror of a tree in which it occurred.
func Below(path string, err error) error {
	if path == "" || err == nil {
		return err
	}
	return fmt.Errorf("mirror %q: %w", path, err)
}
