package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// fixture opens a copy of a mirror that real Spack wrote.
func fixture(t testing.TB, name string) (*dir.Mirror, string) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(at, os.DirFS("../../test/testdata/"+name)); err != nil {
		t.Fatal(err)
	}
	d, err := dir.Open(at, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.Mirror(""), at
}

func updated(t testing.TB, s Store, o Options) *Result {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = time.Unix(1_700_000_000, 0)
	}
	r, err := Update(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A recorder is a store that remembers what was written.
type recorder struct {
	Store
	refuse int // how many swaps lose a race

	mu      sync.Mutex // objects are created at once
	written []string
}

func (r *recorder) Create(ctx context.Context, u mirror.Upload) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = append(r.written, u.Name)
	return r.Store.Create(ctx, u)
}

func (r *recorder) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	if r.refuse > 0 {
		r.refuse--
		return "", mirror.ErrConflict
	}
	r.written = append(r.written, u.Name)
	return r.Store.Swap(ctx, u, was)
}

// The page is written last, once; the second run writes nothing; what a lost race left is used.
func TestThePageIsWrittenLast(t *testing.T) {
	for _, name := range []string{"v3-signed", "v2-signed", "v3-migrated"} {
		m, _ := fixture(t, name)
		s := &recorder{Store: m, refuse: 2}
		r := updated(t, s, Options{})
		if r.Packages == 0 || r.Unchanged || s.written[len(s.written)-1] != Page {
			t.Errorf("%s: %+v, %v", name, r, s.written)
		}
		for _, w := range s.written[:len(s.written)-1] {
			if !strings.HasPrefix(w, Parts) {
				t.Errorf("%s: %s was written", name, w)
			}
		}
		s.written = nil
		if r := updated(t, s, Options{Now: time.Unix(1_800_000_000, 0)}); !r.Unchanged || len(s.written) > 0 || len(r.Stale) > 0 {
			t.Errorf("%s: again: %+v, %v", name, r, s.written)
		}
	}
}

// A page of somebody else is left alone, and a damaged segment is an error.
func TestWhatIsNotOursIsNotReplaced(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	page := filepath.Join(at, Page)
	if err := os.WriteFile(page, []byte("<html>mine</html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Update(t.Context(), m, Options{}); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if err := os.Remove(page); err != nil {
		t.Fatal(err)
	}
	updated(t, m, Options{})
	segments, err := filepath.Glob(filepath.Join(at, Parts, "*.json"))
	if err != nil || len(segments) != 5 {
		t.Fatal(segments, err)
	}
	for _, s := range segments {
		if err := os.Truncate(s, 3); err != nil {
			t.Fatal(err)
		}
	}
	setIndex(t, at, indexOf(t, at), func(name string) bool { return name != "zlib" })
	if _, err := Update(t.Context(), m, Options{}); err == nil || !strings.Contains(err.Error(), "catalog") {
		t.Error(err)
	}
	r := updated(t, m, Options{Rebuild: true})
	if p, _, err := readPage(t.Context(), m); err != nil || !r.Rebuilt {
		t.Error(err, r)
	} else if _, err := readTable(t.Context(), m, p); err != nil {
		t.Errorf("after a rebuild: %v", err)
	}
}

// What is damaged under the name of its own content is replaced by a rebuild, and invalidated.
func TestARebuildReplacesDamage(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	updated(t, m, Options{})
	parts, err := filepath.Glob(filepath.Join(at, Parts, "*"))
	if err != nil || len(parts) != 7 {
		t.Fatal(parts, err)
	}
	for _, p := range parts {
		if err := os.Truncate(p, 3); err != nil {
			t.Fatal(err)
		}
	}
	r := updated(t, m, Options{Rebuild: true})
	if len(r.Stale) != len(parts)+1 {
		t.Errorf("%+v", r)
	}
	for _, p := range parts {
		text, err := os.ReadFile(p)
		if err != nil || !strings.HasPrefix(filepath.Base(p), blob.DigestOf(text).String()) {
			t.Errorf("%s is still damaged: %v", p, err)
		}
	}
}

// A reading store counts what is read of it.
type reading struct {
	Store
	read []string
}

func (r *reading) Open(ctx context.Context, name string) (*mirror.Object, error) {
	r.read = append(r.read, name)
	return r.Store.Open(ctx, name)
}

// While the index is the same, an update reads the page and what points at the index, and no more. Another title or address is written all the
// same, and what is left open stays as it was.
func TestAnIndexThatIsShownIsNotReadAgain(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	updated(t, m, Options{Title: "ACME", URL: "https://cache.example.org"})
	r := &reading{Store: m}
	if got := updated(t, r, Options{}); !got.Unchanged || got.Packages != 11 {
		t.Errorf("%+v", got)
	}
	for _, name := range r.read {
		if name != Page && name != layout.V3Index && name != layout.V2Index {
			t.Errorf("%s was read", name)
		}
	}
	if got := updated(t, m, Options{Title: "Another"}); got.Unchanged || got.Objects != 1 {
		t.Errorf("another title: %+v", got)
	}
	setIndex(t, at, indexOf(t, at), func(name string) bool { return name != "slurm" })
	updated(t, m, Options{})
	p, _, err := readPage(t.Context(), m)
	if err != nil || p.Title != "Another" || p.URL != "https://cache.example.org" || p.Packages != 10 {
		t.Errorf("%v: %+v", err, p)
	}
}

// Views, keys and plain files that come or go are shown, although the index is the same.
func TestWhatIsBesidePackagesIsNoticed(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	updated(t, m, Options{})
	for i, change := range []func() error{
		func() error { return os.WriteFile(filepath.Join(at, "x.tar.gz"), []byte("x"), 0o644) },
		func() error { return os.WriteFile(filepath.Join(at, "x.tar.gz.asc"), []byte("x"), 0o644) },
		func() error { return os.Remove(filepath.Join(at, layout.V3KeyIndex)) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if r := updated(t, m, Options{}); r.Unchanged || r.Objects != 2 {
			t.Errorf("change %d: %+v", i, r)
		}
		if r := updated(t, m, Options{}); !r.Unchanged {
			t.Errorf("change %d, again: %+v", i, r)
		}
	}
}

// Signatures are compared with the keys that are given. What was not compared is, as soon as the keys are given again.
func TestSignaturesAreJudged(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	whole := indexOf(t, at)
	ringOf := func(name string) *key.Ring {
		text, err := os.ReadFile("../../test/testdata/keys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		ring, err := key.ReadRing(text)
		if err != nil {
			t.Fatal(err)
		}
		return ring
	}
	judged := func(o Options) string {
		t.Helper()
		updated(t, m, o)
		p, _, err := readPage(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, ref := range p.Segments[kindBuilds] {
			s, err := readSegment(t.Context(), m, ref)
			if err != nil {
				t.Fatal(err)
			}
			for i, trust := range s.Trust.Index {
				if s.Here[i] == 1 {
					counts[s.Trust.Values[trust]]++
				}
			}
		}
		return fmt.Sprint(counts)
	}
	one := ringOf("one.pub")
	setIndex(t, at, whole, func(name string) bool { return name != "slurm" })
	for i, step := range []struct {
		o    Options
		want string
	}{
		{Options{}, "map[:10]"},
		{Options{Trusted: one, Follow: true}, "map[:10]"}, // a publish does not change what the page compares with
		{Options{Trusted: one}, "map[yes:10]"},
		{Options{}, "map[yes:10]"},
		{Options{Rebuild: true}, "map[:10]"},
		{Options{Trusted: one}, "map[yes:10]"},
		{Options{Trusted: ringOf("two.pub")}, "map[no:10]"},
		{Options{Trusted: one}, "map[yes:10]"},
	} {
		if got := judged(step.o); got != step.want {
			t.Errorf("step %d: %s, want %s", i+1, got, step.want)
		}
	}
	setIndex(t, at, whole, func(string) bool { return true })
	if got := judged(Options{}); got != "map[:1 yes:10]" {
		t.Errorf("a package more, and no keys: %s", got)
	}
	if got := judged(Options{Trusted: one}); got != "map[yes:11]" {
		t.Errorf("and with keys: %s", got)
	}
}

// A segment that was written before there were descriptions has none, and takes rows that have.
func TestASegmentWithoutDescriptions(t *testing.T) {
	s := &segment{Variants: &strcol{}, Edges: [][]int{{}, {}}}
	if table := newTable(); !table.learn(kindMore, s, 0, 2) {
		t.Fatal("it is refused")
	}
	s.About.add("new")
	if fmt.Sprint(s.About.Values, s.About.Index) != "[ new] [0 0 1]" {
		t.Errorf("%q %v", s.About.Values, s.About.Index)
	}
}

// Rows of views are coded in runs, and releases of mirrors below are not those of this one.
func TestRunsAndReleases(t *testing.T) {
	if got := fmt.Sprint(runs([]int{7, 1, 2, 3, 9})); got != "[1 3 3 1 1 1]" {
		t.Error(got)
	}
	for name, want := range map[string]bool{"a/x.tar.gz": true, "x.tar.gz.asc": false, "noble/build_cache/x.tar.gz": false, "noble/blobs/x.zip": false, "x": false} {
		if isRelease(name) != want {
			t.Error(name)
		}
	}
}

// A suspect store is one of which it must be proved that it obeys conditions.
type suspect struct {
	*recorder
	proved int
	fails  error
}

func (s *suspect) Proof(was mirror.Version) string {
	if was == mirror.Absent {
		return "if-none-match here"
	}
	return "if-match here"
}

func (s *suspect) Prove(_ context.Context, _ mirror.Version, there *mirror.Upload) error {
	s.proved++
	if _, err := s.Stat(context.Background(), there.Name); err != nil {
		return err
	}
	return s.fails
}

// A page is replaced only where the storage was seen to obey the condition, once for each kind of condition.
func TestThePageIsReplacedOnlyWhereConditionsAreProved(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	whole := indexOf(t, at)
	s := &suspect{recorder: &recorder{Store: m}, fails: &mirror.ConditionError{Header: "If-None-Match"}}
	if _, err := Update(t.Context(), s, Options{}); !errors.As(err, new(*mirror.ConditionError)) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(at, Page)); err == nil {
		t.Fatal("the page was written to storage that ignores conditions")
	}
	s.fails, s.proved = nil, 0
	for i, gone := range []string{"", "zlib", "slurm", "hdf5"} {
		setIndex(t, at, whole, func(name string) bool { return name != gone })
		if updated(t, s, Options{}); s.proved != min(i+1, 2) {
			t.Errorf("update %d: proved %d times", i+1, s.proved)
		}
	}
}

// A memory holds objects by name.
type memory map[string][]byte

func (m memory) Open(_ context.Context, name string) (*mirror.Object, error) {
	content, ok := m[name]
	if !ok {
		return nil, mirror.ErrNotExist
	}
	return &mirror.Object{Info: mirror.Info{Name: name, Size: int64(len(content))}, Body: io.NopCloser(bytes.NewReader(content))}, nil
}

func (m memory) Stat(ctx context.Context, name string) (mirror.Info, error) {
	o, err := m.Open(ctx, name)
	if err != nil {
		return mirror.Info{}, err
	}
	defer o.Body.Close()
	return o.Info, nil
}

// store keeps what a table seals, and returns how many bytes are new and how many all are.
func (m memory) store(t testing.TB, table *table) (written, all int) {
	t.Helper()
	for _, u := range table.seal() {
		if m[u.Name] == nil {
			content, err := blob.ReadAll(u.Content)
			if err != nil {
				t.Fatal(err)
			}
			m[u.Name] = content
			written += len(content)
		}
	}
	raw, err := json.Marshal(table.pointer)
	if err != nil {
		t.Fatal(err)
	}
	for name := range table.pointer.names() {
		all += len(m[name])
	}
	return written + len(raw), all + len(raw)
}

// synthetic makes packages with dependencies: one of 900 names, in many builds.
func synthetic(g *query.Graph, from, to int) []*query.Node {
	var nodes []*query.Node
	for i := from; i < to; i++ {
		hash := hashOf(i)
		deps := []string{}
		for k := 1; k <= 6 && i-k*k*7 >= 0; k++ {
			deps = append(deps, fmt.Sprintf(`{"name":"x","hash":%q,"parameters":{"deptypes":["build","link"],"virtuals":[]}}`, hashOf(i-k*k*7)))
		}
		text := fmt.Sprintf(`{"name":"package-%d","version":"%d.%d.%d","arch":{"platform":"linux","platform_os":"rocky%d","target":"zen%d"},"namespace":"builtin",`+
			`"parameters":{"build_system":"cmake","shared":%t,"mpi":%t,"api":"v%d"},"dependencies":[%s],"annotations":{"original_specfile_version":5},"hash":%q}`,
			i*7919%900, i%7, i%13, i%5, 8+i%2, 2+i%3, i%2 == 0, i%3 == 0, i%4, strings.Join(deps, ","), hash)
		n, err := g.Add([]byte(text))
		if err != nil {
			panic(err)
		}
		nodes = append(nodes, n)
	}
	g.Link()
	return nodes
}

func hashOf(i int) string {
	digest := blob.DigestOf(fmt.Append(nil, i)).String()
	out := make([]byte, 32)
	for k := range out {
		out[k] = "abcdefghijklmnopqrstuvwxyz234567"[(digest[2*k]*31+digest[2*k+1])%32]
	}
	return string(out)
}

// Twenty packages more cost at most 5 % of 10,000, whatever was added before, and the rows stay what they were.
func TestTwentyPackagesMoreCostLittle(t *testing.T) {
	g := query.NewGraph()
	first := newTable()
	nodes := synthetic(g, 0, 10_000)
	first.grow(len(nodes))
	document := func(n *query.Node) *inventory.Document {
		return &inventory.Document{Build: &inventory.Build{Node: n}, Size: 900, Stored: time.Unix(1_700_000_000, 0), Signer: "E2B916BA3F20EF43B0E1929C3F8A0A25420FACD5"}
	}
	recipe := licence.Facts{Licence: "MIT"} // descriptions would be more of what stays
	for _, n := range nodes {
		first.add(n, document(n), recipe)
	}
	m := memory{}
	_, all := m.store(t, first)
	worst := 0.0
	pointer := first.pointer
	for round := range 40 {
		table, err := readTable(t.Context(), m, pointer)
		if err != nil {
			t.Fatal(err)
		}
		if len(table.rows) != 10_000+20*round || table.rows[hashOf(17)] != 17 {
			t.Fatalf("round %d: %d rows", round, len(table.rows))
		}
		table.grow(20)
		for _, n := range synthetic(g, 10_000+20*round, 10_020+20*round) {
			table.add(n, document(n), recipe)
		}
		var written int
		written, all = m.store(t, table)
		worst = max(worst, float64(written)/float64(all))
		pointer = table.pointer
		if !pointer.sound() {
			t.Fatalf("round %d: the page does not fit together", round)
		}
	}
	t.Logf("%d bytes in all, at most %.1f %% written for 20 packages", all, 100*worst)
	if worst > 0.05 {
		t.Errorf("%.1f %% were written for 20 packages", 100*worst)
	}
}

// A package that is taken out of the index is no longer shown; one that comes back is; one that was only a dependency
// gets a row of its own.
func TestPackagesComeAndGo(t *testing.T) {
	m, at := fixture(t, "v3-signed")
	whole := indexOf(t, at)
	table := newTable()
	take := func(keep func(name string) bool) {
		t.Helper()
		setIndex(t, at, whole, keep)
		inv, err := inventory.Read(t.Context(), m, "")
		if err == nil {
			_, err = table.take(t.Context(), m, inv, Options{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	take(func(name string) bool { return name != "zlib" })
	rows := table.pointer.Rows
	take(func(string) bool { return true })
	if p := table.pointer; len(p.Moved) != 1 || p.Rows != rows+1 || len(p.Gone) != 0 {
		t.Errorf("zlib was added: %+v", p)
	}
	take(func(name string) bool { return name != "slurm" })
	if p := table.pointer; len(p.Gone) != 1 || p.Packages != 10 {
		t.Errorf("slurm is gone: %+v", p)
	}
	take(func(string) bool { return true })
	if p := table.pointer; len(p.Gone) != 0 || p.Rows != rows+1 {
		t.Errorf("slurm is back: %+v", p)
	}
}

// indexOf returns the index of a mirror.
func indexOf(t testing.TB, at string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(at, layout.V3Index))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(at, layout.V3Blob(m.Records[0].Digest)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// setIndex makes the index of a mirror one that offers only some of its packages.
func setIndex(t testing.TB, at string, raw []byte, keep func(name string) bool) {
	t.Helper()
	var doc struct {
		Database struct {
			Version  string                    `json:"version"`
			Installs map[string]map[string]any `json:"installs"`
		} `json:"database"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	for _, record := range doc.Database.Installs {
		if name := record["spec"].(map[string]any)["name"].(string); record["in_buildcache"] == true && !keep(name) {
			record["in_buildcache"] = false
		}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	digest := blob.DigestOf(raw)
	m := manifest.Manifest{Records: []manifest.Record{{Size: int64(len(raw)), MediaType: manifest.IndexType(8), Compression: "none", Digest: digest}}}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{layout.V3Blob(digest): raw, layout.V3Index: text} {
		name = filepath.Join(at, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Names end neither the element that holds them nor the page.
func TestNamesDoNotEndThePage(t *testing.T) {
	table := newTable()
	table.grow(1)
	table.seal()
	table.pointer.Title = `</script><script>alert(1)</script>`
	table.pointer.Runs = map[string][]string{"zen4": {`</script><img src=x onerror=alert(1)>`}}
	text, err := render(table)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "<img") || strings.Contains(string(text), "<script>alert") || strings.Count(string(text), "</script>") != 2 {
		t.Errorf("%s", text)
	}
	raw, ok := embedded(text)
	var p pointer
	if !ok || json.Unmarshal(raw, &p) != nil || p.Title != table.pointer.Title {
		t.Errorf("%s", raw)
	}
}
