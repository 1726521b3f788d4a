//go:build spack

package spack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	product "github.com/vantagecompute/slurm-factory-publish/publish"
	specs "github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec/spectest"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// fixtures are the mirrors that this Spack reads and whose index it writes.
func (s *spack) fixtures() []string {
	if s.v3() {
		return []string{"v3-signed", "v3-unsigned", "v3-migrated"}
	}
	return []string{"v2-signed", "v2-unsigned"}
}

// What we publish, Spack lists, and the index that it then makes itself is ours.
func TestSpackMakesTheSameIndex(t *testing.T) {
	s := newSpack(t)
	for _, fixture := range s.fixtures() {
		m := published(t, fixture)
		s.reading(t, m, false)
		ours := indexOf(t, m, s.v3())
		if listed := s.listed(t); len(listed) == 0 || !strings.Contains(strings.Join(listed, " "), "slurm") {
			t.Errorf("%s: Spack lists %v", fixture, listed)
		}
		s.updateIndex(t, m)
		if diff := cmp.Diff(indexOf(t, m, s.v3()), ours); diff != "" {
			t.Errorf("%s (-spack +ours):\n%s", fixture, diff)
		}
		publish(t, "verify", "--deep", "file://"+m)
		publish(t, "index", "file://"+m)
		if diff := cmp.Diff(ours, indexOf(t, m, s.v3())); diff != "" {
			t.Errorf("%s: after a rebuild:\n%s", fixture, diff)
		}
	}
}

// What Spack migrates from layout v2, we index as Spack does.
func TestSpackMigrates(t *testing.T) {
	s := newSpack(t)
	if !s.v3() {
		t.Log("this Spack has no layout v3 to migrate to")
		return
	}
	m := published(t, "v2-unsigned")
	s.reading(t, m, false)
	s.run(t, "buildcache", "migrate", "--unsigned", "ours")
	publish(t, "index", "file://"+m)
	ours := indexOf(t, m, true)
	s.updateIndex(t, m)
	if diff := cmp.Diff(indexOf(t, m, true), ours); diff != "" {
		t.Errorf("(-spack +ours):\n%s", diff)
	}
}

// Packages install from what we publish, with their signatures checked by the key that was published along.
func TestSpackInstalls(t *testing.T) {
	s := newSpack(t)
	fixture := s.fixtures()[0]
	m := published(t, fixture)
	s.reading(t, m, true)
	s.run(t, "buildcache", "keys", "--install", "--trust")
	for hash, r := range indexOf(t, m, s.v3()) {
		node := r.Spec.(map[string]any)
		if !r.InBuildcache || node["name"] != "zlib" {
			continue
		}
		s.run(t, "buildcache", "install", "--otherarch", "/"+hash)
		if out := s.run(t, "find", "--format", "{hash}", "/"+hash); !strings.Contains(out, hash) {
			t.Errorf("zlib is not installed: %s", out)
		}
	}
}

func layouts(s *spack) map[string][2]int { // file of the oracle: format of its specs, version of their index
	if s.v3() {
		return map[string][2]int{"v5.jsonl.gz": {spec.Format5, specs.V8}, "v4.jsonl.gz": {spec.Format4, specs.V7}}
	}
	return map[string][2]int{"v4.jsonl.gz": {spec.Format4, specs.V7}}
}

// The contract accepts nothing that this Spack does not read.
func TestContractHoldsForThisSpack(t *testing.T) {
	s := newSpack(t)
	for file, format := range layouts(s) {
		all := spectest.Read(t, testdata+"reader/"+file)
		var questions []question
		for _, v := range all {
			questions = append(questions, question{v.Document, format[1]})
		}
		s.wantJudged(t, questions, format[0])
	}
}

// wantJudged fails for documents that we accept and Spack does not.
func (s *spack) wantJudged(t *testing.T, questions []question, format int) {
	t.Helper()
	accepted := 0
	for i, v := range s.judge(t, questions) {
		_, err := spec.Parse([]byte(questions[i].Document), format)
		if err != nil {
			continue
		}
		accepted++
		if !v.reads() {
			t.Errorf("accepted, and Spack says %+v: %s", v, questions[i].Document)
		}
	}
	t.Logf("of %d documents %d were accepted", len(questions), accepted)
	if accepted == 0 {
		t.Error("none was accepted")
	}
}

// Nor does it accept what Spack does not read of documents that were changed at random.
func TestContractHoldsForRandomChanges(t *testing.T) {
	s := newSpack(t)
	for file, format := range layouts(s) {
		all := spectest.Read(t, testdata+"reader/"+file)
		unchanged := all[len(all)-1].Document
		random := rand.New(rand.NewPCG(1, 2))
		var questions []question
		for range 4000 {
			questions = append(questions, question{spectest.Mutate(random, unchanged), format[1]})
		}
		s.wantJudged(t, questions, format[0])
	}
}

// A between calls happen right before the first swap of the index.
type between struct {
	mirror.Store
	once   sync.Once
	happen func()
}

func (b *between) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	if strings.HasSuffix(u.Name, "index.manifest.json") {
		b.once.Do(b.happen)
	}
	return b.Store.Swap(ctx, u, was)
}

// No package is lost if Spack's own prune runs between two of our requests.
func TestPruneBetweenTwoRequests(t *testing.T) {
	s := newSpack(t)
	if out, err := s.try("buildcache", "prune", "--help"); err != nil {
		t.Logf("this Spack has no prune: %s", out)
		return
	}
	m := published(t, "v3-signed")
	s.reading(t, m, false)
	there, err := dir.Open(m, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	src, err := source.Open(t.Context(), testdata+"v3-unsigned", source.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	store := &between{Store: there.Mirror(""), happen: func() {
		s.updateIndex(t, m)
		s.run(t, "buildcache", "prune", "ours")
	}}
	plan, err := product.NewPlan(t.Context(), src, func(string) mirror.Store { return store }, product.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), quiet{}); err != nil {
		t.Fatal(err)
	}
	publish(t, "verify", "--deep", "file://"+m)
}

type quiet struct{}

func (quiet) Sent(string, int64, int64) {}
func (quiet) Step(string, string)       {}
func (quiet) Stored(string, int64)      {}

// Publishers of ours and index updates of Spack write one mirror at once. When all are done, a publish that adds nothing
// leaves everything offered.
func TestWritersOfBothKindsAtOnce(t *testing.T) {
	s := newSpack(t)
	fixture := s.fixtures()[0]
	m := published(t, fixture)
	s.reading(t, m, false)
	want := len(indexOf(t, m, s.v3()))
	names := []string{"zlib", "openssl", "munge", "hwloc", "libevent", "pmix", "slurm"}
	empty := filepath.Join(t.TempDir(), "mirror")
	publish(t, "--include", "zlib", testdata+fixture, "file://"+empty)
	var g sync.WaitGroup
	for _, name := range names {
		g.Go(func() {
			if out, err := exec.Command(bin(t), "--include", name, testdata+fixture, "file://"+empty).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		})
	}
	for range 3 {
		g.Go(func() {
			if out, err := s.try("buildcache", "update-index", "file://"+empty); err != nil {
				t.Logf("Spack's update-index: %v\n%s", err, out) // it takes a file that is being replaced for damage
			}
		})
	}
	g.Wait()
	publish(t, testdata+fixture, "file://"+empty)
	if got := len(indexOf(t, empty, s.v3())); got != want {
		t.Errorf("%d records, want %d", got, want)
	}
	publish(t, "verify", "--deep", "file://"+empty)
	s.reading(t, empty, false)
	s.listed(t)
}

// All variants that Spack reads, in one mirror, are one index that Spack reads and makes itself.
func TestVariantsAreListed(t *testing.T) {
	s := newSpack(t)
	if !s.v3() {
		t.Log("variants of layout v2 are judged one by one")
		return
	}
	source, m := filepath.Join(s.home, "source"), filepath.Join(s.home, "mirror")
	variants := spectest.Read(t, testdata+"reader/v5.jsonl.gz")
	unchanged, err := spec.Parse([]byte(variants[len(variants)-1].Document), spec.Format5)
	if err != nil {
		t.Fatal(err)
	}
	root := unchanged.Root()
	for i, v := range variants {
		hash := strings.Map(func(r rune) rune { return 'a' + r - '0' }, fmt.Sprintf("%032d", i))
		document := strings.ReplaceAll(v.Document, string(root.Hash), hash)
		if err := spackmirror.WritePackage(source, root.Name, root.Version, hash, spec.Format5, document); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(bin(t), "--keep-going", source, "file://"+m).CombinedOutput()
	if err == nil {
		t.Error("no variant was refused")
	}
	s.reading(t, m, false)
	ours := indexOf(t, m, true)
	if len(ours) < 80 {
		t.Fatalf("%d records\n%s", len(ours), out)
	}
	if listed := s.listed(t); len(listed) < 80 {
		t.Errorf("Spack lists %d packages", len(listed))
	}
	s.updateIndex(t, m)
	theirs := indexOf(t, m, true)
	for hash, r := range ours { // Spack derives nodes again, so only the hashes are compared
		if theirs[hash].InBuildcache != r.InBuildcache {
			t.Errorf("%s: offered %v, and by Spack %v", hash, r.InBuildcache, theirs[hash].InBuildcache)
		}
	}
}
