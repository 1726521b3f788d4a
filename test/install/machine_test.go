package install

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A machine is this one with another systemd: it has the same kernel and network, and the files of this one to
// begin with, but what is written stays in memory and is gone with it.
type machine struct {
	t   *testing.T
	dir string // its files, for who is inside
	pid int    // of its systemd
}

// begin is run in name spaces of its own, and becomes systemd. What systemd does to control groups it does
// below one that is named for the machine.
const begin = `set -e
while IFS=: read -r _ controllers path; do
  case $controllers in
  '') base=/sys/fs/cgroup; [ -e $base/cgroup.procs ] || base=$base/unified ;;
  *) base=/sys/fs/cgroup/${controllers#name=} ;;
  esac
  # Some may not be moved, and then are not used.
  { mkdir -p "$base$path/$NAME" && echo $$ >"$base$path/$NAME/cgroup.procs"; } 2>/dev/null || true
done </proc/self/cgroup
exec unshare --cgroup sh -c '
set -e
mount --make-rprivate /
mount -t tmpfs -o size=1g tmpfs "$DIR"
mkdir "$DIR/new" "$DIR/work" "$DIR/root"
mount -t overlay -o lowerdir=/,upperdir="$DIR/new",workdir="$DIR/work" overlay "$DIR/root"
cd "$DIR/root"
mount -t proc proc proc
# The kernel is that of others, too: its settings stay.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for d in null zero full random urandom tty; do
  touch dev/$d
  mount --bind /dev/$d dev/$d
done
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
# Nothing of this machine keeps ours from starting services, waits for a network, or updates something meanwhile.
rm -f usr/sbin/policy-rc.d
for u in systemd-networkd-wait-online.service NetworkManager-wait-online.service ifupdown-wait-online.service timers.target; do
  ln -sf /dev/null etc/systemd/system/$u
done
# What else this machine does when packages are installed takes longer than all the rest.
rm -f etc/apt/apt.conf.d/20packagekit var/lib/man-db/auto-update
mkdir before
pivot_root . before
exec chroot . env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "umount -l /before && mount --make-rshared / && exec /lib/systemd/systemd --system --unit=basic.target"
'`

// boot starts a machine and waits until it is up. It takes root, as the gate has.
func boot(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: another systemd cannot be started")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		tool(t, "/lib/systemd/systemd")
	}
	dir := t.TempDir()
	name := fmt.Sprintf("install-test-%d", os.Getpid())
	cmd := exec.Command("sh", "-c", begin)
	cmd.Env = append(os.Environ(), "DIR="+dir, "NAME="+name)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, pid: cmd.Process.Pid, dir: fmt.Sprintf("/proc/%d/root", cmd.Process.Pid)}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.try("journalctl", "--no-pager", "-n", "100")
			t.Logf("the journal:\n%s", out)
		}
		cmd.Process.Kill() // and with it all that is in there
		<-ended
		removeGroups(name)
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("the machine did not start:\n%s", &said)
		default:
		}
		out, _ := m.try("systemctl", "is-system-running")
		if state := strings.TrimSpace(out); state == "running" || state == "degraded" {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("the machine is not up: %s\n%s", out, &said)
		}
	}
}

// removeGroups removes the control groups of a machine that is gone.
func removeGroups(name string) {
	var all []string
	filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && slices.Contains(strings.Split(path, "/"), name) {
			all = append(all, path)
		}
		return nil
	})
	slices.Reverse(all) // what is inside comes first
	for _, path := range all {
		os.Remove(path)
	}
}

// patience is how long a command may take on a loaded machine.
const patience = 90 * time.Second

// try runs a command in the machine, as root.
func (m *machine) try(args ...string) (string, error) {
	enter := []string{"-t", strconv.Itoa(m.pid), "-m", "-p", "-i", "-u", "-C", "-r", "-w", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "AWS_EC2_METADATA_DISABLED=true"}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.WaitDelay = time.Second // what it has started may hold on to its output
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// sh runs a script as a user.
func (m *machine) sh(user, script string) string {
	m.t.Helper()
	return m.run("runuser", "-u", user, "--", "bash", "-euxo", "pipefail", "-c", script)
}

func (m *machine) write(name, text string, mode os.FileMode) {
	m.t.Helper()
	name = filepath.Join(m.dir, name)
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, []byte(text), mode)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) has(name string) bool {
	_, err := os.Lstat(filepath.Join(m.dir, name))
	return err == nil
}

// property is what systemd says of a unit.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "--value", "-p", name, unit))
}

func (m *machine) until(what string, so func() bool) {
	m.t.Helper()
	waitFor(m.t, what, so)
}

func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}
