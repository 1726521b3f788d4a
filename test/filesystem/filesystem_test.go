// Package filesystem holds what is promised of a directory on the file systems of clusters. They differ from a
// local disk in what system calls answer, so the answers are put in their place by strace.
package filesystem

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const source = "../testdata/v3-unsigned"

// A fault is what a file system answers.
type fault struct {
	what     string
	calls    string // system calls, separated by commas
	answer   string // of strace's inject
	dirsOnly bool   // calls about directories of the mirror
	acl      string // the default ACL that the mirror's directory has; empty: none
	code     int
	want     string // in what the program says
}

func TestFileSystemsOfClusters(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("apt-get install strace: %v", err)
	}
	for _, f := range []fault{
		{what: "BeeGFS has no hard links between directories", calls: "linkat", answer: "error=EXDEV"},
		{what: "no hard links", calls: "linkat", answer: "error=EPERM"},
		{what: "no hard links, says another", calls: "linkat", answer: "error=EOPNOTSUPP"},
		{what: "too many hard links", calls: "linkat", answer: "error=EMLINK"},
		{what: "directories cannot be synced", calls: "fsync", answer: "error=EINVAL", dirsOnly: true},
		{what: "directories cannot be synced, says another", calls: "fsync", answer: "error=EOPNOTSUPP", dirsOnly: true},
		{what: "a directory that fails to be synced is an error", calls: "fsync", answer: "error=EIO", dirsOnly: true, code: 5, want: "input/output error"},
		{what: "the quota is used up", calls: "fsync", answer: "error=EDQUOT:when=4+", code: 5, want: "hint: make room"},
		{what: "a server of NFS was restarted while an object was created", calls: "linkat", answer: "error=ESTALE:when=3"},
		{what: "a server of NFS was restarted while a directory was made", calls: "mkdirat", answer: "error=ESTALE:when=5"},
		{what: "a server of NFS was restarted while a file was synced", calls: "fsync", answer: "error=ESTALE:when=7"},
		{what: "a server of NFS that stays away", calls: "linkat", answer: "error=ESTALE", code: 5, want: "stale file handle"},
		{what: "all users are squashed into one", calls: "utimensat", answer: "error=EPERM"},
		{what: "root is squashed", calls: "mkdirat", answer: "error=EACCES", code: 5, want: "hint: let the user that runs this write there"},
		{what: "a default ACL that may not be applied", calls: "fsetxattr", answer: "error=EPERM", acl: "d:g:2003:rwX", code: 5, want: "hint: let the user that runs this write there"},
		{what: "a default ACL that may not be applied for a while", calls: "fsetxattr", answer: "error=ESTALE:when=3", acl: "d:g:2003:rwX"},
		{what: "a default ACL that cannot be read", calls: "fgetxattr", answer: "error=EIO", acl: "d:g:2003:rwX", code: 5, want: "read default ACL"},
		{what: "no default ACLs", calls: "fgetxattr", answer: "error=EOPNOTSUPP"},
		{what: "no such call", calls: "fgetxattr", answer: "error=ENOSYS"},
		{what: "no locks", calls: "flock", answer: "error=ENOLCK", code: 5, want: "mount it with -o flock"},
	} {
		t.Run(f.what, func(t *testing.T) {
			m := filepath.Join(t.TempDir(), "mirror")
			if f.acl != "" {
				giveACL(t, m, f.acl)
			}
			args := []string{"-f", "-qq", "-o", os.DevNull, "-e", "trace=" + f.calls, "-e", "inject=" + f.calls + ":" + f.answer}
			if f.dirsOnly {
				args = append(args, directories(t, m)...)
			}
			r, err := program.Run(os.Environ(), strace, append(args, bin, source, "file://"+m)...)
			if err != nil {
				t.Fatal(err)
			}
			if r.Code != f.code || !strings.Contains(r.Stderr, f.want) {
				t.Errorf("exit code %d, want %d and %q: %v", r.Code, f.code, f.want, r)
			}
			look(t, m, f.code == 0)
			// On another day it is as it should be, and nothing of the first time is in the way.
			if r, err := program.Run(os.Environ(), bin, source, "file://"+m); err != nil || r.Code != 0 {
				t.Errorf("without the fault: %v, %v", r, err)
			}
			look(t, m, true)
		})
	}
}

func giveACL(t *testing.T, dir, acl string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setfacl", "-m", acl, dir).CombinedOutput(); err != nil {
		t.Fatalf("setfacl (apt-get install acl): %v: %s", err, out)
	}
}

// look reads a mirror as a client. It works at any time, and offers all packages once it is published.
func look(t *testing.T, dir string, published bool) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "v3/manifests/index")); err != nil && !published {
		return // it offers nothing yet
	}
	m := reader.V3(reader.Dir(dir))
	if !m.Works() || published && len(m.Specs) != 11 {
		t.Errorf("%d specs, broken %v", len(m.Specs), m.Broken)
	}
}

// directories are the arguments that name the directories that a mirror will have.
func directories(t *testing.T, mirror string) []string {
	t.Helper()
	var args []string
	err := filepath.WalkDir(source, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			args = append(args, "-P", filepath.Join(mirror, strings.TrimPrefix(path, source)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return args
}
