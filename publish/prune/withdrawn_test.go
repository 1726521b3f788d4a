package prune

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

// What was withdrawn can be brought back until that expires, whatever the rules say. Then its content goes, and what keeps clients away
// from it stays.
func TestWhatWasWithdrawnStaysUntilItExpires(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		synctest.Test(t, func(t *testing.T) {
			m := aged(t, fixture)
			f, _ := buildcache.LayoutNamed(publishtest.LayoutOf(fixture))
			subject := publishtest.SubjectOf(t, m)
			document, tarball := subject.Find("munge"), subject.Tarball("munge")
			id, _ := f.ParsePackageName(document)
			text := string(m.Snapshot()[document])
			w := withdraw.Mirror{Layout: f, Store: m, Deleter: m}
			_, err := w.Withdraw(t.Context(), []withdraw.Package{{Hash: id.Hash, ID: "munge@0.5.16", Documents: []string{document}}}, "CVE-2026-1")
			publishtest.Must(t, err)
			stands := string(m.Snapshot()[document]) // in layout v2, nothing
			time.Sleep(300 * day)
			zlib, _ := f.ParsePackageName(subject.Find("zlib"))
			keep := Keep{Hashes: map[spec.Hash]bool{zlib.Hash: true}, Withdrawn: 365 * day}
			mustPrune(t, m, careful(keep))
			if _, ok := m.Snapshot()[tarball]; !ok || string(m.Snapshot()[document]) != stands {
				t.Fatalf("%s: after 300 days there is its content %t, and in place of its document %q", fixture, ok, m.Snapshot()[document])
			}
			undoable, err := w.Undoable(t.Context())
			publishtest.Must(t, err)
			if _, err := w.Undo(t.Context(), undoable); err != nil || string(m.Snapshot()[document]) != text {
				t.Errorf("%s: it cannot be brought back: %v", fixture, err)
			}
			_, err = w.Withdraw(t.Context(), []withdraw.Package{{Hash: id.Hash, ID: "munge@0.5.16", Documents: []string{document}}}, "CVE-2026-1")
			publishtest.Must(t, err)
			time.Sleep(400 * day)
			mustPrune(t, m, careful(keep))
			if _, ok := m.Snapshot()[tarball]; ok || string(m.Snapshot()[document]) == text {
				t.Errorf("%s: after 400 days there is its content %t", fixture, ok)
			}
			if publishtest.LayoutOf(fixture) == "v3" && !strings.Contains(string(m.Snapshot()[document]), "CVE-2026-1") {
				t.Errorf("%s: its tombstone is gone", fixture)
			}
			for name := range m.Snapshot() {
				if strings.HasPrefix(name, ".history/v2/withdrawn/") {
					t.Errorf("%s is left", name)
				}
			}
			if all, err := withdraw.List(t.Context(), f, m); err != nil || len(all) != 1 {
				t.Errorf("%s: withdrawn are %v, %v", fixture, all, err)
			}
			if found := mustPlan(t, m, careful(keep)); !found.Empty() {
				t.Errorf("%s: there is more to delete: %+v", fixture, found)
			}
		})
	}
}

// A package that was withdrawn is none that rules keep, and neither is what only it needs: rules that keep nothing else are taken for a mistake.
func TestWhatWasWithdrawnIsNotKept(t *testing.T) {
	for _, age := range []time.Duration{0, 30 * day} {
		synctest.Test(t, func(t *testing.T) {
			m := aged(t, "v3-unsigned")
			withdrawMunge(t, m)
			time.Sleep(age)
			for _, text := range []string{"munge", "nosuch", ""} {
				keep := Keep{Newer: day}
				if text != "" {
					q, err := query.Parse(text)
					publishtest.Must(t, err)
					keep.Roots = []Root{{q, text}}
				}
				_, err := New(t.Context(), m, careful(keep))
				if empty := (*EmptyError)(nil); !errors.As(err, &empty) || empty.Packages != len(packagesOf(m.Snapshot()))-1 {
					t.Errorf("withdrawn for %s, keeping %q: %v", age, text, err)
				}
			}
			mustPlan(t, m, careful(Keep{Hashes: hashes("zlib")}))
		})
	}
}

// A mirror of withdrawn packages only has nothing that rules could keep.
func TestRulesDoNotConcernWhatWasWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := aged(t, "v3-unsigned")
		withdrawMunge(t, m)
		o := careful(Keep{Newer: day})
		o.AllowEmpty = true
		time.Sleep(30 * day)
		mustPrune(t, m, o)
		mustPlan(t, m, careful(Keep{Newer: day}))
	})
}

func withdrawMunge(t *testing.T, m *mirrortest.Mem) {
	document := publishtest.SubjectOf(t, m).Find("munge")
	id, _ := buildcache.V3.ParsePackageName(document)
	w := withdraw.Mirror{Layout: buildcache.V3, Store: m, Deleter: m}
	_, err := w.Withdraw(t.Context(), []withdraw.Package{{Hash: id.Hash, ID: "munge@0.5.16", Documents: []string{document}}}, "CVE-2026-1")
	publishtest.Must(t, err)
}
