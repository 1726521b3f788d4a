package prune

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// manyPackages have a document and two blobs each.
var manyPackages = 333_333

const (
	orphans = 1_000
	latency = 40 * time.Millisecond
)

// A synthetic is a mirror of a million objects, none of which exists. Each request takes some time.
type synthetic struct {
	names []string // sorted
	index blob.Digest
	size  int64
	start time.Time
	peak  *atomic.Uint64 // bytes of memory in use
}

func hashOf(i int) spec.Hash {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte("package"), uint32(i)))
	return spec.Hash(strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20])))
}

func blobOf(kind string, i int) blob.Digest {
	return sha256.Sum256(binary.BigEndian.AppendUint32([]byte(kind), uint32(i)))
}

func nameOf(i int) string { return fmt.Sprintf("%c%c-package-%d", 'a'+i%26, 'a'+i/26%26, i/4) }

func documentOf(i int) string {
	n := &spec.Node{Name: nameOf(i), Version: fmt.Sprint("1.", i%4), Hash: hashOf(i)}
	return layout.V3Spec(n)
}

// record is that of package i, which depends on the one before.
func record(i int) string {
	dependencies := ""
	if i%10 > 0 {
		dependencies = fmt.Sprintf(`"dependencies":[{"name":%q,"hash":%q,"parameters":{"deptypes":["link"],"virtuals":[]}}],`, nameOf(i-1), hashOf(i-1))
	}
	return fmt.Sprintf(`%q:{"spec":{"name":%q,"version":"1.%d","arch":{"platform":"linux","platform_os":"ubuntu24.04","target":"x86_64_v3"},"namespace":"builtin","parameters":{"build_system":"generic","cflags":[],"padding":%q},"package_hash":"x",%s"annotations":{"original_specfile_version":5},"hash":%q},"ref_count":1,"in_buildcache":true}`,
		hashOf(i), nameOf(i), i%4, strings.Repeat("p", 100), dependencies, hashOf(i))
}

// indexBody is the index as it is read, one record at a time.
type indexBody struct {
	next int
	rest []byte
}

func (b *indexBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		switch {
		case b.next > manyPackages:
			return 0, io.EOF
		case b.next == manyPackages:
			b.rest = []byte(`}}}`)
		case b.next == 0:
			b.rest = []byte(`{"database":{"version":"8","installs":{` + record(0))
		default:
			b.rest = []byte("," + record(b.next))
		}
		b.next++
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func newSynthetic(t *testing.T) *synthetic {
	t.Helper()
	s := &synthetic{start: time.Now(), peak: new(atomic.Uint64)}
	for i := range manyPackages {
		s.names = append(s.names, documentOf(i), layout.V3Blob(blobOf("tarball", i)), layout.V3Blob(blobOf("spec", i)))
	}
	for i := range orphans {
		s.names = append(s.names, layout.V3Blob(blobOf("orphan", i)))
	}
	sum := sha256.New()
	var err error
	if s.size, err = io.Copy(sum, &indexBody{}); err != nil {
		t.Fatal(err)
	}
	s.index = blob.Digest(sum.Sum(nil))
	s.names = append(s.names, layout.V3Index, layout.V3Layout, layout.V3Blob(s.index))
	slices.Sort(s.names)
	return s
}

// wait is the time of a request. Memory is measured now and then.
func (s *synthetic) wait(measure bool) {
	time.Sleep(latency)
	if measure {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		s.peak.Store(max(s.peak.Load(), m.HeapInuse))
	}
}

func (s *synthetic) info(name string) mirror.Info {
	sum := sha256.Sum256([]byte(name))
	return mirror.Info{Name: name, Size: 1000, Version: mirror.Version(fmt.Sprintf("%q", fmt.Sprintf("%x", sum[:16]))), Modified: s.start.Add(-90 * day)}
}

func (s *synthetic) List(_ context.Context, r mirror.Range) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		at, _ := slices.BinarySearch(s.names, max(r.Prefix, r.After))
		for n := 0; at < len(s.names) && (strings.HasPrefix(s.names[at], r.Prefix) || s.names[at] < r.Prefix); at++ {
			name := s.names[at]
			if r.After != "" && name <= r.After {
				continue
			}
			if r.Until != "" && name >= r.Until {
				break
			}
			if n%1000 == 0 {
				s.wait(true)
			}
			n++
			if !yield(s.info(name), nil) {
				return
			}
		}
	}
}

func (s *synthetic) Open(_ context.Context, name string) (*mirror.Object, error) {
	info := s.info(name)
	var body io.Reader
	switch {
	case name == layout.V3Index:
		body = strings.NewReader(manifestOf("application/vnd.spack.db.v8+json", s.size, s.index))
	case name == layout.V3Layout:
		body = strings.NewReader("{}")
	case name == layout.V3Blob(s.index):
		info.Size, body = s.size, &indexBody{}
	default:
		if _, ok := layout.ParseV3Spec(name); !ok {
			return nil, fmt.Errorf("open %s: %w", name, mirror.ErrNotExist)
		}
		i := s.packageOf(name)
		body = strings.NewReader(manifestOf("application/vnd.spack.install.v2.tar+gzip", 1000, blobOf("tarball", i), blobOf("spec", i)))
	}
	s.wait(strings.HasSuffix(name, "aa.spec.manifest.json"))
	if b, ok := body.(*strings.Reader); ok {
		info.Size = b.Size()
	}
	return &mirror.Object{Info: info, Body: io.NopCloser(body)}, nil
}

func (s *synthetic) Stat(_ context.Context, name string) (mirror.Info, error) {
	return s.info(name), nil
}

// packageOf finds the package of a document by its name: LETTERS-package-N and version 1.M.
func (s *synthetic) packageOf(name string) int {
	id, _ := layout.ParseV3Spec(name)
	var quarter, version int
	fmt.Sscanf(id.Package[3:], "package-%d", &quarter)
	fmt.Sscanf(id.Version, "1.%d", &version)
	for i := quarter * 4; i < quarter*4+4; i++ {
		if i%4 == version {
			return i
		}
	}
	return -1
}

func manifestOf(mediaType string, size int64, digests ...blob.Digest) string {
	var out bytes.Buffer
	out.WriteString(`{"version":3,"data":[`)
	for i, d := range digests {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, `{"contentLength":%d,"mediaType":%q,"compression":"none","checksumAlgorithm":"sha256","checksum":%q}`, size, mediaType, d)
	}
	out.WriteString(`]}`)
	return out.String()
}

// A million objects are planned in 60 s where a request takes 40 ms, and in 500 MB.
func TestAMillionObjectsArePlanned(t *testing.T) {
	if testing.Short() {
		manyPackages = 30_000
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(Memory)) // as the command does
	var before runtime.MemStats
	synctest.Test(t, func(t *testing.T) {
		s := newSynthetic(t)
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		keep := Keep{Hashes: make(map[spec.Hash]bool)}
		for i := 9; i < manyPackages; i += 20 {
			keep.Hashes[hashOf(i)] = true // and the nine that it needs
		}
		p := mustPlan(t, s, careful(keep))
		took := time.Since(began)
		objects, _ := p.Objects()
		want := manyPackages/2*3 + orphans
		if objects < want-40 || objects > want+40 || p.Layouts[0].Orphans.Objects != orphans {
			t.Errorf("%d objects would go, want about %d; %d orphans", objects, want, p.Layouts[0].Orphans.Objects)
		}
		used := s.peak.Load() - before.HeapInuse
		t.Logf("%d objects in %s at %s a request, %d MB", len(s.names), took, latency, used>>20)
		if took > time.Minute {
			t.Errorf("it took %s", took)
		}
		if used > 500<<20 {
			t.Errorf("it took %d MB", used>>20)
		}
	})
}
