package s3

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// A large object is read in ranges, at the same time, whatever goes wrong once.
func TestLargeObjectsAreReadInRanges(t *testing.T) {
	content := noise(9, 3*smallRange-5)
	faults := map[string]s3test.Fault{"none": s3test.None}
	for _, name := range []string{"reset", "truncate", "500", "503"} {
		faults[name] = passing[name]
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			server := serve(t, quick(s3test.Options{}))
			server.Put("p/large", content, false)
			m := open(t, server).Mirror("p")
			info, err := m.Stat(t.Context(), "large")
			if err != nil {
				t.Fatal(err)
			}
			server.Hook(s3test.Once("GetObject", 2, fault))
			server.ForgetLog()
			var arrived atomic.Int64
			got, err := m.ReadParts(t.Context(), "large", int64(len(content)), info.Version, func(n int) { arrived.Add(int64(n)) })
			if err != nil || !bytes.Equal(got, content) || arrived.Load() != int64(len(content)) {
				t.Errorf("%d bytes, %d arrived, %v", len(got), arrived.Load(), err)
			}
			if n := server.Count("GetObject"); name == "none" && n != 3 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// What is read in ranges is one version of an object, and all of it.
func TestRangesAreOfOneVersion(t *testing.T) {
	old, other := noise(3, 2*smallRange), noise(4, 2*smallRange)
	server := serve(t, quick(s3test.Options{}))
	m := open(t, server).Mirror("")
	for name, now := range map[string][]byte{"another": other, "a longer one": append(bytes.Clone(other), 1), "a shorter one": other[:10], "an empty one": nil} {
		server.Put("x", old, false)
		info, err := m.Stat(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		server.Put("x", now, false)
		if got, err := m.ReadParts(t.Context(), "x", int64(len(old)), info.Version, nil); !errors.Is(err, mirror.ErrConflict) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		got, err := m.ReadParts(t.Context(), "x", int64(len(old)), mirror.Absent, nil)
		if name == "another" && (err != nil || !bytes.Equal(got, other)) || name != "another" && !errors.Is(err, mirror.ErrConflict) {
			t.Errorf("%s, any version: %d bytes, %v", name, len(got), err)
		}
	}
	server.Put("x", old, false)
	server.Hook(s3test.Once("GetObject", 2, s3test.Alter(func(a *s3test.Answer) { a.Header.Set("Etag", `"another"`) })))
	if got, err := m.ReadParts(t.Context(), "x", int64(len(old)), mirror.Absent, nil); !errors.Is(err, mirror.ErrConflict) {
		t.Errorf("two versions: %d bytes, %v", len(got), err)
	}
	if _, err := m.ReadParts(t.Context(), "gone", 10, mirror.Absent, nil); !errors.Is(err, mirror.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// A server that sends whole objects only is no failure.
func TestWithoutRangesTheWholeIsRead(t *testing.T) {
	content := noise(5, 2*smallRange)
	server := serve(t, quick(s3test.Options{}))
	server.Put("x", content, false)
	server.Hook(func(r *http.Request) s3test.Fault {
		if r.Header.Get("Range") == "" {
			return s3test.None
		}
		return s3test.Alter(func(a *s3test.Answer) {
			a.Status, a.Body = http.StatusOK, content
			a.Header.Del("Content-Range")
			a.Header.Set("Content-Length", strconv.Itoa(len(content)))
		})
	})
	m := open(t, server).Mirror("")
	got, err := mirror.ReadLarge(t.Context(), m, "x", int64(len(content)), mirror.Absent, 1<<30)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// Nor is one whose object has another size than expected.
	got, err = mirror.ReadLarge(t.Context(), m, "x", 20, mirror.Absent, 1<<30)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("of another size: %d bytes, %v", len(got), err)
	}
	if _, err := mirror.ReadLarge(t.Context(), m, "x", 20, mirror.Absent, 100); err == nil {
		t.Error("more than the limit was read")
	}
}

func TestRanges(t *testing.T) {
	for size, want := range map[int64]int64{0: 1, 1: 1, smallRange: 1, smallRange + 1: 2, 13e6: 2, 110e6: 4, 160 * mib: 4, 1.1e9: 33} {
		if got := ranges(size); got != want {
			t.Errorf("%d bytes: %d ranges, want %d", size, got, want)
		}
	}
}

// An upload may ask for few parts.
func TestAnUploadInFewParts(t *testing.T) {
	server := serve(t, quick(s3test.Options{}))
	m := open(t, server, func(o *Options) { o.Threshold, o.PartSize = minPart, minPart }).Mirror("")
	u := upload1("x", noise(6, 4*minPart))
	u.PartSize = 2 * minPart
	if err := m.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if n := server.Count("UploadPart"); n != 2 {
		t.Errorf("%d parts", n)
	}
}
