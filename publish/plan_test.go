package publish_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
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
	for _, fixture := range mirrors {
		for _, before := range [][]string{nil, {"zlib"}, {"zlib", "munge", "slurm"}} {
			t.Run(fmt.Sprintf("%s after %q", fixture, before), func(t *testing.T) {
				m := emptyMirror(t)
				if before != nil {
					mustPublish(t, m, original(fixture), only(before...))
				}
				had := m.Snapshot()
				already := len(m.Stored())
				m.Forget()
				p := mustPlan(t, m, original(fixture), publish.Options{})
				findings, err := p.Check(t.Context())
				if err != nil || len(findings) != 0 {
					t.Errorf("check: %v, %v", findings, err)
				}
				if len(m.Mutations()) != 0 {
					t.Errorf("a dry run did %v", m.Mutations())
				}
				ix := p.Mirrors[0].Index
				cost, stale, will := p.Cost(1<<30, 0, 0), p.Stale(), listed(p)
				out, err := p.Apply(t.Context(), ignored{})
				if err != nil {
					t.Fatal(err)
				}
				var did []string
				l := layoutOf(fixture)
				extra := []string{layout.V3Index, layout.V2Index, layout.V2IndexHash, layout.V3KeyIndex, layout.V2KeyIndex}
				var content []string
				for _, name := range []string{layout.V3Index, layout.V3KeyIndex} {
					if m.Snapshot()[name] != nil {
						content = append(content, pointsAt(t, m.Snapshot(), name)...)
					}
				}
				for _, name := range m.Stored()[already:] {
					if !slices.Contains(extra, name) && !slices.Contains(content, name) {
						did = append(did, name)
					}
				}
				slices.Sort(did)
				if diff := cmp.Diff(will, did); diff != "" {
					t.Errorf("planned (-) and done (+):\n%s", diff)
				}
				if stored := len(m.Stored()) - already; out.Objects != stored || cost.Objects != stored {
					t.Errorf("%d objects are planned and %d said to be stored, %d were", cost.Objects, out.Objects, stored)
				}
				if out.Bytes != cost.Bytes {
					t.Errorf("%d bytes are planned and %d said to be stored", cost.Bytes, out.Bytes)
				}
				if got := len(indexOf(t, m.Snapshot(), l).offered()); got != ix.After {
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
			m := emptyMirror(t)
			if row.to == "altered" {
				mustPublish(t, m, original(row.from), only("zlib"))
				name := subject{t, m}.find("zlib")
				m.Plant(name, append([]byte(strings.Replace(string(m.Snapshot()[name]), "Hash: SHA512", "Hash:  SHA512", 1)), '\n'))
			} else {
				mustPublish(t, m, original(row.to), only("zlib"))
			}
			name := subject{t, m}.find("zlib")
			before := m.Snapshot()[name]
			o := only("zlib")
			o.IfExists = row.mode
			p := mustPlan(t, m, original(row.from), o)
			if got := statuses(p)["zlib"]; got != row.want || p.Blocked() != row.failed {
				t.Errorf("status %s, blocked %t", got, p.Blocked())
			}
			_, err := p.Apply(t.Context(), ignored{})
			if (err != nil) != row.failed {
				t.Errorf("error is %v", err)
			}
			if same := string(m.Snapshot()[name]) == string(before); same != row.stays {
				t.Errorf("the document stayed: %t", same)
			}
			if len(indexOf(t, m.Snapshot(), layoutOf(row.from)).offered()) != 1 {
				t.Error("the index lost it")
			}
		})
	}
}

// Whoever replaces a document replaces the one that was seen, not that of somebody who
// was faster.
func TestOverwriteReplacesWhatWasSeen(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("v3-unsigned"), only("zlib"))
	o := only("zlib")
	o.IfExists = publish.Overwrite
	p := mustPlan(t, m, original("v3-signed"), o)
	name := subject{t, m}.find("zlib")
	faster := append(slices.Clone(m.Snapshot()[name]), '\n')
	m.Plant(name, faster)
	if _, err := p.Apply(t.Context(), ignored{}); err != nil {
		t.Error(err)
	}
	if string(m.Snapshot()[name]) != string(faster) {
		t.Error("that of somebody who was faster was replaced")
	}
}

// --verify-source finds what is bad although the destination holds it already.
func TestVerifySource(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		dir := copied(t, l+"-signed")
		m := emptyMirror(t)
		mustPublish(t, m, dir, publish.Options{})
		flipFile(t, contentFile(t, dir, "munge"))
		mustPublish(t, m, dir, publish.Options{})
		m.Forget()
		for _, o := range []publish.Options{{VerifySource: true}, {VerifySource: true, KeepGoing: true}} {
			p := mustPlan(t, m, dir, o)
			findings, err := p.Check(t.Context())
			if err != nil || !strings.Contains(fmt.Sprint(findings), "munge") {
				t.Errorf("%s: check: %v, %v", l, findings, err)
			}
			if _, err := publishTo(t, m, dir, o); err == nil {
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
	dir := copied(t, "v3-unsigned")
	flipFile(t, contentFile(t, dir, "munge"))
	m := emptyMirror(t)
	p := mustPlan(t, m, dir, publish.Options{KeepGoing: true})
	if _, err := p.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), ignored{}); err == nil {
		t.Error("no error")
	}
	if err := newReader().look(m.Snapshot()); err != nil {
		t.Error(err)
	}
	if got := len(indexOf(t, m.Snapshot(), "v3").offered()); got != 8 {
		t.Errorf("%d packages are offered", got)
	}
}

// Who may only list and read what is there can plan: nothing that may be absent is asked for.
func TestPlanNeverStats(t *testing.T) {
	for _, fixture := range mirrors {
		m := emptyMirror(t)
		b := mirrortest.Break(m, mirrortest.On(mirrortest.Stat, mirrortest.Fail("", &mirror.DeniedError{Action: "s3:GetObject"})))
		mustPublish(t, b, original(fixture), only("zlib"))
		mustPublish(t, b, original(fixture), publish.Options{})
		for _, c := range b.Calls() {
			if c.Op == mirrortest.Open && (strings.HasSuffix(c.Name, ".spack") || c.Name == layout.V3Layout) {
				t.Errorf("asked for %s", c.Name)
			}
		}
	}
}

// Both kinds of signing of one package may be there in layout v2.
func TestV2SignedBesideUnsigned(t *testing.T) {
	m := emptyMirror(t)
	mustPublish(t, m, original("v2-signed"), only("zlib"))
	_, err := publishTo(t, m, original("v2-unsigned"), only("zlib"))
	if lookErr := newReader().look(m.Snapshot()); lookErr != nil {
		t.Errorf("%v, after %v", lookErr, err)
	}
}

// Planning only reads its source: the same source planned again, with other options in between, makes the same plan.
func TestASourceCanBePlannedAgain(t *testing.T) {
	src := sourceOf(t, original("v3-unsigned"), source.Selection{})
	plan := func(o publish.Options) map[publish.Status]int {
		m := emptyMirror(t)
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
