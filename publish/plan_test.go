package publish_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// listed is what a plan says that it will store, but for the index and the index of
// keys, whose content depends on who else is publishing.
func listed(p *publish.Plan) []string {
	var names []string
	for _, m := range p.Mirrors {
		for _, o := range slices.Concat(m.Blobs, m.Marker, m.Keys) {
			names = append(names, o.Name)
		}
		for _, wave := range m.Documents {
			for _, w := range wave {
				names = append(names, w.Name)
			}
		}
	}
	return slices.Sorted(slices.Values(names))
}

// What is printed is what is done: the same objects, the same index, the same stale names.
func TestPlanIsWhatApplyDoes(t *testing.T) {
	for _, fixture := range publishtest.Mirrors {
		for _, before := range [][]string{nil, {"zlib"}, {"zlib", "munge", "slurm"}} {
			t.Run(fmt.Sprintf("%s after %q", fixture, before), func(t *testing.T) {
				m := publishtest.EmptyMirror(t)
				if before != nil {
					publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only(before...))
				}
				had := m.Snapshot()
				already := len(published(m))
				m.Forget()
				p := publishtest.MustPlan(t, m, publishtest.Original(fixture), publish.Options{})
				checked, err := p.Check(t.Context())
				if err != nil || len(checked.Findings) != 0 {
					t.Errorf("check: %v, %v", checked.Findings, err)
				}
				if len(m.Mutations()) != 0 {
					t.Errorf("a dry run did %v", m.Mutations())
				}
				ix := p.Mirrors[0].Index
				cost, stale, will := p.Cost(1<<30, 0, 0), p.Stale(), listed(p)
				out, err := p.Apply(t.Context(), publishtest.Ignored{})
				if err != nil {
					t.Fatal(err)
				}
				var did []string
				l := publishtest.LayoutOf(fixture)
				extra := []string{layout.V3Index, layout.V2Index, layout.V2IndexHash, layout.V3KeyIndex, layout.V2KeyIndex, publishtest.VerifyView}
				var content []string
				for _, name := range []string{layout.V3Index, layout.V3KeyIndex, publishtest.VerifyView} {
					if m.Snapshot()[name] != nil {
						content = append(content, publishtest.PointsAt(t, m.Snapshot(), name)...)
					}
				}
				for _, name := range published(m)[already:] {
					if !slices.Contains(extra, name) && !slices.Contains(content, name) {
						did = append(did, name)
					}
				}
				slices.Sort(did)
				if diff := cmp.Diff(will, did); diff != "" {
					t.Errorf("planned (-) and done (+):\n%s", diff)
				}
				if stored := len(published(m)) - already; out.Objects != stored || cost.Objects != stored {
					t.Errorf("%d objects are planned and %d said to be stored, %d were", cost.Objects, out.Objects, stored)
				}
				if out.Bytes != cost.Bytes {
					t.Errorf("%d bytes are planned and %d said to be stored", cost.Bytes, out.Bytes)
				}
				if got := len(publishtest.IndexOf(t, m.Snapshot(), l).Offered()); got != ix.After {
					t.Errorf("the index offers %d, planned were %d", got, ix.After)
				}
				slices.Sort(stale)
				if diff := cmp.Diff(stale, out.Stale); diff != "" {
					t.Errorf("stale as planned (-) and as done (+):\n%s", diff)
				}
				var replaced []string
				for name, content := range had {
					if string(m.Snapshot()[name]) != string(content) {
						replaced = append(replaced, name)
					}
				}
				for _, name := range replaced {
					if !slices.Contains(out.Stale, name) {
						t.Errorf("changed, and caches are not told: %s", name)
					}
				}
				if cost.Requests != len(m.Mutations()) {
					t.Errorf("%+v, done were %d requests", cost, len(m.Mutations()))
				}
			})
		}
	}
}

// published are the objects that were stored, without the history, which is none of what a plan is about.
func published(m *mirrortest.Mem) []string {
	return slices.DeleteFunc(m.Stored(), func(name string) bool { return strings.HasPrefix(name, history.Dir) })
}

// A package that is there with another document: the plan and the mirror as --if-exists says.
func TestIfExists(t *testing.T) {
	for _, row := range []struct {
		from, to string
		mode     publish.IfExists
		want     publish.Status
		failed   bool
		stays    bool
	}{
		{"v3-signed", "v3-unsigned", "", publish.Skipped, false, true},
		{"v3-signed", "v3-unsigned", publish.Skip, publish.Skipped, false, true},
		{"v3-signed", "v3-unsigned", publish.Overwrite, publish.Replaced, false, false},
		{"v3-signed", "v3-unsigned", publish.Refuse, publish.Rejected, true, true},
		{"v3-unsigned", "v3-unsigned", publish.Refuse, publish.Unchanged, false, true},
		{"v3-unsigned", "v3-unsigned", publish.Overwrite, publish.Unchanged, false, true},
		{"v2-signed", "altered", publish.Skip, publish.Skipped, false, true},
		{"v2-signed", "altered", publish.Overwrite, publish.Rejected, true, true},
		{"v2-signed", "altered", publish.Refuse, publish.Rejected, true, true},
	} {
		t.Run(fmt.Sprintf("%s over %s %s", row.from, row.to, row.mode), func(t *testing.T) {
			m := publishtest.EmptyMirror(t)
			if row.to == "altered" {
				publishtest.MustPublish(t, m, publishtest.Original(row.from), publishtest.Only("zlib"))
				name := publishtest.SubjectOf(t, m).Find("zlib")
				m.Plant(name, append([]byte(strings.Replace(string(m.Snapshot()[name]), "Hash: SHA512", "Hash:  SHA512", 1)), '\n'))
			} else {
				publishtest.MustPublish(t, m, publishtest.Original(row.to), publishtest.Only("zlib"))
			}
			name := publishtest.SubjectOf(t, m).Find("zlib")
			before := m.Snapshot()[name]
			o := publishtest.Only("zlib")
			o.IfExists = row.mode
			p := publishtest.MustPlan(t, m, publishtest.Original(row.from), o)
			if got := publishtest.Statuses(p.Expected())["zlib"]; got != row.want || p.Blocked() != row.failed {
				t.Errorf("status %s, blocked %t", got, p.Blocked())
			}
			_, err := p.Apply(t.Context(), publishtest.Ignored{})
			if (err != nil) != row.failed {
				t.Errorf("error is %v", err)
			}
			if same := string(m.Snapshot()[name]) == string(before); same != row.stays {
				t.Errorf("the document stayed: %t", same)
			}
			if len(publishtest.IndexOf(t, m.Snapshot(), publishtest.LayoutOf(row.from)).Offered()) != 1 {
				t.Error("the index lost it")
			}
		})
	}
}

// What the index lacks and the mirror holds, signed or built otherwise, is indexed as it is there: nothing of another is stored beside it.
func TestWhatIsSkippedIsIndexedAsItIs(t *testing.T) {
	rebuilt := publishtest.Copied(t, "v3-unsigned")
	publishtest.AddRecipe(t, rebuilt, "munge", "class Munge(AutotoolsPackage):\n")
	for there, dir := range map[string]string{"v3-unsigned": rebuilt, "v3-signed": publishtest.Original("v3-unsigned"), "v2-signed": publishtest.Original("v2-unsigned")} {
		m := publishtest.EmptyMirror(t)
		o := publishtest.Only("munge")
		o.Index = publish.IndexNone
		publishtest.MustPublish(t, m, publishtest.Original(there), o)
		stored := len(m.Stored())
		out := publishtest.MustPublish(t, m, dir, publishtest.Only("munge"))
		if s := publishtest.Statuses(out)["munge"]; s != publish.Skipped || len(publishtest.IndexOf(t, m.Snapshot(), publishtest.LayoutOf(there)).Offered()) != 1 {
			t.Errorf("%s: %s, and not indexed", there, s)
		}
		for _, name := range m.Stored()[stored:] {
			if publishtest.IsDocument(name) || strings.HasSuffix(name, ".spack") {
				t.Errorf("%s: stored %s", there, name)
			}
		}
	}
}

// What no client can read does not count as published: it is named, and replaced if that is wanted.
func TestADocumentThatNoClientCanReadIsNotSkipped(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		m := publishtest.EmptyMirror(t)
		dir := publishtest.Original(fixture)
		publishtest.MustPublish(t, m, dir, publishtest.Only("zlib"))
		name := publishtest.SubjectOf(t, m).Find("zlib")
		whole := m.Snapshot()[name]
		m.Plant(name, []byte("{"))
		out, err := publishtest.PublishTo(t, m, dir, publishtest.Only("zlib"))
		if s := publishtest.Statuses(out)["zlib"]; err == nil || s != publish.Rejected || !refused(out, "that no client can read") {
			t.Errorf("%s: %s, %v, %v", fixture, s, err, out.Findings)
		}
		if o := publishtest.Only("zlib"); fixture == "v3-unsigned" {
			o.IfExists = publish.Overwrite
			publishtest.MustPublish(t, m, dir, o)
			if string(m.Snapshot()[name]) != string(whole) {
				t.Error("it was not replaced")
			}
		}
	}
}

// Whoever replaces a document replaces the one that was seen, not that of somebody who
// was faster.
func TestOverwriteReplacesWhatWasSeen(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v3-unsigned"), publishtest.Only("zlib"))
	o := publishtest.Only("zlib")
	o.IfExists = publish.Overwrite
	p := publishtest.MustPlan(t, m, publishtest.Original("v3-signed"), o)
	name := publishtest.SubjectOf(t, m).Find("zlib")
	faster := append(slices.Clone(m.Snapshot()[name]), '\n')
	m.Plant(name, faster)
	if _, err := p.Apply(t.Context(), publishtest.Ignored{}); err != nil {
		t.Error(err)
	}
	if string(m.Snapshot()[name]) != string(faster) {
		t.Error("that of somebody who was faster was replaced")
	}
}

// --verify-source finds what is bad although the destination holds it already.
func TestVerifySource(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		dir := publishtest.Copied(t, l+"-signed")
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, dir, publish.Options{})
		publishtest.FlipFile(t, publishtest.ContentFile(t, dir, "munge"))
		publishtest.MustPublish(t, m, dir, publish.Options{})
		m.Forget()
		for _, o := range []publish.Options{{VerifySource: true}, {VerifySource: true, KeepGoing: true}} {
			p := publishtest.MustPlan(t, m, dir, o)
			findings, err := p.Check(t.Context())
			if err != nil || !strings.Contains(fmt.Sprint(findings), "munge") {
				t.Errorf("%s: check: %v, %v", l, findings, err)
			}
			if _, err := publishtest.PublishTo(t, m, dir, o); err == nil {
				t.Errorf("%s: no error", l)
			}
			if len(m.Mutations()) != 0 {
				t.Errorf("%s: it did %v", l, m.Mutations())
			}
		}
	}
}

// After Check, which a dry run makes, the plan can still be carried out, without what Check found bad.
func TestApplyAfterCheck(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	publishtest.FlipFile(t, publishtest.ContentFile(t, dir, "munge"))
	m := publishtest.EmptyMirror(t)
	p := publishtest.MustPlan(t, m, dir, publish.Options{KeepGoing: true})
	if _, err := p.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), publishtest.Ignored{}); err == nil {
		t.Error("no error")
	}
	if err := publishtest.NewReader().Look(m.Snapshot()); err != nil {
		t.Error(err)
	}
	if got := len(publishtest.IndexOf(t, m.Snapshot(), "v3").Offered()); got != 8 {
		t.Errorf("%d packages are offered", got)
	}
}

// Who may only list and read what is there can plan: nothing that may be absent is asked for.
func TestPlanNeverStats(t *testing.T) {
	for _, fixture := range publishtest.Mirrors {
		m := publishtest.EmptyMirror(t)
		b := mirrortest.Break(m, mirrortest.On(mirrortest.Stat, mirrortest.Fail("", &mirror.DeniedError{Action: "s3:GetObject"})))
		publishtest.MustPublish(t, b, publishtest.Original(fixture), publishtest.Only("zlib"))
		publishtest.MustPublish(t, b, publishtest.Original(fixture), publish.Options{})
		for _, c := range b.Calls() {
			if c.Op == mirrortest.Open && (strings.HasSuffix(c.Name, ".spack") || c.Name == layout.V3Layout) {
				t.Errorf("asked for %s", c.Name)
			}
		}
	}
}

// Both kinds of signing of one package may be there in layout v2.
func TestV2SignedBesideUnsigned(t *testing.T) {
	m := publishtest.EmptyMirror(t)
	publishtest.MustPublish(t, m, publishtest.Original("v2-signed"), publishtest.Only("zlib"))
	_, err := publishtest.PublishTo(t, m, publishtest.Original("v2-unsigned"), publishtest.Only("zlib"))
	if lookErr := publishtest.NewReader().Look(m.Snapshot()); lookErr != nil {
		t.Errorf("%v, after %v", lookErr, err)
	}
}

// Planning only reads its source: the same source planned again, with other options in between, makes the same plan.
func TestASourceCanBePlannedAgain(t *testing.T) {
	src := publishtest.SourceOf(t, publishtest.Original("v3-unsigned"), source.Selection{})
	plan := func(o publish.Options) map[publish.Status]int {
		m := publishtest.EmptyMirror(t)
		p, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return m }, o)
		if err != nil {
			t.Fatal(err)
		}
		n := make(map[publish.Status]int)
		for _, q := range p.Mirrors[0].Packages {
			n[q.Status]++
		}
		return n
	}
	first := plan(publish.Options{})
	if strict := plan(publish.Options{Trust: buildcache.Trust{RequireSigned: true}}); strict[publish.Rejected] != 11 {
		t.Errorf("with signatures required: %v", strict)
	}
	if again := plan(publish.Options{}); !cmp.Equal(again, first) || first[publish.New] != 11 {
		t.Errorf("planned again: %v, first %v", again, first)
	}
}

// described is all that a plan says.
func described(t testing.TB, p *publish.Plan) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintln(&b, p.Blocked(), p.Changes(), p.Findings, p.Stale(), p.Cost(1<<30, 1<<20, 3))
	for _, m := range p.Mirrors {
		fmt.Fprintln(&b, m.Path, m.Layout, m.Pointers(), m.Untrusted, m.Index.Mode, m.Index.Healed, m.Index.Changes, m.Index.Written,
			m.Index.Before, m.Index.After, m.Index.Bytes, m.Index.Audiences, m.Index.Digest(), m.Index.Version())
		for _, k := range m.Packages {
			fmt.Fprintln(&b, k.ID(), k.Status, k.Reason, k.File, k.ToSign)
		}
		for _, o := range slices.Concat(m.Blobs, m.Marker, m.Keys, m.KeyIndex) {
			fmt.Fprintln(&b, o.Name, o.Size, o.Digest, o.Of)
		}
		for i, wave := range m.Documents {
			for _, w := range wave {
				fmt.Fprintln(&b, i, w.Name, w.Size, w.Digest, w.Was)
			}
		}
	}
	for _, f := range p.Files {
		fmt.Fprintln(&b, f.Name, f.Status)
		for _, w := range f.Writes {
			fmt.Fprintln(&b, w.Name, w.Size, w.Digest, w.Was, w.Content == nil)
		}
	}
	return b.String()
}

// A plan stays as it was made: neither checking it nor carrying it out changes it, although content turned out bad and
// other publishers were faster. Planning again gives the same plan.
func TestAPlanStaysAsItWasMade(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		dir := publishtest.Copied(t, l+"-signed")
		m := publishtest.EmptyMirror(t)
		publishtest.MustPublish(t, m, dir, publishtest.Only("hwloc"))
		src := publishtest.SourceOf(t, dir, source.Selection{})
		plan := func() *publish.Plan {
			p, err := publish.NewPlan(t.Context(), src, func(string) mirror.Store { return m }, publish.Options{KeepGoing: true})
			publishtest.Must(t, err)
			return p
		}
		p := plan()
		want := described(t, p)
		if diff := cmp.Diff(want, described(t, plan())); diff != "" {
			t.Errorf("%s: planned again (-first +second):\n%s", l, diff)
		}
		publishtest.FlipFile(t, publishtest.ContentFile(t, dir, "munge"))
		if _, err := p.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, described(t, p)); diff != "" {
			t.Errorf("%s: checked (-before +after):\n%s", l, diff)
		}
		publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
		out, err := p.Apply(t.Context(), publishtest.Ignored{})
		if got := publishtest.Statuses(out)["munge"]; got != publish.Rejected {
			t.Errorf("%s: munge is %s in the outcome: %v", l, got, err)
		}
		if ix := out.Mirrors[0].Index; !ix.Written || ix.Before != p.Mirrors[0].Index.Before+1 || ix.After >= p.Mirrors[0].Index.After || ix.Digest() == p.Mirrors[0].Index.Digest() {
			t.Errorf("%s: the outcome of the index is %+v", l, ix.Result)
		}
		if diff := cmp.Diff(want, described(t, p)); diff != "" {
			t.Errorf("%s: carried out (-before +after):\n%s", l, diff)
		}
	}
}
