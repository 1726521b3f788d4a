package query

import "strings"

// Arguments joins what a shell has split: an argument that has no name and no hash, such as ^openmpi, +mpi or target=zen4, is
// part of the spec in the argument before it, as in Spack. The first argument, and one behind what isFile reports, begins a spec.
func Arguments(args []string, isFile func(string) bool) []string {
	var specs []string
	open := false // what comes next may be part of the last spec
	for _, arg := range args {
		if open && continues(arg) {
			specs[len(specs)-1] += " " + arg
			continue
		}
		specs = append(specs, arg)
		open = !isFile(arg)
	}
	return specs
}

// continues reports whether text cannot begin the spec of a package that it names.
func continues(text string) bool {
	t, ok := next(strings.TrimSpace(text))
	if !ok {
		return false
	}
	switch t.kind {
	case edgeBegins, dependency, versions, propagatedFlag, flag, propagatedPair, pair:
		return true
	}
	return false
}
