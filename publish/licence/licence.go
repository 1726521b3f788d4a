// Package licence judges which packages may be published: by a list, and by the licence in the recipe of a
// package.
//
// Spack stores the recipe of a package in its tarball. The recipe is parsed as text and never run, so computed
// values are unknown. What cannot be decided counts against publishing.
package licence

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// Rules say what may be published. The zero Rules refuse packages whose recipes forbid redistribution.
type Rules struct {
	Packages Names `yaml:"packages"`
	Licenses Names `yaml:"licenses"`
	// Unknown says what to do with a package whose licence is unknown: allow (default) or deny.
	Unknown string `yaml:"unknown"`
}

// Names are patterns, which may hold *, ? and [...].
type Names struct {
	// Allow are allowed whatever other rules say. For licences: if the list is not empty, other licences are
	// refused.
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
}

// Validate returns all mistakes in the rules.
func (r *Rules) Validate() error {
	var errs []error
	for _, p := range slices.Concat(r.Packages.Allow, r.Packages.Deny, r.Licenses.Allow, r.Licenses.Deny) {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			errs = append(errs, fmt.Errorf("%q is no pattern: want a name that may hold *, ? and [...]", p))
		}
	}
	if r.Unknown != "" && r.Unknown != "allow" && r.Unknown != "deny" {
		errs = append(errs, fmt.Errorf("unknown: %q: want allow or deny", r.Unknown))
	}
	return errors.Join(errs...)
}

// Facts are the statements of a recipe about a package.
type Facts struct {
	Known    bool   // the package has a recipe
	Licence  string // an SPDX expression, as written in the recipe; empty: none
	NoBinary string // why binaries may not be redistributed; empty: they may
	About    string // the first paragraph of its description
	Homepage string // as written in the recipe
}

// byName judges a package by its name alone. decided is false if the recipe decides.
func (r *Rules) byName(name string) (reason string, decided bool) {
	if matches(r.Packages.Allow, name) {
		return "", true
	}
	if matches(r.Packages.Deny, name) {
		return "packages.deny names it", true
	}
	return "", false
}

// Refuses returns why a package may not be published; empty: it may.
func (r *Rules) Refuses(name string, f Facts) string {
	reason, decided := r.byName(name)
	switch {
	case decided:
		return reason
	case f.NoBinary != "":
		return f.NoBinary
	case f.Licence != "":
		return r.licence(f.Licence)
	case r.Unknown != "deny":
		return ""
	case !f.Known:
		return "its licence is not known: its tarball has no recipe, and unknown is deny"
	}
	return "its licence is not known: its recipe names none, and unknown is deny"
}

func (r *Rules) licence(text string) string {
	e, err := parse(text)
	if err != nil {
		e = expression{name: strings.TrimSpace(text)}
	}
	if bad := e.refused(r.permits); bad != "" {
		if matches(r.Licenses.Deny, bad) {
			return fmt.Sprintf("its licence is %s, and licenses.deny has %s", text, bad)
		}
		return fmt.Sprintf("its licence is %s, and licenses.allow does not have %s", text, bad)
	}
	return ""
}

// permits reports whether a licence may be published. An exception (WITH) is part of it; patterns may omit it.
func (r *Rules) permits(name string) bool {
	base, _, _ := strings.Cut(name, " WITH ")
	if matches(r.Licenses.Deny, name) || matches(r.Licenses.Deny, base) {
		return false
	}
	return len(r.Licenses.Allow) == 0 || matches(r.Licenses.Allow, name) || matches(r.Licenses.Allow, base)
}

// unslashed replaces the slash, which path.Match treats specially: the licence of some recipes is an address.
var unslashed = strings.NewReplacer("/", "\x00")

// matches ignores case, as SPDX does.
func matches(patterns []string, name string) bool {
	name = unslashed.Replace(strings.ToLower(name))
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(unslashed.Replace(strings.ToLower(p)), name)
		return ok
	})
}

// Of returns the statements of a recipe about a package of a graph. Nil means that there is no recipe.
func (r *Recipe) Of(g *query.Graph, n *query.Node) Facts {
	if r == nil {
		return Facts{}
	}
	f := Facts{Known: true, About: r.about, Homepage: r.homepage}
	var all []string
	for _, s := range r.licences {
		if s.applies(g, n) && !slices.Contains(all, s.text) {
			all = append(all, s.text)
		}
	}
	f.Licence = strings.Join(all, " AND ")
	if len(all) > 1 {
		f.Licence = "(" + strings.Join(all, ") AND (") + ")"
	}
	for _, s := range r.noBinary {
		if s.applies(g, n) {
			f.NoBinary = "its recipe says that binaries of it may not be redistributed"
		}
	}
	for _, base := range r.bases {
		if strings.HasPrefix(base, "IntelOneApi") { // it says so in a file that no tarball has
			f.NoBinary = "its recipe is an " + base + ", of which binaries may not be redistributed"
		}
	}
	return f
}

// applies reports whether the conditions of a statement hold, or cannot be decided.
func (s statement) applies(g *query.Graph, n *query.Node) bool {
	for _, when := range s.when {
		q, err := query.Parse(when)
		if err == nil && n != nil && !q.Matches(g, n) {
			return false
		}
	}
	return !s.never
}
