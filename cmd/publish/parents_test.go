package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A misspelt command below another one is wrong usage, wherever it is, and names what was meant.
func TestAMisspeltCommandBelowAnotherIsRefused(t *testing.T) {
	root := rootCommand(cli.Env{})
	root.InitDefaultCompletionCmd("completion")
	parents := 0
	var each func(*cobra.Command)
	each = func(parent *cobra.Command) {
		for _, c := range parent.Commands() {
			if c.HasSubCommands() {
				parents++
				path := strings.Fields(c.CommandPath())[1:]
				code, out, errs := execute(t, nil, append(path, "TYPO")...)
				if code != cli.ExitUsage || out != "" || !strings.HasPrefix(errs, "publish: "+c.CommandPath()+" TYPO is no command: want ") || strings.Contains(errs, "hint") {
					t.Errorf("%s TYPO: exit code %d\n%s%s", c.CommandPath(), code, out, errs)
				}
				if code, out, errs := execute(t, nil, path...); code != cli.ExitDone || !strings.Contains(out, "\nUsage:\n  "+c.CommandPath()+" COMMAND\n") || errs != "" {
					t.Errorf("%s alone: exit code %d\n%s%s", c.CommandPath(), code, out, errs)
				}
			}
			each(c)
		}
	}
	each(root)
	if parents < 3 {
		t.Errorf("%d commands have others below them", parents)
	}
	for _, row := range [][2]string{
		{"keys lits", "publish: publish keys lits is no command, did you mean list?\n"},
		{"view ad s3://bucket/x", "publish: publish view ad is no command, did you mean add?\n"},
		{"completion bsah", "publish: publish completion bsah is no command, did you mean bash?\n"},
		{"help verfy", "publish: publish verfy is no command, did you mean verify?\n"},
		{"help exit-cods", "publish: publish exit-cods is no command, did you mean exit-codes?\n"},
		{"help keys rotat", "publish: publish keys rotat is no command, did you mean rotate?\n"},
		{"help quite-another", "publish: publish quite-another is no command: see publish --help\n"},
	} {
		if code, out, errs := execute(t, nil, strings.Fields(row[0])...); code != cli.ExitUsage || errs != row[1] || out != "" {
			t.Errorf("publish %s: exit code %d\n%s%s", row[0], code, out, errs)
		}
	}
	for _, topic := range []string{"help", "help keys", "help exit-codes", "help keys list", "help help"} {
		if code, out, _ := execute(t, nil, strings.Fields(topic)...); code != cli.ExitDone || out == "" {
			t.Errorf("publish %s: exit code %d\n%s", topic, code, out)
		}
	}
}
