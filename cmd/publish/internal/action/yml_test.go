package action

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/former"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

var update = flag.Bool("update", false, "write what is compared with what the program makes")

// An actionFile is action.yml.
type actionFile struct {
	Name        string
	Description string
	Author      string
	Branding    struct{ Icon, Color string }
	Inputs      yaml.MapSlice
	Outputs     yaml.MapSlice
	Runs        struct {
		Using, Image string
		Args         []string
		Entrypoint   string
	}
}

type inputOfFile struct {
	Description string
	Required    bool
	Default     *string

	DeprecationMessage string `yaml:"deprecationMessage"`
}

func readActionFile(t testing.TB) (*actionFile, map[string]inputOfFile) {
	t.Helper()
	text, err := os.ReadFile(clitest.Root("action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var f actionFile
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	inputs := make(map[string]inputOfFile)
	for _, item := range f.Inputs {
		var in inputOfFile
		one, err := yaml.Marshal(item.Value)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalWithOptions(one, &in, yaml.Strict()); err != nil {
			t.Fatalf("input %v: %v", item.Key, err)
		}
		inputs[item.Key.(string)] = in
	}
	return &f, inputs
}

// The program knows the inputs of action.yml, in its order, with its defaults, and no others.
func TestInputsAreThoseOfTheFile(t *testing.T) {
	f, described := readActionFile(t)
	var names []string
	for _, item := range f.Inputs {
		names = append(names, item.Key.(string))
	}
	known := inputNames()
	for _, old := range former.Names {
		known = append(known, old.Name)
		if in := described[old.Name]; in.Default != nil || in.Required || in.DeprecationMessage != "it is called "+old.Now+" now" || !strings.HasPrefix(in.Description, "Former name of `"+old.Now+"`") {
			t.Errorf("%s: %+v", old.Name, in)
		}
	}
	if !slices.Equal(names, known) {
		t.Errorf("action.yml has\n%q, the program\n%q", names, known)
	}
	for _, d := range theInputs {
		in := described[d.name]
		def := ""
		if in.Default != nil {
			def = *in.Default
		}
		if def != d.def || in.Default != nil && def == "" {
			t.Errorf("%s: default %q in action.yml, %q in the program", d.name, def, d.def)
		}
		if !strings.HasSuffix(in.Description, ".") || !strings.Contains(in.Description, "Example: `") {
			t.Errorf("%s: no example at the end of %q", d.name, in.Description)
		}
		if in.Required { // a step that runs another command has none of them
			t.Errorf("%s: it is required", d.name)
		}
	}
}

// What GitHub asks of action.yml.
func TestActionFile(t *testing.T) {
	f, _ := readActionFile(t)
	// docs.github.com/actions/reference/workflows-and-actions/metadata-syntax#branding
	colors := []string{"white", "black", "yellow", "blue", "green", "orange", "red", "purple", "gray-dark"}
	if f.Name == "" || f.Description == "" || f.Author == "" || len(f.Description) > 125 {
		t.Errorf("name %q, author %q, description of %d characters: %q", f.Name, f.Author, len(f.Description), f.Description)
	}
	if !slices.Contains(colors, f.Branding.Color) || f.Branding.Icon != "upload-cloud" {
		t.Errorf("branding: %+v", f.Branding)
	}
	if f.Runs.Using != "docker" || f.Runs.Image != "Dockerfile" && !strings.HasPrefix(f.Runs.Image, "docker://") || f.Runs.Entrypoint != "" {
		t.Errorf("runs: %+v", f.Runs)
	}
	for _, item := range append(slices.Clone(f.Inputs), f.Outputs...) {
		name := item.Key.(string)
		if strings.ToLower(name) != name || strings.ContainsAny(name, "_ ") {
			t.Errorf("%q is not in kebab-case", name)
		}
	}
}

// The tables of docs/action.md are made from action.yml: go test ./cmd/publish -run
// TestActionIsDocumented -update.
func TestActionIsDocumented(t *testing.T) {
	page := clitest.Root("docs/action.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	f, described := readActionFile(t)
	var in, out strings.Builder
	in.WriteString("| input | default | |\n|---|---|---|\n")
	for _, item := range f.Inputs {
		d := described[item.Key.(string)]
		if d.DeprecationMessage != "" {
			continue // docs/settings.md has them
		}
		def := ""
		switch {
		case d.Required:
			def = "required"
		case d.Default != nil:
			def = "`" + *d.Default + "`"
		}
		fmt.Fprintf(&in, "| `%s` | %s | %s |\n", item.Key, def, d.Description)
	}
	out.WriteString("| output | |\n|---|---|\n")
	for _, item := range f.Outputs {
		fmt.Fprintf(&out, "| `%s` | %s |\n", item.Key, item.Value.(map[string]any)["description"])
	}
	want := between(t, string(text), "inputs", in.String())
	want = between(t, want, "outputs", out.String())
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("docs/action.md is not what action.yml says: run this test with -update")
	}
	clitest.Write(t, page, want)
}

// between replaces what is between two marks.
func between(t testing.TB, text, mark, with string) string {
	t.Helper()
	before, rest, ok := strings.Cut(text, "<!-- "+mark+": from action.yml -->\n")
	_, after, ended := strings.Cut(rest, "<!-- end -->")
	if !ok || !ended {
		t.Fatalf("no place for %s", mark)
	}
	return before + "<!-- " + mark + ": from action.yml -->\n" + with + "<!-- end -->" + after
}
