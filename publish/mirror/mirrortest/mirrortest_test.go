package mirrortest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMem(t *testing.T) {
	mirrortest.Run(t, func(t *testing.T) mirrortest.Store {
		return mirrortest.NewMem(t, mirrortest.LetBe)
	})
}

func TestBrokenWithoutFaults(t *testing.T) {
	mirrortest.Run(t, func(t *testing.T) mirrortest.Store {
		return mirrortest.Break(mirrortest.NewMem(t, mirrortest.LetBe))
	})
}

// A complaint is a testing.TB that notes that the test failed, and why.
type complaint struct {
	testing.TB
	said []string
}

func (c *complaint) Helper() {}
func (c *complaint) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func good(name, content string) mirror.Upload {
	return mirror.Upload{Name: name, Content: blob.Bytes([]byte(content)), Digest: blob.DigestOf([]byte(content)),
		Type: "text/plain", CacheControl: "no-cache"}
}

func nameOf(content string) string {
	d := blob.DigestOf([]byte(content)).String()
	return "x/blobs/sha256/" + d[:2] + "/" + d
}

func TestMemComplains(t *testing.T) {
	unlabelled := good("a", "a")
	unlabelled.CacheControl = ""
	untyped := good("a", "a")
	untyped.Type = ""
	for _, test := range []struct {
		name string
		do   func(ctx context.Context, m *mirrortest.Mem)
		want string // nothing if it is right
	}{
		{"a blob", func(ctx context.Context, m *mirrortest.Mem) { m.Create(ctx, good(nameOf("a"), "a")) }, ""},
		{"a blob's other content", func(ctx context.Context, m *mirrortest.Mem) { m.Create(ctx, good(nameOf("a"), "b")) }, "its content has sha256"},
		{"a blob elsewhere", func(ctx context.Context, m *mirrortest.Mem) { m.Create(ctx, good("blobs/a", "a")) }, "not a blob's name"},
		{"a blob swapped", func(ctx context.Context, m *mirrortest.Mem) { m.Swap(ctx, good(nameOf("a"), "a"), mirror.Absent) }, "it is a blob"},
		{"no Cache-Control", func(ctx context.Context, m *mirrortest.Mem) { m.Create(ctx, unlabelled) }, "without Cache-Control"},
		{"no Content-Type", func(ctx context.Context, m *mirrortest.Mem) { m.Swap(ctx, untyped, mirror.Absent) }, "without Content-Type"},
		{"an absolute name", func(ctx context.Context, m *mirrortest.Mem) { m.Stat(ctx, "/a") }, "not a clean name"},
		{"a name that climbs", func(ctx context.Context, m *mirrortest.Mem) { m.Create(ctx, good("a/../b", "a")) }, "not a clean name"},
		{"a name of two lines", func(ctx context.Context, m *mirrortest.Mem) { m.Create(ctx, good("a\nb", "a")) }, "not a clean name"},
		{"an absolute prefix", func(ctx context.Context, m *mirrortest.Mem) {
			for range m.List(ctx, mirror.Range{Prefix: "/"}) {
			}
		}, "not a clean prefix"},
		{"reading what was deleted", func(ctx context.Context, m *mirrortest.Mem) {
			is, _ := m.Swap(ctx, good("a", "a"), mirror.Absent)
			m.Delete(ctx, "a", is)
			m.Open(ctx, "a")
		}, "it was deleted"},
		{"reading what was made anew", func(ctx context.Context, m *mirrortest.Mem) {
			is, _ := m.Swap(ctx, good("a", "a"), mirror.Absent)
			m.Delete(ctx, "a", is)
			m.Create(ctx, good("a", "a"))
			m.Open(ctx, "a")
		}, ""},
		{"reading what was damaged", func(ctx context.Context, m *mirrortest.Mem) {
			m.Plant(nameOf("a"), []byte("b"))
			m.Uproot(nameOf("a"))
			m.Open(ctx, nameOf("a"))
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &complaint{TB: t}
			test.do(t.Context(), mirrortest.NewMem(c))
			if test.want == "" && len(c.said) != 0 || test.want != "" && !strings.Contains(strings.Join(c.said, "\n"), test.want) {
				t.Errorf("got the complaints %q, want %q", c.said, test.want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  mirrortest.Fault
		err    error // of a Create of p/new
		stored bool
	}{
		{"dropped", mirrortest.Drop("p/"), mirrortest.ErrInjected, false},
		{"dropped elsewhere", mirrortest.Drop("q/"), nil, true},
		{"lied about", mirrortest.Lie("p/"), mirrortest.ErrInjected, true},
		{"refused", mirrortest.Fail("p/", mirror.ErrFull), mirror.ErrFull, false},
		{"denied", mirrortest.Fail("", mirrortest.Refusals[1]), mirror.ErrDenied, false},
		{"refused to others", mirrortest.On(mirrortest.Swap, mirrortest.Fail("", mirror.ErrFull)), nil, true},
		{"first of all", mirrortest.Nth(1, mirrortest.Fail("", mirror.ErrFull)), nil, true},
		{"second of all", mirrortest.Nth(2, mirrortest.Fail("", mirror.ErrFull)), mirror.ErrFull, false},
		{"first change", mirrortest.Nth(1, mirrortest.Drop("")), mirrortest.ErrInjected, false},
		{"conflicts are for swaps", mirrortest.Conflict(""), nil, true},
		{"killed before", mirrortest.Kill(1), context.Canceled, false},
		{"killed after", mirrortest.Kill(2), nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			mem := mirrortest.NewMem(t)
			b := mirrortest.Break(mem, test.fault)
			var seen []mirrortest.Call
			b.AfterEach(func(c mirrortest.Call) { seen = append(seen, c) })
			b.Stat(t.Context(), "absent")
			if err := b.Create(t.Context(), good("p/new", "new")); !errors.Is(err, test.err) {
				t.Errorf("got error %v, want %v", err, test.err)
			}
			if _, stored := mem.Snapshot()["p/new"]; stored != test.stored {
				t.Errorf("stored: %v, want %v", stored, test.stored)
			}
			want := []mirrortest.Call{{Op: mirrortest.Stat, Name: "absent"}, {Op: mirrortest.Create, Name: "p/new"}}
			if !slices.Equal(b.Calls(), want) || !slices.Equal(seen, want) {
				t.Errorf("logged %v, seen %v, want %v", b.Calls(), seen, want)
			}
			if got := b.Mutations(); len(got) != 1 {
				t.Errorf("mutations: %v", got)
			}
		})
	}
}

func TestKillIsForGood(t *testing.T) {
	mem := mirrortest.NewMem(t)
	b := mirrortest.Break(mem, mirrortest.Drop("a"), mirrortest.Kill(0))
	for _, name := range []string{"a", "b", "c"} {
		b.Create(t.Context(), good(name, name))
	}
	_, err := b.Stat(t.Context(), "a")
	if !errors.Is(err, mirrortest.ErrKilled) || len(mem.Calls()) != 0 {
		t.Errorf("after death: error %v, calls %v", err, mem.Calls())
	}
}

func TestConflict(t *testing.T) {
	mem := mirrortest.NewMem(t)
	b := mirrortest.Break(mem, mirrortest.Nth(1, mirrortest.Conflict("p")))
	if _, err := b.Swap(t.Context(), good("p", "p"), mirror.Absent); !errors.Is(err, mirror.ErrConflict) {
		t.Errorf("got error %v, want ErrConflict", err)
	}
	if _, err := b.Swap(t.Context(), good("p", "p"), mirror.Absent); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if got := mem.Stored(); !slices.Equal(got, []string{"p"}) {
		t.Errorf("stored %v", got)
	}
}

func TestCut(t *testing.T) {
	mem := mirrortest.NewMem(t)
	for _, name := range []string{"a", "b", "c"} {
		mem.Plant(name, []byte("content"))
	}
	b := mirrortest.Break(mem, mirrortest.Cut("", 2))
	_, _, err := mirror.Read(t.Context(), b, "a", 100)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, mirrortest.ErrInjected) {
		t.Errorf("read: got error %v", err)
	}
	var names []string
	for info, err := range b.List(t.Context(), mirror.Range{}) {
		if err != nil {
			names = append(names, "error")
			break
		}
		names = append(names, info.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "error"}) {
		t.Errorf("list: got %v", names)
	}
}

func TestStall(t *testing.T) {
	b := mirrortest.Break(mirrortest.NewMem(t), mirrortest.Stall(""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Create(ctx, good("a", "a")); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
}

func TestDiff(t *testing.T) {
	want := map[string][]byte{"gone": nil, "same": []byte("same"), "other": bytes.Repeat([]byte("x"), 100)}
	got := map[string][]byte{"same": []byte("same"), "other": append(bytes.Repeat([]byte("x"), 99), 'y'), "new": nil}
	if d := mirrortest.Diff(want, want); d != "" {
		t.Errorf("equal snapshots differ: %s", d)
	}
	d := mirrortest.Diff(want, got)
	if lines := strings.Split(d, "\n"); len(lines) != 4 || lines[0] != "- gone" || lines[1] != "+ new" || !strings.HasPrefix(lines[2], "! other: at byte 99") {
		t.Errorf("got %s", d)
	}
	mem := mirrortest.NewMem(t)
	for name, content := range got {
		mem.Plant(name, content)
	}
	read, err := mirrortest.Snapshot(t.Context(), mem)
	if err != nil || mirrortest.Diff(mem.Snapshot(), read) != "" {
		t.Errorf("read %v, %v", read, err)
	}
}
