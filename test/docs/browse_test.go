package docs

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every member of what publish ls, show, why and du print as JSON is on their page.
func TestBrowseReports(t *testing.T) {
	fixtures, err := filepath.Abs("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(pages(t)["docs/browse.md"], "\n## JSON\n")
	documented := make(map[string]bool)
	for _, m := range inline.FindAllStringSubmatch(text, -1) {
		path := strings.Split(m[1], ".")
		documented[strings.TrimSuffix(path[len(path)-1], "[]")] = true
	}
	at := "file://" + filepath.Join(fixtures, "v3-signed")
	promoted := "file://" + filepath.Join(t.TempDir(), "promoted")
	rules := []string{"copy", "--require-signed", "--trusted-keys", filepath.Join(fixtures, "keys/one.pub"), "--expect-os", "ubuntu*", "--expect-target", "x86_64*", at, promoted, "zlib"}
	if out, err := exec.Command(publish(t), rules...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", rules, err, out)
	}
	seen := make(map[string]bool)
	for _, args := range [][]string{{"ls", at}, {"show", at, "slurm"}, {"show", promoted, "zlib"}, {"why", at, "hwloc"}, {"du", at}} {
		out, err := exec.Command(publish(t), append(args, "--json")...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		var document any
		if err := json.Unmarshal(out, &document); err != nil {
			t.Fatal(err)
		}
		all := make(map[string]bool)
		members("", document, all)
		for m := range all {
			if !regexp.MustCompile(`\.(variants|flags)\.`).MatchString(m) {
				path := strings.Split(m, ".")
				seen[strings.TrimSuffix(path[len(path)-1], "[]")] = true
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d members", len(seen))
	}
	for m := range seen {
		if !documented[m] {
			t.Errorf("%s is not documented", m)
		}
	}
}
