package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// transient are the settings that say where and how one command runs. They are never
// remembered: by them the stack is found that remembers the others.
var transient = []string{"config", "stack-name", "account", "region"}

// spoken are the settings that were given, here or in an earlier deployment, and do not
// only have their defaults. They are what the stack remembers.
func (s *settings) spoken() map[string][]string {
	all := map[string][]string{}
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed && !slices.Contains(transient, f.Name) {
			all[f.Name] = valuesOf(f)
		}
	})
	return all
}

func valuesOf(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return slices.Clone(list.GetSlice())
	}
	if takenBack(f) {
		return []string{none}
	}
	return []string{f.Value.String()}
}

// remember gives each setting that nothing has spoken for the value that it had in the
// last deployment. So a flag changes one setting and leaves the others as they are.
func (s *settings) remember(stored map[string][]string) error {
	given := s.spoken()
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if slices.Contains(transient, name) {
			continue
		}
		if s.flags.Lookup(name) == nil {
			return hinted{fmt.Errorf("the stack was deployed with the setting %s, which this version does not know", name),
				"a later version deployed it: build infra from a later commit"}
		}
		if s.flags.Changed(name) || overtaken(name, given, stored) {
			continue
		}
		for _, v := range stored[name] {
			if err := s.flags.Set(name, v); err != nil {
				return fmt.Errorf("setting %s, as the stack remembers it: %w", name, err)
			}
		}
	}
	return nil
}

// belongs says to which settings a setting belongs: it means something else, or nothing,
// once one of them has another value.
var belongs = map[string][]string{
	"hosted-zone-id":  {"domain"},
	"zone-name":       {"domain", "hosted-zone-id"},
	"certificate-arn": {"domain"},
	"github-repo-id":  {"github-org", "github-repo"},
	"github-owner-id": {"github-org", "github-repo"}, // the numbers go together
}

// excludes are settings of which one takes the place of the others.
var excludes = [][]string{
	{"suffix", "bucket-name", "existing-bucket"},
	{"trust-any-ref", "environment"},
	{"trust-any-ref", "ref"},
}

// overtaken says whether a remembered setting makes no sense beside what was given.
func overtaken(name string, given, stored map[string][]string) bool {
	for _, other := range belongs[name] {
		now, ok := given[other]
		if ok && !slices.Equal(now, stored[other]) {
			// A zone stays right for another name below it.
			return name == "certificate-arn" || other != "domain" || len(now) == 1 && orNone(now[0]) == ""
		}
	}
	for _, group := range excludes {
		if !slices.Contains(group, name) {
			continue
		}
		for _, other := range group {
			// --trust-any-ref=false excludes nothing, and neither does what is taken back.
			if now, ok := given[other]; ok && other != name && !slices.Equal(now, []string{"false"}) && !slices.Equal(now, []string{none}) {
				return true
			}
		}
	}
	return false
}

// asFile writes settings so that --config reads them. JSON strings are YAML, whatever is
// in them.
func asFile(settings map[string][]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if len(settings[name]) == 0 { // an empty list is not given
			continue
		}
		quoted := make([]string, 0, len(settings[name]))
		for _, v := range settings[name] {
			quoted = append(quoted, fmt.Sprintf("%q", v))
		}
		if _, isList := newSettings().flags.Lookup(name).Value.(pflag.SliceValue); isList {
			fmt.Fprintf(&b, "%s: [%s]\n", name, strings.Join(quoted, ", "))
		} else {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(quoted, ""))
		}
	}
	return b.String()
}
