package policy

import "strings"

// Wide says whether a pattern of git refs fits any name that a user with write access to the
// repository can give to a new branch or tag: refs/*, refs/heads/*, refs/tags/?* and the like.
// A pattern with a beginning of its own, such as refs/tags/v*, can be protected by a rule
// of the repository, and is not wide.
func Wide(ref string) bool {
	wildcard := strings.IndexAny(ref, "*?")
	if wildcard < 0 {
		return false
	}
	slashes := strings.Count(ref[:wildcard], "/")
	return slashes < 2 || slashes == 2 && ref[wildcard-1] == '/'
}
