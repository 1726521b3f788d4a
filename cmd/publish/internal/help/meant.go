package help

import (
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
)

// MainJob is what publishes, and is called without the name of a command.
const MainJob = "publish SOURCE DESTINATION"

// elsewhere are commands of other programs, spack buildcache among them, and the commands here that do the same.
var elsewhere = map[string][]string{
	"check": {"verify"}, "fsck": {"verify"},
	"clean": {"prune"}, "gc": {"prune"},
	"clone": {"copy"}, "cp": {"copy"}, "sync": {"copy"}, "mirror": {"copy"}, "promote": {"copy"},
	"delete": {"withdraw", "remove", "retire"}, "remove": {"withdraw", "retire"}, "rm": {"withdraw", "remove", "retire"},
	"info": {"show"}, "list": {"ls"}, "log": {"history"}, "ls": {"list"},
	"rebuild-index": {"index"}, "reindex": {"index"}, "update-index": {"index"},
	"publish": {MainJob}, "put": {MainJob}, "upload": {MainJob},
}

// Meant returns the command, of those that there are, that was meant with a word that is none: by a program that calls it so, or
// misspelt. It may be MainJob, and is empty if none is near.
func Meant(word string, commands []string) string {
	for _, c := range elsewhere[word] {
		if c == MainJob || slices.Contains(commands, c) {
			return c
		}
	}
	return nearest.Word(word, commands)
}

// DidYouMean returns Meant as a suggestion: ", did you mean X?".
func DidYouMean(word string, commands []string) string {
	if c := Meant(word, commands); c != "" {
		return ", did you mean " + c + "?"
	}
	return ""
}
