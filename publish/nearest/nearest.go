// Package nearest finds the known word that is most like a misspelt one.
package nearest

import "strings"

// Word returns the known word that is most like a misspelt one; empty if none is near.
func Word(word string, known []string) string {
	best, near := "", min(max(2, len(word)/3), len(word)-1)+1 // so that no word of one or two letters is near to all
	for _, k := range known {
		if len(word) > 2 && (strings.HasPrefix(k, word) || strings.HasSuffix(k, "-"+word)) {
			return k
		}
		if d := edits(word, k); d < near {
			best, near = k, d
		}
	}
	return best
}

// DidYouMean returns a suggestion for a misspelt word: ", did you mean X?"; empty if no known word is near.
func DidYouMean(word string, known []string) string {
	if n := Word(word, known); n != "" {
		return ", did you mean " + n + "?"
	}
	return ""
}

// NoPackage says that no package has a name, and which one may be meant.
func NoPackage(name string, known []string) string {
	return "no package is called " + name + DidYouMean(name, known)
}

// edits counts the letters to be inserted, deleted or replaced to turn a into b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
