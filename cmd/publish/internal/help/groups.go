// Package help shows commands and flags: in groups, wrapped to the width of the terminal, with examples.
//
// The GroupID of a command is one of the constants here. Group adds flags to a group; other flags are listed as
// those of the command itself. A Choice is a flag whose values are a fixed set, which the shell completes.
package help

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The groups of commands. A command without one is listed last.
const (
	Publishing  = "publishing"
	Looking     = "looking"
	Maintaining = "maintaining"
	Serving     = "serving"
	Preparing   = "preparing"
	Other       = "other"
)

// Groups returns the groups of commands, in the order in which they are listed.
func Groups() []*cobra.Group {
	return []*cobra.Group{
		{ID: Publishing, Title: "Publish and carry packages"},
		{ID: Looking, Title: "Look into a mirror"},
		{ID: Maintaining, Title: "Maintain a mirror"},
		{ID: Serving, Title: "Daemon and indexer"},
		{ID: Preparing, Title: "Prepare and check"},
		{ID: Other, Title: "Other commands"},
	}
}

// Titles of groups of flags that have the same meaning for every command.
const (
	Place      = "Place and credentials"
	NewObjects = "New objects"
	Speed      = "Speed"
	Readers    = "CloudFront and readers"
)

// parent is the annotation of a command that only holds others. Called alone, it shows its help.
const parent = "publish_parent"

// MarkParent marks a command that only holds others, so that its usage shows them.
func MarkParent(cmd *cobra.Command) {
	if cmd.Annotations == nil {
		cmd.Annotations = make(map[string]string)
	}
	cmd.Annotations[parent] = "true"
}

// IsParent reports whether a command only holds others.
func IsParent(cmd *cobra.Command) bool { return cmd.Annotations[parent] != "" }

// groupOfFlag is the annotation of a flag that names its group.
const groupOfFlag = "publish_group"

// GroupOf returns the title of the group that a flag is in; empty for none.
func GroupOf(f *pflag.Flag) string {
	if titles := f.Annotations[groupOfFlag]; len(titles) > 0 {
		return titles[0]
	}
	return ""
}

// Group adds flags to a set as a group with a title. A flag is in at most one group.
func Group(fs *pflag.FlagSet, title string, add func(*pflag.FlagSet)) {
	part := pflag.NewFlagSet(title, pflag.ContinueOnError)
	part.SortFlags = false
	add(part)
	part.VisitAll(func(f *pflag.Flag) {
		if f.Annotations == nil {
			f.Annotations = make(map[string][]string)
		}
		if f.Annotations[groupOfFlag] == nil {
			f.Annotations[groupOfFlag] = []string{title}
		}
		fs.AddFlag(f)
	})
}

// A section is a group of flags with its title.
type section struct {
	title string
	flags []*pflag.Flag
}

// sections returns the flags of a set by group: first those without a group, then the groups in the order of
// their first flags.
func sections(fs *pflag.FlagSet) []section {
	all := []section{{title: "Flags"}}
	at := map[string]int{"": 0}
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		title := GroupOf(f)
		i, ok := at[title]
		if !ok {
			i = len(all)
			at[title] = i
			all = append(all, section{title: title})
		}
		all[i].flags = append(all[i].flags, f)
	})
	return all
}
