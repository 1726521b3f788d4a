// Package shell writes words for commands that are suggested to people. A shell that is given one
// takes the word for what it is and runs nothing of it, whatever others have put into it.
package shell

import (
	"regexp"
	"strings"
)

// plain matches what no shell changes. An option would be taken for one.
var plain = regexp.MustCompile(`^[A-Za-z0-9@%_+:,./][A-Za-z0-9@%_+=:,./-]*$`)

// Quote returns a word as a POSIX shell reads it.
func Quote(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
