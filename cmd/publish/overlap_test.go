package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/service"
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
	before := len(clitest.Tree(t, top))
	for destination, want := range map[string]string{
		source: "the same directory", source + "/": "the same directory", top + "/link": "the same directory",
		source + "/out": "DESTINATION is inside of SOURCE", top + "/link/not/yet": "DESTINATION is inside of SOURCE",
		top + "/up/bc/v3": "DESTINATION is inside of SOURCE", top + "/out/../bc/x": "DESTINATION is inside of SOURCE",
		top: "SOURCE is inside of DESTINATION", "/": "SOURCE is inside of DESTINATION",
	} {
		for _, args := range [][]string{{source, "file://" + destination}, {"--dry-run", source, "file://" + destination}, {"exec", source, "file://" + destination, "--", "false"}} {
			if code, _, errs := execute(t, nil, args...); code != cli.ExitUsage || !strings.Contains(errs, want) {
				t.Errorf("%v: exit code %d, want %q: %s", args, code, want, errs)
			}
		}
		config := "state_dir: /var/lib/publish\nsocket: /run/publish.sock\nmirrors:\n  - source: " + source + "\n    destination: file://" + destination + "\n"
		if _, err := service.ParseConfig([]byte(config)); err == nil || !strings.Contains(err.Error(), "5:18: destination: ") {
			t.Errorf("daemon, %s: %v", destination, err)
		}
	}
	if after := len(clitest.Tree(t, top)); after != before {
		t.Errorf("%d files before, %d after", before, after)
	}
	for _, destination := range []string{top + "/bc2", top + "/b", top + "/other/bc"} {
		if code, _, errs := execute(t, nil, source, "file://"+destination); code != cli.ExitDone {
			t.Errorf("%s: exit code %d: %s", destination, code, errs)
		}
	}
}

// Symbolic links inside of a source are not followed to a destination, so they cannot make the source grow: however
// often it is published, the source is the same, and so is what is published from the second time on.
func TestALinkFromTheSourceToTheDestinationIsNotFollowed(t *testing.T) {
	for _, version := range []string{"v3-unsigned", "v2-unsigned"} {
		for _, link := range []string{"out", "blobs/out", "blobs/sha256/out", "v3/out", "v3/manifests/out", "v3/manifests/spec/out", "build_cache/out", "sub/blobs", "sub/v3", "sub/build_cache"} {
			for _, to := range []string{"", "blobs", "v3", "build_cache"} {
				top := t.TempDir()
				source, destination := filepath.Join(top, "src"), filepath.Join(top, "dst")
				if err := os.CopyFS(source, os.DirFS("../../test/testdata/"+version)); err != nil {
					t.Fatal(err)
				}
				at := filepath.Join(source, link)
				target, err := filepath.Rel(filepath.Dir(at), filepath.Join(destination, to))
				if err != nil {
					t.Fatal(err)
				}
				if len(link)%2 == 0 {
					target = filepath.Join(destination, to)
				}
				if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(target, at)); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(filepath.Join(source, "plain"), 0o755); err != nil {
					t.Fatal(err)
				}
				clitest.Write(t, filepath.Join(source, "a.txt"), "a")
				clitest.Write(t, filepath.Join(source, "plain/a.txt"), "a")
				before := clitest.Tree(t, source)
				var published map[string]bool
				for run := range 3 {
					code, _, errs := execute(t, nil, "--files", "*.txt,*/*.txt", source, "file://"+destination)
					if code != cli.ExitDone {
						t.Fatalf("%s, %s to %s: exit code %d: %s", version, link, target, code, errs)
					}
					now := clitest.Tree(t, destination)
					if run > 0 && !maps.Equal(now, published) {
						t.Errorf("%s, %s to %s: run %d leaves %v, run %d left %v", version, link, target, run+1, now, run, published)
					}
					published = now
				}
				if after := clitest.Tree(t, source); !maps.Equal(after, before) {
					t.Errorf("%s, %s to %s: the source is %v, was %v", version, link, target, after, before)
				}
			}
		}
	}
}
