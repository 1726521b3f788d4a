package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A source and a destination that contain each other are refused before anything is read or written, however
// they are spelled. Directories beside each other are fine, also if one name begins with the other.
func TestSourceAndDestinationAreApart(t *testing.T) {
	top := t.TempDir()
	source := filepath.Join(top, "bc")
	if err := os.CopyFS(source, os.DirFS("../../test/testdata/v3-unsigned")); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": source, "up": top} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	before := len(tree(t, top))
	for destination, want := range map[string]string{
		source: "the same directory", source + "/": "the same directory", top + "/link": "the same directory",
		source + "/out": "DESTINATION is inside of SOURCE", top + "/link/not/yet": "DESTINATION is inside of SOURCE",
		top + "/up/bc/v3": "DESTINATION is inside of SOURCE", top + "/out/../bc/x": "DESTINATION is inside of SOURCE",
		top: "SOURCE is inside of DESTINATION", "/": "SOURCE is inside of DESTINATION",
	} {
		for _, args := range [][]string{{source, "file://" + destination}, {"--dry-run", source, "file://" + destination}, {"exec", source, "file://" + destination, "--", "false"}} {
			if code, _, errs := execute(t, nil, args...); code != exitUsage || !strings.Contains(errs, want) {
				t.Errorf("%v: exit code %d, want %q: %s", args, code, want, errs)
			}
		}
		config := "state_dir: /var/lib/publish\nsocket: /run/publish.sock\nmirrors:\n  - source: " + source + "\n    destination: file://" + destination + "\n"
		if _, err := parseDaemonConfig([]byte(config)); err == nil || !strings.Contains(err.Error(), "5:18: destination: ") {
			t.Errorf("daemon, %s: %v", destination, err)
		}
	}
	if after := len(tree(t, top)); after != before {
		t.Errorf("%d files before, %d after", before, after)
	}
	for _, destination := range []string{top + "/bc2", top + "/b", top + "/other/bc"} {
		if code, _, errs := execute(t, nil, source, "file://"+destination); code != exitDone {
			t.Errorf("%s: exit code %d: %s", destination, code, errs)
		}
	}
}
