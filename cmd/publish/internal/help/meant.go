package help

import (
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
)

// MainJob is the call that publishes, without the name of a command.
const MainJob = "publish SOURCE DESTINATION"

// elsewhere maps commands of other programs, such as spack buildcache, to the commands here with the same
// effect.
var elsewhere = map[string][]string{
	"check": {"verify"}, "fsck": {"verify"},
	"clean": {"prune"}, "gc": {"prune"},
	"clone": {"copy"}, "cp": {"copy"}, "sync": {"copy"}, "mirror": {"copy"}, "promote": {"copy"},
	"delete": {"withdraw", "remove", "retire"}, "remove": {"withdraw", "retire"}, "rm": {"withdraw", "remove", "retire"},
	"info": {"show"}, "list": {"ls"}, "log": {"history"}, "ls": {"list"},
	"rebuild-index": {"index"}, "reindex": {"index"}, "update-index": {"index"},
	"publish": {MainJob}, "put": {MainJob}, "upload": {MainJob},
}

// Meant returns the existing command that an unknown word probably means: because another program has that name
// for it, or because it is misspelt. The result may be MainJob, and is empty if no command is similar.
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
