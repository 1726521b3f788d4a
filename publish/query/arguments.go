package query

import "strings"

// Arguments joins specs that a shell has split. As in Spack, an argument without a name or hash, such as ^openmpi,
// +mpi or target=zen4, continues the spec in the argument before it. The first argument begins a spec, and so does
// an argument after a file, as isFile reports it.
func Arguments(args []string, isFile func(string) bool) []string {
	var specs []string
	open := false // the next argument may continue the last spec
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

// continues reports whether text continues a spec: it does not begin with a name or hash.
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
