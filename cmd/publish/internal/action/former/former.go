// Package former knows the former names of inputs of the action, from before inputs had the names of settings.
// A former name still works, and its use is reported.
package former

import (
	"fmt"
	"slices"
	"strings"
)

// A Name is a former name of an input.
type Name struct {
	Name, Now string
	value     func(given string) string // converts a former value; nil: unchanged
}

// Names are all former names, in the order of action.yml.
var Names = []Name{
	{"aws-region", "region", nil},
	{"signing-key", "sign-key", nil},
	{"signing-public-key", "sign-public-key", nil},
	{"signing-passphrase", "sign-passphrase", nil},
	{"s3-endpoint", "endpoint-url", nil},
	{"part-size-mib", "part-size", func(mib string) string { return mib + "MiB" }},
	{"cloudfront-distribution-id", "distribution-id", nil},
}

// Advice is the message about the use of a former name.
func (n Name) Advice() string {
	return fmt.Sprintf("input %s is deprecated: it is called %s now", n.Name, n.Now)
}

// Look returns the value of an input, also under a former name, which is returned if it was used. Using both
// names is an error. get returns the text of an input.
func Look(get func(input string) string, name string) (given string, used *Name, err error) {
	given = get(name)
	for _, n := range Names {
		old := get(n.Name)
		if n.Now != name || strings.TrimSpace(old) == "" {
			continue
		}
		if strings.TrimSpace(given) != "" {
			return given, nil, fmt.Errorf("%s, its former name, is given, too: want one", n.Name)
		}
		if n.value != nil {
			old = n.value(strings.TrimSpace(old))
		}
		return old, &n, nil
	}
	return given, nil, nil
}

// Is reports whether name is a former name of an input.
func Is(name string) bool {
	return slices.ContainsFunc(Names, func(n Name) bool { return n.Name == name })
}

// Of returns the former names of an input.
func Of(name string) (all []string) {
	for _, n := range Names {
		if n.Now == name {
			all = append(all, n.Name)
		}
	}
	return all
}
