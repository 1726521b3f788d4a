package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

// refuseUnknown makes an unknown command below a parent an error of usage, also after publish help. By default
// cobra prints a help text and reports success. A parent that is called alone prints its help.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Run, c.RunE = nil, func(_ *cobra.Command, args []string) error { return helpOn(root, args) }
		}
	}
	refuseBelow(root)
}

func refuseBelow(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.HasSubCommands() && !c.Runnable() {
			help.MarkParent(c)
			c.Args, c.ValidArgsFunction = cobra.ArbitraryArgs, cobra.NoFileCompletions
			c.RunE = func(c *cobra.Command, args []string) error {
				if len(args) > 0 {
					return unknownCommand(c, args[0])
				}
				return c.Help()
			}
		}
		refuseBelow(c)
	}
}

// withList inserts the command list after a parent that is called with a place: publish keys s3://bucket is
// publish keys list s3://bucket.
func withList(root *cobra.Command, args []string) []string {
	parent, rest, err := root.Find(args)
	if err != nil || !help.IsParent(parent) || len(rest) == 0 || !strings.Contains(rest[0], "/") {
		return args
	}
	if list, _, err := parent.Find([]string{"list"}); err != nil || list == parent {
		return args
	}
	return slices.Insert(slices.Clone(args), slices.Index(args, parent.Name())+1, "list")
}

// helpOn prints the help of the command or topic with a name of one or more words.
func helpOn(root *cobra.Command, name []string) error {
	cmd, rest, err := root.Find(name)
	if err != nil || len(rest) > 0 {
		return unknownCommand(cmd, rest[0])
	}
	cmd.InitDefaultHelpFlag()
	return cmd.Help()
}

// unknownCommand returns an error that suggests a command below a parent, or lists all of them.
func unknownCommand(parent *cobra.Command, word string) error {
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			names = append(names, c.Name())
		}
	}
	meant := help.DidYouMean(word, names)
	if meant == "" && parent.HasParent() {
		meant = ": want " + strings.Join(names, ", ")
	}
	if meant == "" {
		meant = ": see publish --help"
	}
	return cli.Fail(cli.ExitUsage, fmt.Errorf("%s %s is no command%s", parent.CommandPath(), word, meant))
}

// nameDestination makes a command, and those below it, name the destination in an error that it holds no
// mirror.
func nameDestination(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		nameDestination(c)
	}
	run, words := cmd.RunE, strings.Fields(cmd.Use)
	if run == nil || len(words) < 2 || !strings.HasPrefix(words[1], "DESTINATION") {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if len(args) == 0 || !errors.Is(err, buildcache.ErrNoMirror) {
			return err
		}
		named := "destination " + redact.URL(args[0])
		if _, another := errors.AsType[*field.PlaceError](err); another || strings.Contains(err.Error(), named) {
			return err
		}
		return fmt.Errorf("%s: %w", named, err)
	}
}
