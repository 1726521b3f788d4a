package keyring_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/keyring"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/keyindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// publishTo publishes a fixture, and returns what was warned of.
func publishTo(t testing.TB, s mirror.Store, fixture string) []buildcache.Finding {
	t.Helper()
	src, err := source.Open(t.Context(), testdata+fixture, source.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	plan, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return s }, publish.Options{})
	if err == nil {
		_, err = plan.Apply(t.Context(), ignored{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return plan.Findings
}

func offers(t testing.TB, m *mirrortest.Mem, f key.Fingerprint) bool {
	t.Helper()
	named, there := publishtest.KeysIn(t, m.Snapshot())
	if !slices.Contains(there, f) {
		t.Errorf("the file of the key %s is gone", f)
	}
	return slices.Contains(named, f)
}

func rotated(t testing.TB, fixture string) *mirrortest.Mem {
	t.Helper()
	m := published(t, fixture)
	if _, err := keyring.Rotate(t.Context(), m, old, signtest.Key(t, "new")); err != nil {
		t.Fatal(err)
	}
	return m
}

// A retired key is offered again by no publish of packages that it has signed, by no new index and by nothing that is told of its
// file; a second run makes its three requests, and keys add takes it back.
func TestARetiredKeyStaysRetired(t *testing.T) {
	for fixture, l := range map[string]string{"v3-signed": "v3", "v2-signed": "v2"} {
		t.Run(l, func(t *testing.T) {
			m := rotated(t, fixture)
			done, err := keyring.Retire(t.Context(), m, old, keyring.Retiring{})
			if err != nil || len(done) != 1 || !done[0].Offered || done[0].Already || len(done[0].Stale) != 1 || len(done[0].Dependent) != 0 {
				t.Fatalf("%+v, %v", done, err)
			}
			if offers(t, m, old) {
				t.Fatal("it is offered")
			}
			f, _ := buildcache.LayoutNamed(l)
			for what, do := range map[string]func(){
				"publish": func() { publishTo(t, m, fixture) },
				"rebuild": func() {
					if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil {
						t.Error(err)
					}
				},
				"heal": func() {
					if _, err := reindex.Heal(t.Context(), m, buildcache.Trust{}, reindex.Changes{Names: []string{f.KeyName(old), f.KeyIndexName()}}); err != nil {
						t.Error(err)
					}
				},
				"add another": func() {
					if _, err := keyring.Add(t.Context(), m, signtest.Key(t, "other").Public()); err != nil {
						t.Error(err)
					}
				},
				"publish where the index of keys is lost": func() {
					m.Uproot(f.KeyIndexName())
					publishTo(t, m, fixture)
				},
			} {
				if do(); offers(t, m, old) {
					t.Errorf("after %s it is offered again", what)
				}
			}
			spackNamesAllKeys(t, m, f)
			result, err := verify.Mirror(t.Context(), m, verify.Options{})
			if err != nil || result.Damaged() || len(publishtest.Warnings(result.Findings, "which was retired: run publish index")) != 1 {
				t.Errorf("verify: %+v, %v", result, err)
			}
			if _, err := reindex.Rebuild(t.Context(), m, buildcache.Trust{}); err != nil || offers(t, m, old) {
				t.Errorf("a new index leaves what Spack has named: %v", err)
			}
			before := m.Snapshot()
			m.Forget()
			publishTo(t, publishtest.Summed{Store: m, Mem: m}, fixture)
			if n := len(m.Calls()); n > 3 {
				t.Errorf("the second run makes %d requests: %+v", n, m.Calls())
			}
			done, err = keyring.Retire(t.Context(), m, old, keyring.Retiring{})
			if err != nil || !done[0].Already || done[0].Offered || len(done[0].Stale) != 0 || mirrortest.Diff(before, m.Snapshot()) != "" {
				t.Errorf("again: %+v, %v, %s", done, err, mirrortest.Diff(before, m.Snapshot()))
			}
			listings, err := keyring.List(t.Context(), m)
			if err != nil || !slices.ContainsFunc(listings[0].Keys, func(k keyring.Key) bool { return k.Fingerprint == old && k.Retired && !k.Offered }) {
				t.Errorf("listed: %+v, %v", listings, err)
			}
			addBack(t, m, f)
			publishTo(t, m, fixture)
			if !offers(t, m, old) {
				t.Error("keys add does not take it back")
			}
		})
	}
}

// A mirror that was rotated and whose old key was retired is as it should be for those who trust the new key alone: clients are not
// offered the old one. If Spack offers it again, that is damage.
func TestARetiredKeyIsNoDamage(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		f, _ := buildcache.LayoutNamed(fixture[:2])
		m, to := published(t, fixture), signtest.Key(t, "new")
		if _, err := keyring.Rotate(t.Context(), m, old, to); err != nil {
			t.Fatal(err)
		}
		trust := buildcache.Trust{RequireSigned: true, Keys: new(key.Ring).With(to.Public())}
		damaged := func() bool {
			t.Helper()
			result, err := verify.Mirror(t.Context(), m, verify.Options{Trust: trust})
			if err != nil {
				t.Fatal(err)
			}
			return result.Damaged()
		}
		warned := func() int {
			t.Helper()
			src, err := source.Open(t.Context(), testdata+fixture[:2]+"-unsigned", source.Selection{})
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			plan, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return m }, publish.Options{Trust: trust, Sign: publish.Signing{Key: to}})
			if err != nil {
				t.Fatal(err)
			}
			return len(publishtest.Warnings(plan.Findings, "among the trusted keys")) + len(publishtest.Warnings(plan.Findings, "retired: run publish index"))
		}
		if !damaged() || warned() == 0 {
			t.Errorf("%s: the old key is offered, and nothing is said of it", fixture)
		}
		if _, err := keyring.Retire(t.Context(), m, old, keyring.Retiring{}); err != nil {
			t.Fatal(err)
		}
		if damaged() || warned() != 0 {
			t.Errorf("%s: retired: damaged %t, %d warnings", fixture, damaged(), warned())
		}
		spackNamesAllKeys(t, m, f)
		if !damaged() || warned() == 0 {
			t.Errorf("%s: Spack offers it again, and nothing is said of it", fixture)
		}
	}
}

// spackNamesAllKeys makes the index of keys as spack buildcache update-index --keys does.
func spackNamesAllKeys(t testing.TB, m *mirrortest.Mem, f buildcache.Layout) {
	t.Helper()
	_, there := publishtest.KeysIn(t, m.Snapshot())
	objects, err := f.KeyIndex(there)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		content, err := blob.ReadAll(o.Content)
		if err != nil {
			t.Fatal(err)
		}
		m.Plant(o.Name, content)
	}
}

// addBack offers the old key again, from the file that the mirror holds.
func addBack(t testing.TB, m *mirrortest.Mem, f buildcache.Layout) {
	t.Helper()
	objects, err := f.ReadKey(t.Context(), m, old)
	if err != nil {
		t.Fatal(err)
	}
	public, err := buildcache.PublicKey(objects)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := keyring.Add(t.Context(), m, public)
	if err != nil || !changes[0].Added {
		t.Fatalf("%+v, %v", changes, err)
	}
}

// A key that packages need is not retired, and the error says how many and which they are. A dry run changes nothing, and force
// leaves a warning with the next publish.
func TestRetireIsRefusedWhilePackagesDepend(t *testing.T) {
	for fixture, n := range map[string]int{"v3-signed": 11, "v2-signed": 9} {
		m := published(t, fixture)
		before := m.Snapshot()
		_, err := keyring.Retire(t.Context(), m, old, keyring.Retiring{})
		refused := (*keyring.DependentError)(nil)
		if !errors.As(err, &refused) || len(refused.Packages) != n || !strings.Contains(err.Error(), refused.Packages[0]) {
			t.Errorf("%s: %v", fixture, err)
		}
		if n > 10 && !strings.Contains(err.Error(), "11 packages") || n > 10 && !strings.Contains(err.Error(), "and 1 more") {
			t.Errorf("%s: %v", fixture, err)
		}
		done, err := keyring.Retire(t.Context(), m, old, keyring.Retiring{Force: true, DryRun: true})
		if err != nil || len(done[0].Dependent) != n || !done[0].Offered {
			t.Errorf("%s: dry run: %+v, %v", fixture, done, err)
		}
		if _, err := keyring.Retire(t.Context(), m, signtest.Key(t, "other").Fingerprint(), keyring.Retiring{Force: true}); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("%s: a key that is not there: %v", fixture, err)
		}
		if diff := mirrortest.Diff(before, m.Snapshot()); diff != "" {
			t.Errorf("%s: changed: %s", fixture, diff)
		}
		if _, err := keyring.Retire(t.Context(), m, old, keyring.Retiring{Force: true}); err != nil || offers(t, m, old) {
			t.Errorf("%s: forced: %v", fixture, err)
		}
		if found := publishTo(t, m, fixture); len(publishtest.Warnings(found, "was retired")) != 1 || offers(t, m, old) {
			t.Errorf("%s: the next publish warns of %v", fixture, found)
		}
		if _, err := keyring.Add(t.Context(), m, signtest.Key(t, "other").Public()); err != nil {
			t.Fatal(err)
		}
		if found := publishTo(t, m, fixture); len(publishtest.Warnings(found, "was retired")) != 1 {
			t.Errorf("%s: where another key is offered, a publish that sends nothing warns of %v", fixture, found)
		}
	}
}

// hooked calls before ahead of the first replacement of the index of keys.
type hooked struct {
	mirror.Store
	once   sync.Once
	before func()
}

func (h *hooked) Swap(ctx context.Context, u mirror.Upload, was mirror.Version) (mirror.Version, error) {
	if u.Name == layout.V3KeyIndex || u.Name == layout.V2KeyIndex {
		h.once.Do(h.before)
	}
	return h.Store.Swap(ctx, u, was)
}

// A publisher that has planned to offer a key does not offer it when the key is retired meanwhile; and a key that is added while
// another one is retired is not lost.
func TestRetireBesidePublishers(t *testing.T) {
	for fixture, l := range map[string]string{"v3-signed": "v3", "v2-signed": "v2"} {
		m, f := rotated(t, fixture), buildcache.V3
		if l == "v2" {
			f = buildcache.V2
		}
		m.Uproot(f.KeyIndexName()) // so that it has to be named
		retire := func() {
			if _, err := keyring.Retire(t.Context(), m, old, keyring.Retiring{}); err != nil {
				t.Error(err)
			}
		}
		if err := keyindex.Add(t.Context(), f, &hooked{Store: m, before: retire}, []key.Fingerprint{old}); err != nil || offers(t, m, old) {
			t.Errorf("%s: retired before the index is written: %v, offered: %v", l, err, offers(t, m, old))
		}
		addBack(t, m, f)
		other := signtest.Key(t, "other")
		add := func() {
			if _, err := keyring.Add(t.Context(), m, other.Public()); err != nil {
				t.Error(err)
			}
		}
		if _, err := keyring.Retire(t.Context(), &hooked{Store: m, before: add}, old, keyring.Retiring{}); err != nil || offers(t, m, old) || !offers(t, m, other.Fingerprint()) {
			t.Errorf("%s: another key added meanwhile: %v", l, err)
		}
	}
}

// However eight publishers and one that retires a key interleave, it is not offered at the end.
func TestEightPublishersAndARetirement(t *testing.T) {
	m := rotated(t, "v3-signed")
	m.Uproot(layout.V3KeyIndex)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { publishTo(t, m, "v3-signed") })
	}
	wg.Go(func() {
		if _, err := keyring.Retire(t.Context(), m, old, keyring.Retiring{}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if offers(t, m, old) {
		t.Error("it is offered")
	}
}

// A publish from a mirror in which a key was retired offers that key nowhere, and says that clients cannot check what it has signed.
func TestAKeyThatIsRetiredInTheSourceIsNotOffered(t *testing.T) {
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		f, _ := buildcache.LayoutNamed(fixture[:2])
		dir := publishtest.Copied(t, fixture)
		mark := buildcache.RetiredMark(f, old, true)
		content, err := blob.ReadAll(mark.Content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(mark.Name)), content, 0o644); err != nil {
			t.Fatal(err)
		}
		m := mirrortest.NewMem(t)
		out := publishtest.MustPublish(t, m, dir, publish.Options{})
		if named, there := publishtest.KeysIn(t, m.Snapshot()); len(named)+len(there) > 0 {
			t.Errorf("%s: offered are %q, there are %q", fixture, named, there)
		}
		if len(publishtest.Warnings(out.Findings, "is offered by neither SOURCE nor DESTINATION")) != 1 {
			t.Errorf("%s: %v", fixture, out.Findings)
		}
	}
}

// A publish of plain files that a retired key has signed, or signs, says that clients are not offered the key: beside packages, and alone.
func TestFilesThatARetiredKeySignsAreReported(t *testing.T) {
	for _, f := range buildcache.Layouts() {
		k, other := signtest.Key(t, "retired"), signtest.Key(t, "other")
		m, signed := mirrortest.NewMem(t), mirrortest.NewMem(t)
		mark := buildcache.RetiredMark(f, k.Fingerprint(), true)
		content, err := blob.ReadAll(mark.Content)
		if err != nil {
			t.Fatal(err)
		}
		m.Plant(mark.Name, content)
		dir := publishtest.Copied(t, f.Name()+"-unsigned")
		alone := t.TempDir()
		for _, d := range []string{dir, alone} {
			if err := os.WriteFile(filepath.Join(d, "a.txt"), []byte("a"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		o := publish.Options{Sign: publish.Signing{Key: k}, Selection: source.Selection{Files: []string{"a.txt"}}}
		const want = "clients cannot check its signature: the key "
		for what, source := range map[string]string{"beside packages": dir, "alone": alone} {
			found := publishtest.Warnings(publishtest.MustPublish(t, m, source, o).Findings, want)
			if len(found) != 1 || found[0].File != "a.txt" || !strings.Contains(found[0].Reason, string(k.Fingerprint())) {
				t.Errorf("%s: %s: warned of %v", f.Name(), what, found)
			}
		}
		publishtest.MustPublish(t, signed, alone, o)
		if err := os.WriteFile(filepath.Join(alone, "a.txt.asc"), signed.Snapshot()["a.txt.asc"], 0o644); err != nil {
			t.Fatal(err)
		}
		o.Sign.Key = other
		if found := publishtest.Warnings(publishtest.MustPublish(t, m, alone, o).Findings, want); len(found) != 1 {
			t.Errorf("%s: signed in SOURCE: warned of %v", f.Name(), found)
		}
		o.Sign.Resign, o.Trust.Keys, o.IfExists = true, new(key.Ring).With(k.Public()), publish.Overwrite
		if found := publishtest.Warnings(publishtest.MustPublish(t, m, alone, o).Findings, want); len(found) != 0 {
			t.Errorf("%s: signed again by another key: warned of %v", f.Name(), found)
		}
	}
}
