package dir_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
)

// child tells the test binary to be one of several publishers: what it does, and where.
const child = "DIR_TEST_CHILD"

// command returns this test binary as another process.
func command(t *testing.T, does, path, arg string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), child+"="+does, "DIR_TEST_PATH="+path, "DIR_TEST_ARG="+arg)
	cmd.Stderr = os.Stderr
	return cmd
}

// children are what a child may do.
var children = map[string]func(*dir.Mirror, string) error{"add": addLines, "stall": stall, "fill": fill}

func runChild() int {
	d, err := dir.Open(os.Getenv("DIR_TEST_PATH"), dir.Options{})
	if err == nil {
		arg := os.Getenv("DIR_TEST_ARG")
		err = children[os.Getenv(child)](d.Mirror("."), arg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const lines = 25

// addLines adds lines to an object to which others add theirs.
func addLines(m *dir.Mirror, who string) error {
	ctx := context.Background()
	for n := 0; n < lines; {
		now, info, err := mirror.Read(ctx, m, "set", 1<<20)
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			return err
		}
		_, err = m.Swap(ctx, upload("set", string(now)+fmt.Sprintln(who, n)), info.Version)
		if err != nil && !errors.Is(err, mirror.ErrConflict) {
			return err
		}
		if err == nil {
			n++
		}
	}
	return nil
}

func TestProcessesLoseNothing(t *testing.T) {
	const processes = 8
	path := t.TempDir()
	var wg sync.WaitGroup
	for n := range processes {
		cmd := command(t, "add", path, fmt.Sprint(n))
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	set, _, err := mirror.Read(t.Context(), open(t, path).Mirror("."), "set", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.SplitAfter(strings.TrimSpace(string(set)), "\n")
	slices.Sort(all)
	if got := len(slices.Compact(all)); got != processes*lines {
		t.Errorf("%d lines are left of %d", got, processes*lines)
	}
}

// slow calls during whenever it is opened.
type slow struct {
	blob.Source
	during func()
}

func (s slow) Open() (blob.Reader, error) {
	s.during()
	return s.Source.Open()
}

type unreadable struct{ blob.Source }

func (unreadable) Open() (blob.Reader, error) { return nil, fs.ErrPermission }

func readAll(r io.Reader) ([]byte, error) { return io.ReadAll(r) }

// half is content whose second half never comes.
type half struct{ blob.Source }

func (h half) Open() (blob.Reader, error) {
	r, err := h.Source.Open()
	return halfReader{r, h.Size() / 2}, err
}

type halfReader struct {
	blob.Reader
	end int64
}

func (r halfReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.end {
		fmt.Println("half")
		select {}
	}
	return r.Reader.ReadAt(p, off)
}

// stall creates or swaps an object and gets half-way.
func stall(m *dir.Mirror, act string) error {
	go func() { time.Sleep(time.Minute); os.Exit(1) }() // keeps select{} from being a deadlock
	u := upload("a", strings.Repeat("content", 1<<20))
	u.Content = half{u.Content}
	if act == "create" {
		return m.Create(context.Background(), u)
	}
	info, err := m.Stat(context.Background(), "a")
	if err != nil {
		return err
	}
	_, err = m.Swap(context.Background(), u, info.Version)
	return err
}

func TestKilledHalfWay(t *testing.T) {
	for _, act := range []string{"create", "swap"} {
		path := t.TempDir()
		m := open(t, path).Mirror(".")
		var want []string
		if act == "swap" {
			create(t, m, "a", "old")
			want = []string{"a"}
		}
		kill(t, command(t, "stall", path, act))
		wantList(t, m, want...)
		if left := leftovers(t, m); !slices.Equal(left, []string{"a"}) {
			t.Errorf("%s: leftovers %q, want that of a", act, left)
		}
		if act == "swap" {
			if got, _, err := mirror.Read(t.Context(), m, "a", 10); err != nil || string(got) != "old" {
				t.Errorf("read %q, %v", got, err)
			}
		}
		next := open(t, path).Mirror(".")
		if _, err := next.Swap(t.Context(), upload("a", "new"), versionOf(t, next, "a")); err != nil {
			t.Fatal(err)
		}
		wantList(t, m, "a")
		if left := leftovers(t, m); len(left) != 0 {
			t.Errorf("%s: leftovers after the next publisher: %q", act, left)
		}
	}
}

// kill lets cmd run until it is half-way.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "half\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
}

func leftovers(t *testing.T, m mirror.Sweeper) []string {
	t.Helper()
	var names []string
	for l, err := range m.Leftovers(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, l.Name)
	}
	return names
}

// fill writes until the disk is full, and then checks that what is there is whole.
func fill(m *dir.Mirror, _ string) error {
	ctx := context.Background()
	content := strings.Repeat("x", 100<<10)
	created := 0
	for ; created < 100; created++ {
		err := m.Create(ctx, upload(fmt.Sprintf("d/%02d", created), content))
		if errors.Is(err, mirror.ErrFull) {
			break
		}
		if err != nil {
			return fmt.Errorf("got error %w, want ErrFull", err)
		}
	}
	if created == 0 || created == 100 {
		return fmt.Errorf("created %d objects", created)
	}
	if _, err := m.Swap(ctx, upload("pointer", content), mirror.Absent); !errors.Is(err, mirror.ErrFull) {
		return fmt.Errorf("swap: got error %w, want ErrFull", err)
	}
	for info, err := range m.List(ctx, mirror.Range{}) {
		if err != nil {
			return err
		}
		if info.Size != int64(len(content)) {
			return fmt.Errorf("%s has %d bytes", info.Name, info.Size)
		}
		created--
	}
	if created != 0 {
		return fmt.Errorf("%d objects are missing", created)
	}
	for l, err := range m.Leftovers(ctx, "") {
		return fmt.Errorf("left over: %v, %v", l, err)
	}
	return nil
}
