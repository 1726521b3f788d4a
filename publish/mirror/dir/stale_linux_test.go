package dir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
)

func init() { children["remove"] = remove }

// A server of NFS that was restarted no longer knows what is open (ESTALE). What removes is repeated then, like
// what reads and what writes; strace puts the answer in the place of a system call's.
func TestWhatRemovesIsRepeatedWhenAServerOfNFSWasRestarted(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("apt-get install strace: %v", err)
	}
	for _, row := range []struct {
		act, call, when string
		lasts           bool // the server stays away
	}{
		{act: "delete", call: "unlinkat", when: ":when=1"},
		{act: "delete", call: "unlinkat", when: ":when=1..4"},
		{act: "delete", call: "fsync", when: ":when=1"},
		{act: "delete", call: "flock", when: ":when=1"},
		{act: "delete", call: "unlinkat", lasts: true},
		{act: "discard", call: "unlinkat", when: ":when=1..4"},
		{act: "discard", call: "getdents64", when: ":when=1"},
		{act: "discard", call: "unlinkat", lasts: true},
	} {
		t.Run(row.act+" "+row.call+row.when, func(t *testing.T) {
			path := t.TempDir()
			m := open(t, path).Mirror(".")
			create(t, m, "d/a", "a")
			create(t, m, "d/b", "b")
			if row.act == "discard" {
				if err := m.Abandon(t.Context(), "d/c"); err != nil {
					t.Fatal(err)
				}
			}
			cmd := command(t, "remove", path, row.act)
			cmd.Path = strace
			cmd.Args = []string{"strace", "-f", "-qq", "-o", os.DevNull, "-P", path + "/d", "-e", "trace=" + row.call,
				"-e", "inject=" + row.call + ":error=ESTALE" + row.when, os.Args[0]}
			if row.call != "fsync" { // of which only that of a directory is meant
				cmd.Args = append(cmd.Args[:5:5], cmd.Args[7:]...)
			}
			var complaint strings.Builder
			cmd.Stderr = &complaint
			err := cmd.Run()
			if row.lasts {
				if err == nil || !strings.Contains(complaint.String(), "stale") {
					t.Errorf("got %v: %s", err, complaint.String())
				}
				return
			}
			if err != nil {
				t.Fatalf("%v: %s", err, complaint.String())
			}
			if row.act == "delete" {
				wantList(t, m, "d/b")
			} else if left := leftovers(t, m); len(left) != 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// remove deletes d/a, or discards everything that was begun.
func remove(m *dir.Mirror, act string) error {
	ctx := context.Background()
	if act == "delete" {
		info, err := m.Stat(ctx, "d/a")
		if err != nil {
			return err
		}
		return m.Delete(ctx, "d/a", info.Version)
	}
	found := 0
	for l, err := range m.Leftovers(ctx, "") {
		if err != nil {
			return err
		}
		found++
		if err := m.Discard(ctx, l); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if found != 1 {
		return fmt.Errorf("found %d uploads", found)
	}
	return nil
}
