package help

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/once"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
)

const (
	widest    = 110 // longer lines are hard to read
	indent    = 2
	leftMax   = 30 // width of a flag whose text begins on the same line
	leastText = 20 // least width of the text beside a flag
)

// Install makes a program show its help in groups, in a style, and completes the values of its flags.
func Install(root *cobra.Command, s style.Style) {
	inOrder(root)
	root.AddGroup(Groups()...)
	root.SetHelpCommandGroupID(Other)
	root.SetCompletionCommandGroupID(Other)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		_, _ = io.WriteString(cmd.OutOrStdout(), Text(cmd, s)) // the stream keeps the error
	})
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := io.WriteString(cmd.OutOrStderr(), Text(cmd, s))
		return err
	})
}

// inOrder lists the flags of a command, and of those below it, in the order in which they were added.
func inOrder(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	for _, c := range cmd.Commands() {
		inOrder(c)
	}
}

// Text returns the help of a command.
func Text(cmd *cobra.Command, s style.Style) string {
	p := page{style: s, width: min(s.Columns(), widest)}
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	p.b.WriteString(wrap(long, p.width))
	p.b.WriteString("\n")
	if cmd.Runnable() || cmd.HasAvailableSubCommands() {
		p.usage(cmd)
	}
	if cmd.Example != "" {
		p.title("Examples")
		for line := range strings.Lines(cmd.Example) {
			p.b.WriteString(continued(strings.TrimRight(line, "\n"), p.width))
		}
	}
	p.commands(cmd)
	all := sections(cmd.Flags())
	left := leftOf(all, p.width)
	for _, part := range all {
		p.flags(part, left)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&p.b, "\n%s\n", wrap(fmt.Sprintf("`%s COMMAND --help` explains a command.", cmd.CommandPath()), p.width))
	}
	return p.b.String()
}

// A page is a help text under construction.
type page struct {
	b     strings.Builder
	style style.Style
	width int
}

func (p *page) title(text string) { fmt.Fprintf(&p.b, "\n%s\n", p.style.Bold(text+":")) }

func (p *page) usage(cmd *cobra.Command) {
	p.title("Usage")
	if cmd.Runnable() && !IsParent(cmd) {
		p.b.WriteString(Hang("  ", cmd.UseLine(), p.width, indent+4))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&p.b, "  %s COMMAND\n", cmd.CommandPath())
	}
}

// commands lists the commands below one in their groups, followed by the topics.
func (p *page) commands(cmd *cobra.Command) {
	all := append(cmd.Groups(), &cobra.Group{Title: "Commands"})
	for _, g := range all {
		var rows [][2]string
		for _, c := range cmd.Commands() {
			if c.GroupID == g.ID && c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
				rows = append(rows, [2]string{c.Name(), c.Short})
			}
		}
		p.rows(g.Title, rows)
	}
	var topics [][2]string
	for _, c := range cmd.Commands() {
		if c.IsAdditionalHelpTopicCommand() {
			topics = append(topics, [2]string{"help " + c.Name(), c.Short})
		}
	}
	p.rows("Topics", topics)
}

func (p *page) rows(title string, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	p.title(title)
	left := 10
	for _, r := range rows {
		left = max(left, len(r[0]))
	}
	for _, r := range rows {
		p.b.WriteString(Hang(fmt.Sprintf("%*s%-*s  ", indent, "", left, r[0]), r[1], p.width, indent+left+2))
	}
}

// leftOf returns the width of the column of flag names.
func leftOf(all []section, width int) int {
	left := 0
	for _, part := range all {
		for _, f := range part.flags {
			if n := len(name(f)); n <= min(leftMax, width-2*indent-leastText) {
				left = max(left, n)
			}
		}
	}
	return left
}

func (p *page) flags(part section, left int) {
	if len(part.flags) == 0 {
		return
	}
	p.title(part.title)
	for _, f := range part.flags {
		begin := "  " + name(f)
		if len(begin) > indent+left {
			p.b.WriteString(begin + "\n")
			begin = ""
		}
		p.b.WriteString(Hang(fmt.Sprintf("%-*s", indent+left+2, begin), text(f), p.width, indent+left+2))
	}
}

// kinds are names for the values of flags that do not name theirs.
var kinds = map[string]string{"string": "TEXT", "strings": "LIST", "int": "NUMBER", "number": "NUMBER", "duration": "TIME", "size": "SIZE"}

// name returns a flag with its value: -V, --version; --index merge|rebuild|none.
func name(f *pflag.Flag) string {
	text := "    --" + f.Name
	if f.Shorthand != "" {
		text = "-" + f.Shorthand + ", --" + f.Name
	}
	value, _ := pflag.UnquoteUsage(f)
	if c, ok := once.Inner(f.Value).(*choice); ok && !strings.Contains(f.Usage, "`") {
		value = strings.Join(c.words, "|")
	} else if kind, ok := kinds[value]; ok {
		value = kind
	}
	switch {
	case value == "":
		return text
	case f.NoOptDefVal != "":
		return text + "[=" + value + "]"
	}
	return text + " " + value
}

func text(f *pflag.Flag) string {
	_, text := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return text
	}
	return text + " (default " + strings.Trim(f.DefValue, "[]") + ")"
}
