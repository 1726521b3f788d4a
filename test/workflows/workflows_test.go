// Package workflows looks at what GitHub will read and no other test can run: the workflows of
// this repository, those that the documentation shows, and action.yml.
package workflows

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
)

const (
	root = "../.."
	ours = "vantagecompute/slurm-factory-publish"
)

// A text is one workflow, and where it stands.
type text struct {
	where string
	yaml  string
	doc   bool // shown in the documentation
}

var block = regexp.MustCompile("(?s)(?:^|\n)```yaml\n(.*?)```")

func workflows(t *testing.T) []text {
	t.Helper()
	var all []text
	for _, name := range glob(t, ".github/workflows/*.yml") {
		all = append(all, text{where: name, yaml: read(t, name)})
	}
	if len(all) < 2 {
		t.Fatalf("workflows: %d", len(all))
	}
	const script = "test/e2e/testdata/first_settings_are_written.txt" // the text that publish init writes
	inits := 0
	for _, part := range strings.Split(read(t, script), "\n-- ")[1:] {
		if name, yaml, _ := strings.Cut(part, " --\n"); strings.HasSuffix(name, ".yml") {
			inits++
			all = append(all, text{where: script + ", " + name, yaml: yaml})
		}
	}
	if inits != 2 {
		t.Fatalf("workflows of publish init: %d", inits)
	}
	for _, page := range append(glob(t, "*.md"), glob(t, "docs/*.md")...) {
		for _, m := range block.FindAllStringSubmatch(read(t, page), -1) {
			if yaml := whole(m[1]); yaml != "" {
				all = append(all, text{where: page, yaml: yaml, doc: true})
			}
		}
	}
	return all
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		names[i], _ = filepath.Rel(root, name)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// whole makes a workflow of what a page shows: a workflow, a job, or steps. What has none of
// these, as a configuration file, is "".
func whole(yaml string) string {
	const job = "jobs:\n  shown:\n    runs-on: ubuntu-latest\n"
	switch {
	case regexp.MustCompile(`(?m)^jobs:`).MatchString(yaml):
		if !regexp.MustCompile(`(?m)^on:`).MatchString(yaml) {
			yaml = "on: push\n" + yaml
		}
		return yaml
	case regexp.MustCompile(`(?m)^steps:`).MatchString(yaml):
		return "on: push\n" + job + indent(yaml, 4)
	case regexp.MustCompile(`(?m)^- (uses|name|run|id|if|env):`).MatchString(yaml):
		return "on: push\n" + job + "    steps:\n" + indent(yaml, 6)
	}
	return ""
}

func indent(s string, by int) string {
	return regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(s, strings.Repeat(" ", by)+"$1")
}

// ourAction is how a workflow names us: by the moving tag, a version, or a commit.
var ourAction = regexp.MustCompile(`(uses: )` + ours + `@\S+`)

// actionlint finds what is wrong, also with the inputs and outputs of our action.
func TestWorkflowsAreValid(t *testing.T) {
	project, err := actionlint.NewProject(root)
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, w := range workflows(t) {
		if w.doc && ourAction.MatchString(w.yaml) {
			shown++
		}
		for _, e := range lint(t, project, w.yaml) {
			t.Errorf("%s: %s", w.where, e)
		}
	}
	t.Logf("%d workflows in the documentation use the action", shown)
}

func lint(t *testing.T, project *actionlint.Project, yaml string) []string {
	t.Helper()
	// The inputs of an action in the same tree are known.
	yaml = ourAction.ReplaceAllString(yaml, "${1}./")
	l, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{WorkingDir: root})
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.Lint(filepath.Join(root, ".github/workflows/shown.yml"), []byte(yaml), project)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range found {
		all = append(all, e.Error())
	}
	return all
}

// A pin is an action by its commit, with the version as a comment.
var pin = regexp.MustCompile(`uses: ([\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)(\s|$)`)

// What others have written runs in the version that was looked at, everywhere in the same.
func TestActionsArePinned(t *testing.T) {
	pins := make(map[string]string)
	for _, w := range workflows(t) {
		for _, e := range pinning(w, pins) {
			t.Error(e)
		}
	}
	if len(pins) < 5 {
		t.Errorf("only %v are used", pins)
	}
}

func pinning(w text, pins map[string]string) (wrong []string) {
	for _, line := range strings.Split(w.yaml, "\n") {
		_, uses, ok := strings.Cut(line, "uses: ")
		if !ok || strings.HasPrefix(strings.TrimSpace(line), "#") || strings.HasPrefix(uses, ours+"@") || strings.HasPrefix(uses, "docker://ghcr.io/"+ours+":") || strings.HasPrefix(uses, "./") {
			continue
		}
		m := pin.FindStringSubmatch(line)
		if m == nil {
			wrong = append(wrong, w.where+": not pinned: "+strings.TrimSpace(line))
			continue
		}
		if was := pins[m[1]]; was != "" && was != m[2]+m[3] {
			wrong = append(wrong, w.where+": pinned otherwise elsewhere: "+strings.TrimSpace(line))
		}
		pins[m[1]] = m[2] + m[3]
	}
	return wrong
}

// Nothing has a right that it was not given for a job, no credentials stay in the work tree, and
// nothing from outside becomes a part of a script.
func TestWorkflowsAreCareful(t *testing.T) {
	for _, w := range workflows(t) {
		for _, e := range careless(w) {
			t.Error(e)
		}
	}
}

func careless(text text) (wrong []string) {
	say := func(s string) { wrong = append(wrong, text.where+": "+s) }
	w, _ := actionlint.Parse([]byte(text.yaml))
	if w == nil {
		return []string{text.where + ": cannot be parsed"}
	}
	shownWhole := !text.doc || strings.Contains(text.yaml, "\non:") || strings.HasPrefix(text.yaml, "on:\n") || strings.HasPrefix(text.yaml, "name:")
	if shownWhole && (w.Permissions == nil || w.Permissions.All != nil || len(w.Permissions.Scopes) > 0) {
		say("no permissions: {} at the top")
	}
	for _, e := range w.On {
		if name := e.EventName(); name == "pull_request_target" || name == "workflow_run" {
			say(name + " runs with rights on what a stranger wrote")
		}
	}
	for _, j := range w.Jobs {
		if shownWhole && j.WorkflowCall == nil && j.Permissions == nil {
			say("job " + j.ID.Value + " says nothing of its permissions")
		}
		if p := j.Permissions; p != nil && p.All != nil {
			say("job " + j.ID.Value + " has all permissions")
		}
		if shownWhole && j.WorkflowCall == nil && j.TimeoutMinutes == nil {
			say("job " + j.ID.Value + " has no timeout")
		}
		for _, s := range j.Steps {
			switch e := s.Exec.(type) {
			case *actionlint.ExecRun:
				if strings.Contains(e.Run.Value, "${{") {
					say("a script with ${{ }} in it: " + e.Run.Value)
				}
			case *actionlint.ExecAction:
				if strings.HasPrefix(e.Uses.Value, "actions/checkout@") {
					if in := e.Inputs["persist-credentials"]; in == nil || in.Value.Value != "false" {
						say("checkout leaves credentials behind")
					}
				}
			}
		}
	}
	return wrong
}

// The tests above say no where they should.
func TestWrongWorkflowsAreFound(t *testing.T) {
	project, err := actionlint.NewProject(root)
	if err != nil {
		t.Fatal(err)
	}
	const good = "on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    timeout-minutes: 5\n    permissions: {}\n    steps:\n"
	const sha = "3d3c42e5aac5ba805825da76410c181273ba90b1"
	for _, c := range []struct{ yaml, want string }{
		{good + "      - run: echo\n        shel: bash\n", "unexpected key"},
		{good + "      - run: echo ${{ github.event.issue.title }}\n", "script with"},
		{good + "      - uses: actions/setup-go@v6\n", "not pinned"},
		{good + "      - uses: actions/setup-go@" + sha + "\n", "not pinned"},
		{good + "      - uses: actions/checkout@" + sha + " # v7.0.1\n", "leaves credentials"},
		{strings.Replace(good, "on: push\npermissions: {}", "on: push", 1) + "      - run: echo\n", "at the top"},
		{strings.Replace(good, "    permissions: {}\n", "", 1) + "      - run: echo\n", "says nothing of its permissions"},
		{strings.Replace(good, "    permissions: {}\n", "    permissions: write-all\n", 1) + "      - run: echo\n", "all permissions"},
		{strings.Replace(good, "on: push", "on: pull_request_target", 1) + "      - run: echo\n", "a stranger wrote"},
		{strings.Replace(good, "    timeout-minutes: 5\n", "", 1) + "      - run: echo\n", "no timeout"},
	} {
		w := text{where: "here", yaml: c.yaml}
		found := slices.Concat(lint(t, project, c.yaml), pinning(w, make(map[string]string)), careless(w))
		if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%q is not said of\n%s\nbut %q", c.want, c.yaml, found)
		}
	}
	w := text{where: "here", yaml: good + "      - run: echo\n"}
	if found := slices.Concat(lint(t, project, w.yaml), pinning(w, nil), careless(w)); len(found) > 0 {
		t.Errorf("said of what is right: %q", found)
	}
}

// Everything that has dependencies gets updates of them.
func TestDependabotKnowsAll(t *testing.T) {
	config := read(t, ".github/dependabot.yml")
	ecosystems := map[string]string{"go.mod": "gomod", "package.json": "npm", "Dockerfile": "docker"}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == ".git") {
			return fs.SkipDir
		}
		ecosystem, ok := ecosystems[d.Name()]
		if !ok {
			return nil
		}
		dir, _ := filepath.Rel(root, filepath.Dir(path))
		dir = strings.TrimPrefix("/"+dir, "/.")
		if dir == "" {
			dir = "/"
		}
		_, section, _ := strings.Cut(config, "package-ecosystem: "+ecosystem+"\n")
		section, _, _ = strings.Cut(section, "package-ecosystem")
		if !regexp.MustCompile(`(?m)^    director(y: |ies: \[.*)` + regexp.QuoteMeta(dir) + `([,\]]|$)`).MatchString(section) {
			t.Errorf("%s: %s has no updates of %s", path, dir, ecosystem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tool returns the path of a program that package.json pins. In the gate, npm has installed it.
func tool(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join("node_modules/.bin", name)
	if _, err := os.Stat(bin); errors.Is(err, fs.ErrNotExist) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: npm ci in test/workflows", name)
		}
		t.Skipf("%s is not installed: npm ci in test/workflows", name)
	}
	return bin
}

func TestActionMetadata(t *testing.T) {
	bin := tool(t, "action-validator")
	if out, err := exec.Command(bin, filepath.Join(root, "action.yml")).CombinedOutput(); err != nil {
		t.Errorf("action.yml: %v\n%s", err, out)
	}
	// An icon that the Marketplace does not have.
	wrong := filepath.Join(t.TempDir(), "action.yml")
	yaml := regexp.MustCompile(`icon: .*`).ReplaceAllString(read(t, "action.yml"), "icon: key")
	if err := os.WriteFile(wrong, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin, wrong).CombinedOutput(); err == nil {
		t.Errorf("accepted with a wrong icon: %s", out)
	}
}

func TestDockerfileLint(t *testing.T) {
	bin := tool(t, "dockerfilelint")
	if out, err := exec.Command(bin, filepath.Join(root, "Dockerfile")).CombinedOutput(); err != nil {
		t.Errorf("Dockerfile: %v\n%s", err, out)
	}
}
