package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra/removal"
)

// allowed are the things that may go in this one run, from --allow removal:NAME. It is
// no setting: what is permitted once must not be permitted from then on.
type allowed struct{ names []string }

const removalOf = "removal:"

func newAllow(cmd *cobra.Command) *allowed {
	a := &allowed{}
	cmd.Flags().Var(a, "allow", "permit, in this run, that something goes which others depend on, as `removal:NAME` (repeat)")
	return a
}

// Set takes one or more removal:NAME, separated by commas.
func (a *allowed) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		name, ok := strings.CutPrefix(one, removalOf)
		if !ok || name == "" {
			return fmt.Errorf("%q: want %sNAME", one, removalOf)
		}
		a.names = append(a.names, name)
	}
	return nil
}

func (a *allowed) String() string { return strings.Join(a.names, ",") }

// Type is how the help shows the value.
func (a *allowed) Type() string { return "removal:NAME" }

func (a *allowed) has(name string) bool { return slices.Contains(a.names, name) }

// warnUnused says which --allow permits nothing, most likely because it is misspelt.
func (a *allowed) warnUnused(w io.Writer, goes func(name string) bool) {
	for _, name := range a.names {
		if !goes(name) {
			fmt.Fprintf(w, "warning: --allow %s%s permits nothing: nothing of this name goes\n", removalOf, name)
		}
	}
}

// isLost says whether a name is among the losses.
func isLost(losses []removal.Loss) func(name string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(losses, func(l removal.Loss) bool { return l.Name == name })
	}
}

// check refuses the losses that are not allowed. form writes the way to allow them.
func (a *allowed) check(s site, losses []removal.Loss, form func(names string) string) error {
	var what, names []string
	for _, l := range losses {
		if !a.has(l.Name) {
			what = append(what, fmt.Sprintf("\n  %s (%s)", l.Name, l.What))
		}
		// What is allowed already as well: the next command line is to allow all of it.
		if name := removalOf + l.Name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(what) == 0 {
		return nil
	}
	why := "the settings given here differ from those that the stack remembers (infra settings --deployed)"
	if len(s.live.settings) == 0 {
		why = "the stack was deployed by a version that did not store its settings: give them all once, for example with --config"
	}
	return hinted{fmt.Errorf("this deployment would take away from stack %s:%s", s.StackName, strings.Join(what, "")),
		why + "; to remove it on purpose: " + form(strings.Join(names, ","))}
}

// asFlag is how infra's own commands allow removals.
func asFlag(names string) string { return "--allow " + strings.ReplaceAll(names, ",", " --allow ") }

// asContext is how plain cdk allows removals.
func asContext(names string) string { return "-c allow=" + names }

// fallback adds a hint to an error that has none.
func fallback(err error, hint string) error {
	var u usage
	if hintFor(err) != "" || errors.As(err, &u) {
		return err
	}
	return hinted{err, hint}
}
