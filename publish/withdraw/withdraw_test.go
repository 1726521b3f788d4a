package withdraw_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

var fixtures = []string{"v3-signed", "v2-signed"}

// A scene is a mirror with a package that is to be withdrawn.
type scene struct {
	*mirrortest.Mem
	t        *testing.T
	fixture  string
	layout   buildcache.Layout
	document string // of munge
	text     string
	hash     spec.Hash
}

func newScene(t *testing.T, fixture string) *scene {
	m := mirrortest.NewMem(t, mirrortest.LetBe)
	publishtest.MustPublish(t, m, publishtest.Original(fixture), publish.Options{})
	f, _ := buildcache.LayoutNamed(publishtest.LayoutOf(fixture))
	s := &scene{Mem: m, t: t, fixture: fixture, layout: f, document: publishtest.SubjectOf(t, m).Find("munge")}
	id, _ := f.ParsePackageName(s.document)
	s.text, s.hash = string(m.Snapshot()[s.document]), id.Hash
	return s
}

func (s *scene) packages() []withdraw.Package {
	return []withdraw.Package{{Hash: s.hash, ID: "munge@0.5.16", Documents: []string{s.document}}}
}

func (s *scene) mirror(store mirrortest.Store) withdraw.Mirror {
	return withdraw.Mirror{Layout: s.layout, Store: store, Deleter: store}
}

func (s *scene) withdraw(store mirrortest.Store) (withdraw.Result, error) {
	return s.mirror(store).Withdraw(s.t.Context(), s.packages(), "CVE-2026-1")
}

func (s *scene) undo(store mirrortest.Store) (withdraw.Result, error) {
	all, err := s.mirror(s.Mem).Undoable(s.t.Context())
	publishtest.Must(s.t, err)
	return s.mirror(store).Undo(s.t.Context(), all)
}

func (s *scene) index() *indices.Set {
	p, err := s.layout.ReadPointer(s.t.Context(), s)
	publishtest.Must(s.t, err)
	x, err := s.layout.ReadIndex(s.t.Context(), s, p)
	publishtest.Must(s.t, err)
	return x
}

func (s *scene) offered() bool { return s.index().Has(s.hash) }

// out checks that a client gets the package on no way, and that the mirror is otherwise whole.
func (s *scene) out(when string) {
	s.t.Helper()
	in := publishtest.IndexOf(s.t, s.Snapshot(), s.layout.Name())
	if r, ok := in[s.hash]; !ok || r.InBuildcache {
		s.t.Errorf("%s, %s: its record is there %t, and offers it %t", s.fixture, when, ok, r.InBuildcache)
	}
	if text, ok := s.Snapshot()[s.document]; ok {
		if _, err := s.layout.ParseDocument(s.document, text, spec.NewReader(1<<20)); err == nil {
			s.t.Errorf("%s, %s: its document can be used", s.fixture, when)
		}
	}
	if found := publishtest.MustVerify(s.t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
		s.t.Errorf("%s, %s: verify: %v", s.fixture, when, found)
	}
}

// A package that is withdrawn stays out, whoever publishes, heals or rebuilds, and none of them writes anything for it.
func TestAWithdrawnPackageStaysOut(t *testing.T) {
	for _, fixture := range fixtures {
		s := newScene(t, fixture)
		r, err := s.withdraw(s)
		publishtest.Must(t, err)
		if !r.Index.Written || !slices.Contains(r.Stale, s.document) || !slices.Contains(r.Stale, s.layout.IndexNames()[0]) {
			t.Errorf("%+v", r)
		}
		s.out("withdrawn")
		s.Forget()
		out := publishtest.MustPublish(t, s, publishtest.Original(fixture), publish.Options{})
		if got := publishtest.Statuses(out)["munge"]; got != publish.Withdrawn {
			t.Errorf("%s: published as %q", fixture, got)
		}
		if w := publishtest.Warnings(out.Findings, "CVE-2026-1"); len(w) != 1 {
			t.Errorf("%s: nobody says why: %v", fixture, out.Findings)
		}
		_, err = publishtest.PublishTo(t, s, publishtest.Original(fixture), publish.Options{IfExists: publish.Overwrite})
		publishtest.Must(t, err)
		healed := publishtest.MustHeal(t, s, publishtest.NamesOf(s.Snapshot())...)
		for _, h := range healed {
			if len(h.Findings) > 0 || s.layout.NamesContent() && len(h.Kept) != 1 {
				t.Errorf("%s: healing says %+v", fixture, h)
			}
		}
		_, err = reindex.RebuildEverything(t.Context(), s, buildcache.Trust{})
		publishtest.Must(t, err)
		s.out("rebuilt")
		if r, err = s.withdraw(s); err != nil || r.Index.Written || len(r.Stale) > 0 {
			t.Errorf("again: %+v, %v", r, err)
		}
		if len(s.Mutations()) > 0 {
			t.Errorf("%s: nothing is to be done, and it did %v", fixture, s.Mutations())
		}
	}
}

// The pointer says what is withdrawn. Where Spack has replaced it, the history says so.
func TestAWithdrawalOutlivesSpacksIndex(t *testing.T) {
	for _, fixture := range fixtures {
		s := newScene(t, fixture)
		_, err := s.withdraw(s)
		publishtest.Must(t, err)
		if s.layout.NamesContent() {
			publishtest.PlantIndex(t, s.Mem, `{"database":{"version":"8","installs":{}}}`)
		} else {
			s.Plant(s.layout.IndexNames()[0], []byte(`{"database":{"version":"7","installs":{}}}`))
		}
		out := publishtest.MustPublish(t, s, publishtest.Original(fixture), publish.Options{})
		if got := publishtest.Statuses(out)["munge"]; got != publish.Withdrawn || s.offered() {
			t.Errorf("%s: published as %q", fixture, got)
		}
		if all, err := withdraw.List(t.Context(), s.layout, s); err != nil || len(all) != 1 || all[0].Reason != "CVE-2026-1" || all[0].Package != "munge@0.5.16" {
			t.Errorf("%v %v", all, err)
		}
	}
}

// Verify names what another program has pushed onto a tombstone and offers, before anybody publishes, and after it.
func TestVerifyNamesWhatIsPushedAgain(t *testing.T) {
	s := newScene(t, "v3-signed")
	p, err := s.layout.ReadPointer(t.Context(), s)
	publishtest.Must(t, err)
	index, _ := s.layout.BlobName(p.Refs[0].Digest)
	text, err := buildcache.ReadBlob(t.Context(), s, buildcache.Object{Name: index, Size: -1, Digest: p.Refs[0].Digest}, buildcache.MaxIndex)
	publishtest.Must(t, err)
	_, err = s.withdraw(s)
	publishtest.Must(t, err)
	s.Plant(s.document, []byte(s.text))
	publishtest.PlantIndex(t, s.Mem, string(text))
	for _, when := range []string{"before", "after"} {
		found := publishtest.MustVerify(t, s, verify.Options{}).Findings
		names := func(file, reason string) bool {
			return slices.ContainsFunc(found, func(f buildcache.Finding) bool {
				return f.Severity == buildcache.Error && f.File == file && strings.Contains(f.Reason, reason)
			})
		}
		if !names(s.document, "it can be installed by its hash") || names(s.layout.IndexNames()[0], "it offers munge@0.5.16/") != (when == "before") {
			t.Errorf("%s: %v", when, found)
		}
		publishtest.MustPublish(t, s, publishtest.Original(s.fixture), publish.Options{})
	}
}

// An undone withdrawal leaves the document as it was, byte for byte, and the package offered.
func TestAWithdrawalIsUndone(t *testing.T) {
	for _, fixture := range fixtures {
		s := newScene(t, fixture)
		before := publishtest.IndexOf(t, s.Snapshot(), s.layout.Name())
		_, err := s.withdraw(s)
		publishtest.Must(t, err)
		r, err := s.undo(s)
		publishtest.Must(t, err)
		if string(s.Snapshot()[s.document]) != s.text || !s.offered() || len(r.Lost) > 0 || !slices.Contains(r.Stale, s.document) {
			t.Errorf("%s: %+v", fixture, r)
		}
		publishtest.WantIndex(t, s.Snapshot(), s.layout.Name(), before)
		if all, _ := withdraw.List(t.Context(), s.layout, s); len(all) > 0 {
			t.Errorf("still withdrawn: %v", all)
		}
		if found := publishtest.MustVerify(t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
			t.Errorf("verify: %v", found)
		}
	}
}

// What is given again although it needs what is still withdrawn is named.
func TestAnUndoneWithdrawalOfWhatNeedsAnother(t *testing.T) {
	for _, fixture := range fixtures {
		s := newScene(t, fixture)
		document := publishtest.SubjectOf(t, s.Mem).Find("slurm")
		id, _ := s.layout.ParsePackageName(document)
		_, err := s.mirror(s).Withdraw(t.Context(), append(s.packages(), withdraw.Package{Hash: id.Hash, ID: "slurm@24", Documents: []string{document}}), "CVE-2026-1")
		publishtest.Must(t, err)
		all, err := s.mirror(s).Undoable(t.Context())
		publishtest.Must(t, err)
		for i, want := range []int{1, 0} { // munge comes before slurm
			r, err := s.mirror(s).Undo(t.Context(), all[1-i:2-i])
			publishtest.Must(t, err)
			if got := r.Needs[all[1-i].Hash]; len(got) != want || want > 0 && !strings.Contains(got[0], "it needs munge@0.5.16/") {
				t.Errorf("%s: %s needs %q", fixture, all[1-i].Package, got)
			}
		}
	}
}

// Nothing comes back that is not signed where signatures are wanted, not even its document; and nothing else beside it.
func TestAWithdrawalOfWhatIsNotTrustedIsNotUndone(t *testing.T) {
	for _, fixture := range []string{"v3-unsigned", "v2-unsigned"} {
		s := newScene(t, fixture)
		_, err := s.withdraw(s)
		publishtest.Must(t, err)
		all, err := s.mirror(s).Undoable(t.Context())
		publishtest.Must(t, err)
		s.Forget()
		m := s.mirror(s)
		m.Trust.RequireSigned = true
		if _, err := m.Undo(t.Context(), all); !errors.Is(err, withdraw.ErrUntrusted) || len(s.Mutations()) > 0 {
			t.Errorf("%s: %v, and it did %v", fixture, err, s.Mutations())
		}
		s.out("not undone")
		if _, err := s.undo(s); err != nil || !s.offered() {
			t.Errorf("%s: %v", fixture, err)
		}
	}
}

// Nothing comes back that is about to be deleted.
func TestAWithdrawalIsNotUndoneBesideAPrune(t *testing.T) {
	for _, fixture := range fixtures {
		s := newScene(t, fixture)
		_, err := s.withdraw(s)
		publishtest.Must(t, err)
		_, err = notice.Give(t.Context(), s, "run", time.Second, false)
		publishtest.Must(t, err)
		if _, err := s.undo(s); !errors.Is(err, notice.ErrAtWork) || s.offered() {
			t.Errorf("%s: %v", fixture, err)
		}
		s.Uproot(notice.Name)
		if _, err := s.undo(s); err != nil || !s.offered() {
			t.Errorf("%s, after the prune: %v", fixture, err)
		}
	}
}

// A withdrawal is undone although the tarball was pruned, or in layout v2 the document. Until it is published again, no document names what is gone, and
// the package is kept out, whoever rebuilds or heals.
func TestAWithdrawalWhoseContentWasPrunedIsUndone(t *testing.T) {
	for _, fixture := range fixtures {
		s := newScene(t, fixture)
		gone := publishtest.SubjectOf(t, s.Mem).Tarball("munge")
		_, err := s.withdraw(s)
		publishtest.Must(t, err)
		want := gone
		s.Uproot(gone)
		if !s.layout.NamesContent() {
			want = "its document is gone"
			s.Uproot(history.Dir + "v2/withdrawn/" + path.Base(s.document))
		}
		r, err := s.undo(s)
		publishtest.Must(t, err)
		if len(r.Lost) != 1 || !strings.Contains(r.Lost[s.hash], want) || s.offered() {
			t.Errorf("%s: %+v", fixture, r)
		}
		s.out("undone")
		s.Uproot(publishtest.SubjectOf(t, s.Mem).Find("hwloc")) // so that the index changes
		_, err = reindex.RebuildEverything(t.Context(), s, buildcache.Trust{})
		publishtest.Must(t, err)
		publishtest.MustHeal(t, s, publishtest.NamesOf(s.Snapshot())...)
		s.out("undone, and rebuilt")
		out := publishtest.MustPublish(t, s, publishtest.Original(fixture), publish.Options{})
		if got := publishtest.Statuses(out)["munge"]; got != publish.New || !s.offered() {
			t.Errorf("%s: published again as %q: %v", fixture, got, out.Findings)
		}
		if found := publishtest.MustVerify(t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
			t.Errorf("%s: verify: %v", fixture, found)
		}
	}
}

// A command that dies at any request, or loses an answer, is completed by repeating it. The index offers nothing that has no document.
func TestAWithdrawalIsKilledAtEveryRequest(t *testing.T) {
	for _, fixture := range fixtures {
		for _, what := range []string{"withdraw", "undo"} {
			for k, done := 1, false; !done; k++ {
				s := newScene(t, fixture)
				do := s.withdraw
				if what == "undo" {
					_, err := s.withdraw(s)
					publishtest.Must(t, err)
					do = s.undo
				}
				_, err := do(mirrortest.Break(s, mirrortest.Kill(k)))
				done = err == nil
				if err := publishtest.NewReader().Look(s.Snapshot()); s.offered() && err != nil {
					t.Errorf("%s: %s killed at %d: %v", fixture, what, k, err)
				}
				_, err = do(s)
				publishtest.Must(t, err)
				if what == "withdraw" {
					s.out(fmt.Sprintf("killed at %d", k))
				} else if !s.offered() || string(s.Snapshot()[s.document]) != s.text {
					t.Errorf("%s: undo killed at %d and repeated: offered %t", fixture, k, s.offered())
				}
			}
		}
	}
}

// A publisher that has planned before a withdrawal, and stores after it, does not bring the package back.
func TestAWithdrawalBesideAPublisher(t *testing.T) {
	for _, fixture := range fixtures {
		for _, late := range []bool{false, true} {
			m := mirrortest.NewMem(t, mirrortest.LetBe)
			publishtest.MustPublish(t, m, publishtest.Original(fixture), publishtest.Only("zlib", "gcc-runtime", "openssl", "munge"))
			s := newScene(t, fixture)
			s.Mem = m
			o := publish.Options{}
			if late {
				o.IfExists = publish.Overwrite
			}
			plan := publishtest.MustPlan(t, m, publishtest.Original(fixture), o)
			_, err := s.withdraw(m)
			publishtest.Must(t, err)
			if _, err := plan.Apply(t.Context(), publishtest.Ignored{}); err != nil && !errors.Is(err, mirror.ErrConflict) {
				t.Error(err)
			}
			s.out("beside a publisher")
		}
	}
}

// A view that offers the package is withdrawn from as well, and gets it back.
func TestAWithdrawalCoversViews(t *testing.T) {
	m := mirrortest.NewMem(t, mirrortest.LetBe)
	publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{})
	view, ok := buildcache.V3.View("site/login")
	if !ok {
		t.Fatal("no views")
	}
	_, err := reindex.Replace(t.Context(), view, m, func(_ context.Context, _ *buildcache.Pointer, _ *indices.Set) (*indices.Set, error) {
		p, err := buildcache.V3.ReadPointer(t.Context(), m)
		if err != nil {
			return nil, err
		}
		return buildcache.V3.ReadIndex(t.Context(), m, p)
	})
	publishtest.Must(t, err)
	s := newScene(t, "v3-signed")
	s.Mem = m
	offers := func() bool {
		p, err := view.ReadPointer(t.Context(), m)
		publishtest.Must(t, err)
		x, err := view.ReadIndex(t.Context(), m, p)
		publishtest.Must(t, err)
		return x.Has(s.hash)
	}
	if !offers() {
		t.Fatal("the view does not offer it")
	}
	r, err := s.withdraw(m)
	publishtest.Must(t, err)
	if offers() || !slices.Contains(r.Stale, view.IndexNames()[0]) {
		t.Errorf("the view offers it: %+v", r)
	}
	if _, err = s.undo(m); err != nil || !offers() {
		t.Errorf("the view did not get it back: %v", err)
	}
}

// A view that cannot be read keeps no withdrawal from the other views and from the documents, and is named.
func TestAWithdrawalPassesOverAViewThatCannotBeRead(t *testing.T) {
	for what, text := range map[string]string{"garbage": "{", "of a newer version": `{"version":4,"data":[]}`} {
		m := mirrortest.NewMem(t, mirrortest.LetBe)
		publishtest.MustPublish(t, m, publishtest.Original("v3-signed"), publish.Options{Views: []string{"a", "m", "z"}})
		s := newScene(t, "v3-signed")
		s.Mem = m
		m.Plant(layout.V3View("m"), []byte(text))
		for again := range 2 {
			r, err := s.withdraw(m)
			if err != nil || len(r.Unread) != 1 || !strings.Contains(r.Unread[0].Error(), "view m was passed over: ") || reindex.NeedsRebuild(r.Unread[0]) != (what == "garbage") {
				t.Fatalf("%s: %v, %v", what, r.Unread, err)
			}
			if _, err := s.layout.ParseDocument(s.document, m.Snapshot()[s.document], spec.NewReader(1<<20)); err == nil || s.offered() {
				t.Errorf("%s, run %d: it can be had", what, again+1)
			}
			for _, name := range []string{"a", "z"} {
				view, _ := buildcache.V3.View(name)
				p, err := view.ReadPointer(t.Context(), m)
				publishtest.Must(t, err)
				if _, ok := p.Withdrawn[s.hash]; !ok {
					t.Errorf("%s, run %d: the view %s offers it", what, again+1, name)
				}
			}
		}
		if _, err := s.undo(m); err != nil || !s.offered() {
			t.Errorf("%s: it was not given again: %v", what, err)
		}
	}
}

// Beside eight publishers, an indexer and a rebuild, a package is out when its withdrawal has returned, and in when its undo has; and no
// other package is lost.
func TestPublishersBesideAWithdrawer(t *testing.T) {
	for _, fixture := range fixtures {
		s := newScene(t, fixture)
		packages := s.index().Offered()
		stop := make(chan struct{})
		var group sync.WaitGroup
		work := func(do func() error) {
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						if err := do(); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		for i := range 8 {
			o := publish.Options{}
			if i%2 == 1 {
				o.IfExists = publish.Overwrite
			}
			if fixture == "v2-signed" {
				o.IfExists = publish.Skip
			}
			dir := publishtest.Original(fixture)
			work(func() error {
				_, err := publishtest.PublishTo(t, s, dir, o)
				if errors.Is(err, mirror.ErrNotExist) { // layout v2: it was deleted between listing and reading; a run is repeated
					return nil
				}
				return err
			})
		}
		work(func() error {
			_, err := reindex.Heal(t.Context(), s, buildcache.Trust{}, reindex.Changes{Names: publishtest.NamesOf(s.Snapshot())})
			return err
		})
		for range 15 {
			_, err := s.withdraw(s)
			publishtest.Must(t, err)
			for range 10 {
				if s.offered() {
					t.Fatalf("%s: it is withdrawn, and offered", fixture)
				}
				time.Sleep(time.Millisecond)
			}
			_, err = s.undo(s)
			publishtest.Must(t, err)
			for range 3 {
				if !s.offered() || string(s.Snapshot()[s.document]) != s.text {
					t.Fatalf("%s: it was given again, and is not offered", fixture)
				}
			}
		}
		close(stop)
		group.Wait()
		if n := s.index().Offered(); n != packages {
			t.Errorf("%s: %d packages of %d", fixture, n, packages)
		}
		if found := publishtest.MustVerify(t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
			t.Errorf("%s: verify: %v", fixture, found)
		}
	}
}

// A package that is published after a withdrawal of what it needs is reported: nobody can install it from this mirror. One that needs it only to be built is not.
func TestDependentsThatComeLaterAreReported(t *testing.T) {
	for _, fixture := range fixtures {
		s := &scene{Mem: mirrortest.NewMem(t, mirrortest.LetBe), t: t, fixture: fixture}
		publishtest.MustPublish(t, s.Mem, publishtest.Original(fixture), publishtest.Only("munge", "openssl", "zlib", "gcc-runtime"))
		s.layout, _ = buildcache.LayoutNamed(publishtest.LayoutOf(fixture))
		s.document = publishtest.SubjectOf(t, s.Mem).Find("munge")
		id, _ := s.layout.ParsePackageName(s.document)
		s.hash = id.Hash
		_, err := s.withdraw(s.Mem)
		publishtest.Must(t, err)
		out := publishtest.MustPublish(t, s.Mem, publishtest.Original(fixture), publishtest.Only("slurm", "hwloc"))
		if w := publishtest.Warnings(out.Findings, "it needs munge@0.5.16/"+s.hash.Short()+", which was withdrawn on "); len(w) != 1 || !strings.Contains(w[0].File, "slurm") {
			t.Errorf("%s: %v", fixture, out.Findings)
		}
	}
}

// A SOURCE that is a mirror itself, from which a package was withdrawn, is published without that package, which is reported.
func TestASourceWithATombstone(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	name := publishtest.DocumentFile(t, dir, "munge")
	stone := tombstone.Tombstone{Withdrawal: history.Withdrawal{Package: "munge@0.5.16", Document: "x", Reason: "CVE-2026-1"}, Text: string(publishtest.MustRead(t, name))}
	text, err := stone.Encode()
	publishtest.Must(t, err)
	publishtest.Must(t, os.WriteFile(name, text, 0o644))
	m := publishtest.EmptyMirror(t)
	out := publishtest.MustPublish(t, m, dir, publish.Options{})
	if w := publishtest.Warnings(out.Findings, "not published: in SOURCE it was withdrawn on 0001-01-01: CVE-2026-1"); len(w) != 1 {
		t.Errorf("%v", out.Findings)
	}
	for name := range m.Snapshot() {
		if strings.Contains(name, "munge") {
			t.Errorf("%s was published", name)
		}
	}
	if n := len(publishtest.IndexOf(t, m.Snapshot(), "v3").Offered()); n != 10 {
		t.Errorf("%d packages", n)
	}
}
