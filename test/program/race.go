//go:build race

package program

var race = []string{"-race"}
