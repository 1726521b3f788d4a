package help

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/style"
)

func program(columns string) *cobra.Command {
	root := &cobra.Command{Use: "tool [flags] FROM", Short: "Do things", Long: "Do things with\nthings.\n\n  an example line that is very much longer than the width that a terminal has and stays\n\nMore.", Run: func(*cobra.Command, []string) {}}
	list := &cobra.Command{Use: "list", Short: "List a great many things, one after the other, until there are none", GroupID: Looking, Run: root.Run, Example: "  tool list"}
	root.AddCommand(list, &cobra.Command{Use: "alone", Short: "Be in no group", Run: root.Run}, &cobra.Command{Use: "codes", Short: "What is returned"})
	fs := root.Flags()
	fs.Bool("dry-run", false, "do nothing")
	var how string
	var several []string
	Group(fs, "Ways", func(fs *pflag.FlagSet) {
		Choice(fs, &how, "how", "fast", "in which way it is done, which is said at some length so that it is wrapped", "fast", "slow")
		fs.String("config", "", "`FILE` with more")
	})
	Choices(fs, &several, "kinds", nil, "`KINDS` of things", "big", "small")
	Group(fs, "Ways", func(fs *pflag.FlagSet) { fs.String("a-flag-with-a-name-that-is-very-long", "", "text") })
	fs.Int("number", 0, "how many")
	Install(root, style.Of(nil, func(name string) (string, bool) { return columns, name == "COLUMNS" }))
	return root
}

func TestHelpIsGroupedAndFitsTheWidth(t *testing.T) {
	for columns, width := range map[string]int{"50": 50, "80": 80, "300": widest, "": style.Width, "1": 40} {
		root := program(columns)
		var out strings.Builder
		root.SetOut(&out)
		root.SetArgs([]string{"--help"})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if n := utf8.RuneCountInString(line); n > width && !strings.HasPrefix(line, "  an example") && !strings.Contains(line, "--a-flag") {
				t.Errorf("COLUMNS=%s: a line of %d characters: %s", columns, n, line)
			}
		}
		var titles []string
		for _, m := range regexp.MustCompile(`(?m)^(\S.*):$`).FindAllStringSubmatch(out.String(), -1) {
			titles = append(titles, m[1])
		}
		if want := []string{"Usage", "Look into a mirror", "Other commands", "Commands", "Topics", "Flags", "Ways"}; !slices.Equal(titles, want) {
			t.Errorf("COLUMNS=%s: sections %q, want %q:\n%s", columns, titles, want, &out)
		}
		_, ways, _ := strings.Cut(out.String(), "\nWays:\n")
		for _, want := range []string{"--how fast|slow ", "(default\nfast)", "--config FILE", "--a-flag-with"} {
			if !strings.Contains(ways, strings.ReplaceAll(want, "\n", " ")) && !strings.Contains(strings.Join(strings.Fields(ways), " "), strings.ReplaceAll(want, "\n", " ")) {
				t.Errorf("COLUMNS=%s: no %q in the group:\n%s", columns, want, ways)
			}
		}
		if strings.Contains(ways, "--number") || !strings.Contains(out.String(), "--kinds KINDS") || strings.Contains(out.String(), "\x1b") {
			t.Errorf("COLUMNS=%s: flags are not where they belong:\n%s", columns, &out)
		}
	}
}

func TestValuesOfAChoiceAreCompleted(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--how", ""}, "fast slow :4"},
		{[]string{"--how="}, "fast slow :4"},
		{[]string{"--kinds", "big,"}, "big,big big,small :4"},
		{[]string{"--dry-run="}, "true false :4"},
		{[]string{"--config", ""}, ":0"},
		{[]string{"--number", ""}, ":4"},
	} {
		root := program("")
		Complete(root)
		var out strings.Builder
		root.SetOut(&out)
		root.SetErr(new(strings.Builder))
		root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, c.args...))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(out.String()), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
