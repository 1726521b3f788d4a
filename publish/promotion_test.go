package publish_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/elsewhere"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/transfer"
)

func promote(ctx context.Context, from mirror.Reader, to mirror.Store, c elsewhere.Closure) (*publish.Outcome, error) {
	ctx = history.By(ctx, history.Author{Command: "publish copy", By: "example/repo@refs/heads/main", Run: "https://example.org/run/1"})
	p, err := planCopy(ctx, from, to, c, publish.Options{
		Trust:     buildcache.Trust{RequireSigned: true},
		Promotion: &promotion.Terms{From: []string{"s3://staging"}, To: "s3://prod", Rules: promotion.Rules{RequireSigned: true, IfExists: "skip"}},
	})
	if err != nil {
		return nil, err
	}
	return p.Apply(ctx, publishtest.Ignored{})
}

// records are the names of records of promotions.
func records(m *mirrortest.Mem) []string {
	var names []string
	for name := range m.Snapshot() {
		if strings.HasPrefix(name, promotion.Dir) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// A copy under rules leaves a record of each package, with the digests of what is stored; the second one leaves nothing.
func TestAPromotionLeavesEvidence(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		from, to := publishtest.Planted(t, l+"-signed"), publishtest.EmptyMirror(t)
		out, err := promote(t.Context(), from, to, closureOf(t, "munge"))
		if err != nil {
			t.Fatal(err)
		}
		name := out.Mirrors[0].Promotion
		if got := records(to); !slices.Equal(got, []string{name}) || strings.HasSuffix(name, ".manifest.json") {
			t.Fatalf("%s: %q, said to be %q", l, got, name)
		}
		var all []spec.Hash
		for _, p := range out.Mirrors[0].Packages {
			all = append(all, p.Hash)
		}
		found, err := promotion.Find(t.Context(), to, all)
		if err != nil || len(found) != 4 {
			t.Fatalf("%s: %d of 4 packages, %v", l, len(found), err)
		}
		for h, e := range found {
			document, ok := to.Snapshot()[e.Package.Document]
			if !ok || e.Package.SHA256 != blob256(document) || e.Package.SourceSHA256 != "" || len(e.Package.Blobs) == 0 {
				t.Errorf("%s: %s: %+v", l, h, e.Package)
			}
			if e.By != "example/repo@refs/heads/main" || e.Run == "" || !e.Rules.RequireSigned || e.From[0] != "s3://staging" || e.Time.IsZero() || e.Layout != l {
				t.Errorf("%s: %+v", l, e.Record)
			}
		}
		to.Forget()
		if out, err := promote(t.Context(), from, to, closureOf(t, "munge")); err != nil || out.Mirrors[0].Promotion != "" || len(to.Mutations()) > 0 {
			t.Errorf("%s: the second promotion: %v, %v", l, err, to.Mutations())
		}
		if _, err := promote(t.Context(), from, to, closureOf(t, "hwloc")); err != nil || len(records(to)) != 2 {
			t.Errorf("%s: another promotion: %v, %q", l, err, records(to))
		}
	}
}

// A record that cannot be read, or is none, says nothing of any package, and hides no other.
func TestWhatIsNoRecordIsPassedOver(t *testing.T) {
	to := publishtest.EmptyMirror(t)
	out, err := promote(t.Context(), publishtest.Planted(t, "v3-signed"), to, closureOf(t, "zlib"))
	if err != nil {
		t.Fatal(err)
	}
	genuine := to.Snapshot()[out.Mirrors[0].Promotion]
	to.Plant(promotion.Name(strings.Repeat("0", 32)), genuine) // under another name
	to.Plant(promotion.Name(strings.Repeat("1", 32)), []byte("{"))
	to.Plant(promotion.Dir+"notes.json", []byte("mine"))
	h := out.Mirrors[0].Packages[0].Hash
	if found, err := promotion.Find(t.Context(), to, []spec.Hash{h, "unknown"}); err != nil || len(found) != 1 || promotion.Name(found[h].ID) != out.Mirrors[0].Promotion {
		t.Errorf("%v, %v", found, err)
	}
}

// Evidence is there before the index: whatever call fails or is the last one, an index that offers a promoted package is never
// without it, and the next run leaves the record that an undisturbed one leaves, and no other.
func TestEvidenceComesBeforeTheIndex(t *testing.T) {
	model := publishtest.EmptyMirror(t)
	if _, err := promote(t.Context(), publishtest.Planted(t, "v3-signed"), model, closureOf(t, "openssl")); err != nil {
		t.Fatal(err)
	}
	want := records(model)
	for _, row := range []struct {
		name  string
		fault func(k int) mirrortest.Fault
	}{
		{"killed", mirrortest.Kill},
		{"lost", func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Drop("")) }},
		{"answer lost", func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Lie("")) }},
		{"denied", func(k int) mirrortest.Fault { return mirrortest.Nth(k, mirrortest.Fail("", mirrortest.Refusals[1])) }},
	} {
		for k := 1; ; k++ {
			from, to := publishtest.Planted(t, "v3-signed"), publishtest.EmptyMirror(t)
			bt := mirrortest.Break(to, row.fault(k))
			bt.AfterEach(func(call mirrortest.Call) {
				if s := to.Snapshot(); s[layout.V3Index] != nil && len(publishtest.IndexOf(t, s, "v3").Offered()) > 0 && !slices.Equal(records(to), want) {
					t.Errorf("%s %d, after %s: the index offers packages, and there is no evidence", row.name, k, call)
				}
			})
			_, _ = promote(t.Context(), from, bt, closureOf(t, "openssl"))
			if _, err := promote(t.Context(), from, to, closureOf(t, "openssl")); err != nil {
				t.Errorf("%s %d: second run: %v", row.name, k, err)
			}
			if got := records(to); !slices.Equal(got, want) {
				t.Errorf("%s %d: records %q, want %q", row.name, k, got, want)
			}
			if k > len(bt.Calls()) {
				break
			}
		}
	}
	denied := publishtest.EmptyMirror(t)
	_, err := promote(t.Context(), publishtest.Planted(t, "v3-signed"), mirrortest.Break(denied, mirrortest.Fail(promotion.Dir, mirrortest.Refusals[0])), closureOf(t, "openssl"))
	if err == nil || denied.Snapshot()[layout.V3Index] != nil {
		t.Errorf("where evidence is denied, packages are promoted: %v", err)
	}
}

// Mirrors complete each other, and what both offer is read from the first.
func TestSeveralMirrorsMakeAClosure(t *testing.T) {
	one, two := publishtest.EmptyMirror(t), publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, one, publishtest.Original("v3-signed"), publishtest.Only("munge", "openssl"))
	publishtest.MustPublish(t, two, publishtest.Original("v3-signed"), publishtest.Only("openssl", "zlib", "gcc-runtime", "hwloc"))
	open := func(c elsewhere.Closure, from ...mirror.Reader) *mirrortest.Mem {
		to := publishtest.EmptyMirror(t)
		src, err := elsewhere.Open(t.Context(), from, to, c)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return transfer.NewRelay("").Into(to) }, publish.Options{})
		if err == nil {
			_, err = plan.Apply(t.Context(), publishtest.Ignored{})
		}
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	second := mirrortest.Break(two)
	got := open(closureOf(t, "munge"), one, second)
	if names := packagesIn(got.Snapshot()); names != "gcc-runtime munge openssl zlib" {
		t.Errorf("copied %s", names)
	}
	for _, call := range second.Calls() {
		if strings.Contains(call.Name, "openssl") {
			t.Errorf("%s, which the first mirror offers", call)
		}
	}
	if names := packagesIn(open(elsewhere.Closure{}, one, publishtest.EmptyMirror(t), two).Snapshot()); names != "gcc-runtime hwloc munge openssl zlib" {
		t.Errorf("copied %s", names)
	}
}

// A view offers what it offers, and what that needs must be in it as well.
func TestACopyOfAView(t *testing.T) {
	from := publishtest.Planted(t, "v3-view") // which has site/login
	c := elsewhere.Closure{View: "site/login"}
	to := completing(t, from)
	had := packagesIn(to.Snapshot())
	mustCopy(t, from, to, c) // munge, openssl and slurm
	if got := packagesIn(to.Snapshot()); had != "gcc-runtime hwloc libevent openssl pmix zlib" || got != "gcc-runtime hwloc libevent munge openssl pmix slurm zlib" {
		t.Errorf("there was %s, there is %s", had, got)
	}
	c.View = "nope"
	if _, _, err := copyTo(t.Context(), from, publishtest.EmptyMirror(t), c); !errors.Is(err, elsewhere.ErrNoView) {
		t.Error(err)
	}
	c = closureOf(t, "slurm") // which is not in it
	c.View = "site/login"
	if _, _, err := copyTo(t.Context(), from, publishtest.EmptyMirror(t), c); err == nil {
		t.Error("a package that is not in the view was copied")
	}
}

// Nothing is copied of a view that lacks what its packages need, whether packages are asked for or not, unless the destination has it.
func TestAViewWithAHoleIsNotCopied(t *testing.T) {
	from := publishtest.Planted(t, "v3-view")
	for _, c := range []elsewhere.Closure{closureOf(t), closureOf(t, "openssl")} {
		c.View = "site/login"
		plan, _, err := copyTo(t.Context(), from, publishtest.EmptyMirror(t), c)
		if err == nil || !plan.Blocked() || !strings.Contains(err.Error(), "needs zlib@1.3.1/hyibvwk, which is not offered") {
			t.Errorf("%d packages asked for: %v", len(c.Packages), err)
		}
		mustCopy(t, from, completing(t, from), c)
	}
}

// completing is a mirror with what the packages of site/login need and that view does not offer.
func completing(t *testing.T, from mirror.Reader) *mirrortest.Mem {
	t.Helper()
	to := publishtest.EmptyMirror(t)
	mustCopy(t, from, to, closureOf(t, "zlib", "gcc-runtime", "hwloc", "pmix"))
	return to
}

// A promotion refuses what needs packages that are in the destination and do not keep to its rules. With them it is complete, and what is
// there in order costs nothing the second time.
func TestAPromotionLooksAtWhatIsNeeded(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		from := publishtest.Planted(t, l+"-signed")
		terms := &promotion.Terms{From: []string{"s3://staging"}, To: "s3://prod", Rules: promotion.Rules{RequireSigned: true, IfExists: "skip"}}
		for _, row := range []struct {
			there string // what is in the destination
			trust buildcache.Trust
			says  string
		}{
			{l + "-unsigned", buildcache.Trust{RequireSigned: true}, "which is in DESTINATION already, but: it is not signed"},
			{l + "-signed", buildcache.Trust{Keys: publishtest.VerifyRing(t, "one")}, ""},
			{l + "-signed", buildcache.Trust{RequireSigned: true}, ""},
			{l + "-unsigned", buildcache.Trust{Keys: publishtest.VerifyRing(t, "one")}, ""},
			{l + "-unsigned", buildcache.Trust{RequireSigned: true, Keys: publishtest.VerifyRing(t, "one")}, "which is in DESTINATION already, but: it is not signed"},
		} {
			to := publishtest.EmptyMirror(t)
			publishtest.MustPublish(t, to, publishtest.Original(row.there), publishtest.Only("openssl", "zlib", "gcc-runtime"))
			plan, err := planCopy(t.Context(), from, to, closureOf(t, "munge"), publish.Options{Trust: row.trust, Promotion: terms})
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			for _, f := range plan.Findings {
				if f.Severity == buildcache.Error {
					said = append(said, f.String())
				}
			}
			told := strings.Join(said, "\n")
			if plan.Blocked() != (row.says != "") || !strings.Contains(told, row.says) || row.says != "" && (!strings.Contains(told, "openssl@3.4.1") || !strings.Contains(told, "zlib@1.3.1")) {
				t.Errorf("%s onto %s: %s", l, row.there, told)
			}
		}
		// Without rules it is as before, and documents of the source take the place of those there if that is asked for.
		to := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, to, publishtest.Original(l+"-unsigned"), publishtest.Only("openssl", "zlib", "gcc-runtime"))
		if plan, err := planCopy(t.Context(), from, to, closureOf(t, "munge"), publish.Options{Trust: buildcache.Trust{RequireSigned: true}}); err != nil || plan.Blocked() {
			t.Errorf("%s, no promotion: %v, %v", l, err, plan.Findings)
		}
		if l == "v2" {
			continue // where no document can be replaced
		}
		c := closureOf(t, "munge")
		c.Anew = true
		if plan, err := planCopy(t.Context(), from, to, c, publish.Options{Trust: buildcache.Trust{RequireSigned: true}, Promotion: terms, IfExists: publish.Overwrite}); err != nil || plan.Blocked() {
			t.Errorf("%s, overwrite: %v, %v", l, err, plan.Findings)
		}
		plan, err := planCopy(t.Context(), from, to, c, publish.Options{Trust: buildcache.Trust{RequireSigned: true}, Promotion: terms})
		if err != nil || !plan.Blocked() {
			t.Errorf("%s, what is read and skipped stays unsigned: %v, %v", l, err, plan.Findings)
		}
	}
}

func blob256(content []byte) string { return blob.DigestOf(content).String() }

// What is promoted into a view is in it, or the promotion is refused: also what TO has already, and breaks the rules. What only building needs may break them.
func TestAPromotionIntoAView(t *testing.T) {
	from, c := publishtest.Planted(t, "v3-signed"), closureOf(t, "munge")
	for unsigned, refused := range map[string]bool{"gcc-runtime,munge,openssl,zlib": true, "compiler-wrapper": false} {
		to := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, to, publishtest.Original("v3-unsigned"), publishtest.Only(strings.Split(unsigned, ",")...))
		before := to.Snapshot()
		p, err := planCopy(t.Context(), from, to, c, publish.Options{
			Trust: buildcache.Trust{RequireSigned: true}, Views: []string{"site"},
			Promotion: &promotion.Terms{From: []string{"s3://staging"}, To: "s3://prod", Rules: promotion.Rules{RequireSigned: true}},
		})
		publishtest.Must(t, err)
		out, err := p.Apply(t.Context(), publishtest.Ignored{})
		if p.Blocked() != refused || (err != nil) != refused || len(publishtest.Warnings(out.Findings, "it is not in the view site: it is not signed")) == 0 != refused {
			t.Errorf("%s: %v, %v", unsigned, err, out.Findings)
		}
		if diff := mirrortest.Diff(before, to.Snapshot()); refused && diff != "" {
			t.Errorf("%v, and changed:\n%s", err, diff)
		}
		if !refused {
			if offered, _ := viewIn(t, to, "site"); !slices.Equal(offered, []string{"gcc-runtime", "munge", "openssl", "zlib"}) {
				t.Errorf("offered: %v", offered)
			}
		}
	}
}
