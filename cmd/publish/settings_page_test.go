package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/former"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
)

var update = flag.Bool("update", false, "write what is compared with what the program makes")

// otherInputs are the inputs that are called otherwise than the setting, with the reason.
var otherInputs = map[string]string{
	"source":               "path",            // as in actions/upload-artifact: it is a place of the workspace
	"sign-passphrase-file": "sign-passphrase", // a secret of the repository is no file
}

// A settingRow is where a setting exists. Names that are empty: it does not.
type settingRow struct{ flag, variable, yaml, daemon, input, former string }

func settingRows(t testing.TB) (rows []settingRow, daemonOnly, actionOnly []string) {
	keys := service.Keys()
	slices.Sort(keys)
	keys = slices.Compact(keys)
	inputs := action.Inputs()
	add := func(name, shown string) {
		r := settingRow{flag: shown, variable: cli.Variable(name), yaml: name}
		if key := strings.ReplaceAll(name, "-", "_"); slices.Contains(keys, key) {
			r.daemon = key
			keys = slices.DeleteFunc(keys, func(k string) bool { return k == key })
		}
		called := name
		if other := otherInputs[name]; other != "" {
			called = other
		}
		inputs = slices.DeleteFunc(inputs, func(in string) bool {
			if in == called {
				r.input, r.former = called, strings.Join(former.Of(in), ", ")
			}
			return in == called
		})
		rows = append(rows, r)
	}
	add("source", "SOURCE")
	add("destination", "DESTINATION")
	root := rootCommand(cli.Env{})
	root.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "version" && f.Name != "help" {
			add(f.Name, "--"+f.Name)
		}
	})
	for _, in := range inputs {
		actionOnly = append(actionOnly, in)
		if old := former.Of(in); len(old) > 0 {
			t.Errorf("%s has former names, and no place for them in the table: %q", in, old)
		}
	}
	return rows, keys, actionOnly
}

// docs/settings.md is the one table of names, made from the code: go test ./cmd/publish -run TestTheTableOfSettings -update.
func TestTheTableOfSettingsIsTheProgram(t *testing.T) {
	rows, daemonOnly, actionOnly := settingRows(t)
	code := func(name string) string {
		if name == "" {
			return ""
		}
		return "`" + strings.ReplaceAll(name, ", ", "`, `") + "`"
	}
	var b strings.Builder
	b.WriteString("| flag | variable | `publish.yaml` | daemon, `mirrors:` | action | former name of the input |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", code(r.flag), code(r.variable), code(r.yaml), code(r.daemon), code(r.input), code(r.former))
	}
	fmt.Fprintf(&b, "\nOnly in the daemon's configuration: %s.\n\nOnly in the action: %s.\n", code(strings.Join(daemonOnly, ", ")), code(strings.Join(actionOnly, ", ")))
	page := clitest.Root("docs/settings.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- settings: from the program -->\n", "<!-- end -->"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatal("docs/settings.md has no place for the table")
	}
	want := before + begin + b.String() + end + after
	if want != string(text) && !*update {
		t.Error("docs/settings.md is not what the program takes: run this test with -update")
	} else if want != string(text) {
		clitest.Write(t, page, want)
	}
}

// The same thing has the same name everywhere: what only the daemon or only the action has is no flag under another name.
func TestASettingHasOneName(t *testing.T) {
	_, daemonOnly, actionOnly := settingRows(t)
	for _, name := range []string{"distribution", "endpoint", "sign", "region", "part_size", "part-size", "trusted", "publish_keys"} {
		for _, other := range append(daemonOnly, actionOnly...) {
			if strings.Contains(other, name) {
				t.Errorf("%s is a name of its own", other)
			}
		}
	}
}
