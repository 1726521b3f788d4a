package query

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (c *constraint) setVersions(t token) error {
	if c.versions != nil {
		return errors.New("a package has one version")
	}
	all, err := parseVersions(t.text[1:])
	c.versions = [][]versionRange{all}
	return err
}

// compilerFlags are the parameters that are lists of flags.
var compilerFlags = []string{"cflags", "cxxflags", "fflags", "ldflags", "ldlibs", "cppflags"}

// attributes are the keys that are not variants.
var attributes = append([]string{"arch", "architecture", "platform", "os", "operating_system", "target", "namespace"}, compilerFlags...)

// setFlag adds +name or ~name to a constraint.
func (c *constraint) setFlag(t token) error {
	if slices.Contains(attributes, t.key) {
		return fmt.Errorf("%s is no variant: write %s=VALUE", t.key, t.key)
	}
	return c.setVariant(variant{name: t.key, isBool: true, on: t.value[0] == '+', exact: true, propagated: t.kind == propagatedFlag})
}

// setPair adds key=value to a constraint.
func (c *constraint) setPair(t token) error {
	key, exact := strings.CutSuffix(t.key, ":")
	propagated := t.kind == propagatedPair
	if propagated && slices.Contains(attributes, key) && !slices.Contains(compilerFlags, key) {
		return fmt.Errorf("%s is not passed on to dependencies: write one =", key)
	}
	switch key {
	case "arch", "architecture":
		parts := strings.Split(t.value, "-")
		if len(parts) != 3 {
			return c.setArchitecture("", "", t.value)
		}
		return c.setArchitecture(parts[0], parts[1], parts[2])
	case "platform":
		return c.setArchitecture(t.value, "", "")
	case "os", "operating_system":
		return c.setArchitecture("", t.value, "")
	case "target":
		return c.setArchitecture("", "", t.value)
	case "namespace":
		c.namespace = t.value
		return nil
	}
	if slices.Contains(compilerFlags, key) {
		if c.flags == nil {
			c.flags = make(map[string][]string)
		}
		c.flags[key] = append(c.flags[key], flagsOf(t.value)...)
		return nil
	}
	v := variant{name: key, exact: exact, propagated: propagated}
	switch strings.ToUpper(t.value) {
	case "TRUE", "FALSE":
		v.isBool, v.on, v.exact = true, strings.ToUpper(t.value) == "TRUE", true
	case "*":
		v.exact = false // any value matches
	default:
		v.values = strings.Split(t.value, ",")
		slices.Sort(v.values)
		v.values = slices.Compact(v.values)
		if slices.Contains(v.values, "*") {
			return errors.New("* stands for any value, and only by itself")
		}
	}
	return c.setVariant(v)
}

func (c *constraint) setVariant(v variant) error {
	if slices.ContainsFunc(c.variants, func(w variant) bool { return w.name == v.name }) {
		return fmt.Errorf("the variant %s is given twice", v.name)
	}
	c.variants = append(c.variants, v)
	return nil
}

func (c *constraint) setArchitecture(platform, os, target string) error {
	if isReserved(os) {
		return fmt.Errorf("os=%s means the host on which Spack runs: name an operating system", os)
	}
	if platform != "" && c.platform != nil || os != "" && c.os != nil || target != "" && c.targets != nil {
		return errors.New("a package has one architecture")
	}
	if platform != "" {
		c.platform = []string{platform}
	}
	if os != "" {
		c.os = []string{os}
	}
	if target != "" {
		all, err := parseTargets(target)
		c.targets = [][]targetRange{all}
		return err
	}
	return nil
}

// flagsOf splits compiler flags. A word that does not begin with - is the value of the flag before it.
func flagsOf(text string) []string {
	var all []string
	for _, word := range strings.Fields(text) {
		if len(all) > 0 && !strings.HasPrefix(word, "-") {
			all[len(all)-1] += " " + word
		} else {
			all = append(all, word)
		}
	}
	return all
}

// DepTypes is a set of dependency types.
type DepTypes uint8

// The dependency types.
const (
	Build DepTypes = 1 << iota
	Link
	Run
	Test
)

var depTypeNames = []string{"build", "link", "run", "test"}

// String returns the names of the types, separated by commas.
func (d DepTypes) String() string { return strings.Join(d.Names(), ",") }

// Names returns the names of the types.
func (d DepTypes) Names() []string {
	all := []string{}
	for i, name := range depTypeNames {
		if d&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return all
}

// ParseDepTypes parses names of dependency types. The name "all" means every type.
func ParseDepTypes(names []string) (DepTypes, error) {
	var d DepTypes
	for _, name := range names {
		i := slices.Index(depTypeNames, name)
		switch {
		case name == "all":
			d |= Build | Link | Run | Test
		case i < 0:
			return 0, fmt.Errorf("%q is no type of dependency: want %s or all", name, strings.Join(depTypeNames, ", "))
		default:
			d |= 1 << i
		}
	}
	return d, nil
}

// add adds a dependency and returns its constraint. Two dependencies with the same name and types become one, which
// must satisfy both constraints.
func (c *constraint) add(e *edge) (*constraint, error) {
	var same []*edge
	for _, other := range c.edges {
		if other.to.name == e.to.name && e.to.name != "" {
			same = append(same, other)
		}
	}
	for _, other := range same {
		if other.types == e.types {
			if !other.to.meets(e.to) {
				return nil, fmt.Errorf("%s is a dependency twice, and nothing can be both", e.to.name)
			}
			other.to.merge(e.to)
			other.virtuals = append(other.virtuals, e.virtuals...)
			return other.to, nil
		}
	}
	for _, other := range same {
		if other.types&e.types != 0 || other.types&(Link|Run) != 0 && e.types&(Link|Run) != 0 {
			return nil, fmt.Errorf("%s is a dependency twice, with conflicting deptypes", e.to.name)
		}
	}
	c.edges = append(c.edges, e)
	return e.to, nil
}

// meets reports whether a package can satisfy both constraints.
func (c *constraint) meets(d *constraint) bool {
	differ := func(a, b []string) bool { return len(a) > 0 && len(b) > 0 && a[0] != b[0] }
	if c.namespace != "" && d.namespace != "" && c.namespace != d.namespace || differ(c.os, d.os) || differ(c.platform, d.platform) ||
		!strings.HasPrefix(c.hash, d.hash) && !strings.HasPrefix(d.hash, c.hash) {
		return false
	}
	for _, a := range c.versions {
		for _, b := range d.versions {
			if !slices.ContainsFunc(a, func(r versionRange) bool { return slices.ContainsFunc(b, r.meets) }) {
				return false
			}
		}
	}
	return all(c.variants, func(v variant) bool { return all(d.variants, v.meets) })
}

// meets reports whether a package can satisfy both variants.
func (want variant) meets(other variant) bool {
	switch {
	case want.name != other.name || !want.exact && !other.exact:
		return true
	case !want.exact:
		return other.meets(want)
	case want.isBool:
		return other.isBool && want.on == other.on || !other.isBool && len(other.values) == 0
	}
	return all(other.values, func(v string) bool { return slices.Contains(want.values, v) }) && (!other.exact || len(want.values) == len(other.values))
}

// merge adds the requirements of d to c.
func (c *constraint) merge(d *constraint) {
	if c.namespace == "" {
		c.namespace = d.namespace
	}
	if len(d.hash) > len(c.hash) {
		c.hash = d.hash
	}
	c.versions = append(c.versions, d.versions...)
	c.platform, c.os = append(c.platform, d.platform...), append(c.os, d.os...)
	c.targets = append(c.targets, d.targets...)
	c.variants = append(c.variants, d.variants...)
	if c.flags == nil {
		c.flags = maps.Clone(d.flags)
		return
	}
	for name, flags := range d.flags {
		c.flags[name] = append(c.flags[name], flags...)
	}
}
