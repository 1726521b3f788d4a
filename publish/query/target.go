package query

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// targetsJSON lists the parents of each microarchitecture. testdata/record.py generates it from archspec's
// microarchitectures.json.
//
//go:embed targets.json
var targetsJSON []byte

// targets maps each microarchitecture that archspec knows to itself and its ancestors: all targets whose binaries
// it runs.
var targets = sync.OnceValue(func() map[string]map[string]bool {
	var parents map[string][]string
	if err := json.Unmarshal(targetsJSON, &parents); err != nil {
		panic(err) // our own text
	}
	all := make(map[string]map[string]bool)
	var closure func(name string) map[string]bool
	closure = func(name string) map[string]bool {
		if known, ok := all[name]; ok {
			return known
		}
		set := map[string]bool{name: true}
		for _, p := range parents[name] {
			for a := range closure(p) {
				set[a] = true
			}
		}
		all[name] = set
		return set
	}
	for name := range parents {
		closure(name)
	}
	return all
})

// Runs reports whether a processor runs binaries for a target, according to archspec. A processor that archspec
// does not know runs only its own target.
func Runs(processor, target string) bool {
	return processor == target || targets()[processor][target]
}

// knownTarget reports whether archspec knows a microarchitecture.
func knownTarget(name string) bool { return targets()[name] != nil }

// A targetRange is one target, or all targets between two bounds. An empty bound means no limit.
type targetRange struct {
	lo, hi string
	ranged bool
}

// parseTargets parses the value of target= in a query. It returns nil for *, which matches any target.
func parseTargets(text string) ([]targetRange, error) {
	if text == "*" {
		return nil, nil
	}
	var all []targetRange
	for _, part := range strings.Split(text, ",") {
		r := targetRange{}
		r.lo, r.hi, r.ranged = strings.Cut(part, ":")
		if isReserved(r.lo) || isReserved(r.hi) {
			return nil, fmt.Errorf("target=%s means the host on which Spack runs: name a target", text)
		}
		for _, bound := range []string{r.lo, r.hi} {
			if r.ranged && bound != "" && !knownTarget(bound) {
				return nil, fmt.Errorf("target=%s: %q is no microarchitecture that archspec knows", text, bound)
			}
		}
		all = append(all, r)
	}
	return all, nil
}

func isReserved(name string) bool {
	switch name {
	case "default_target", "default_os", "frontend", "fe", "backend", "be":
		return true
	}
	return false
}

// holds reports whether a target is in the range.
func (r targetRange) holds(target string) bool {
	if !r.ranged {
		return target == r.lo
	}
	return (r.lo == "" || Runs(target, r.lo)) && (r.hi == "" || Runs(r.hi, target))
}

// Targets returns the microarchitectures that archspec knows, sorted.
func Targets() []string { return slices.Sorted(maps.Keys(targets())) }
