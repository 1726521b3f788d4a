package withdraw_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/rollback"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
	"github.com/vantagecompute/slurm-factory-publish/publish/views"
	"github.com/vantagecompute/slurm-factory-publish/publish/withdraw"
)

const viewName = "site/login"

// viewOffers reports whether the view offers the package.
func (s *scene) viewOffers() bool { return slices.Contains(s.inView(), "munge") }

// inView returns the names of the packages that the view offers.
func (s *scene) inView() (names []string) {
	view, _ := buildcache.V3.View(viewName)
	p, err := view.ReadPointer(s.t.Context(), s)
	publishtest.Must(s.t, err)
	if p.Version == mirror.Absent {
		return nil
	}
	x, err := view.ReadIndex(s.t.Context(), s, p)
	publishtest.Must(s.t, err)
	for e := range x.Records() {
		if e.InBuildcache {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return names
}

// A writer gives the view the package.
type writer struct {
	name   string
	before func(s *scene)
	write  func(s *scene, store mirrortest.Store) error
}

func change(c views.Change) func(*scene, mirrortest.Store) error {
	return func(s *scene, store mirrortest.Store) error {
		c.View = viewName
		p, err := views.NewPlan(s.t.Context(), store, c)
		if err != nil {
			return err
		}
		_, err = p.Apply(s.t.Context(), store)
		return err
	}
}

func wanting(texts ...string) (w closure.Want) {
	for _, text := range texts {
		q, err := query.Parse(text)
		if err != nil {
			panic(err)
		}
		w.Packages = append(w.Packages, q)
	}
	return w
}

func writers() []writer {
	add, set := views.Change{Act: views.Add, Want: wanting("munge")}, views.Change{Act: views.Set, Want: wanting("munge")}
	zlib := views.Change{Act: views.Set, Want: wanting("zlib")}
	to := func(view string, c views.Change) func(*scene) {
		return func(s *scene) {
			c.View = view
			p, err := views.NewPlan(s.t.Context(), s, c)
			publishtest.Must(s.t, err)
			_, err = p.Apply(s.t.Context(), s)
			publishtest.Must(s.t, err)
		}
	}
	return []writer{
		{"view add", func(*scene) {}, change(add)},
		{"view set of a view that is there", to(viewName, zlib), change(set)},
		{"view set --from", to("other", set), change(views.Change{Act: views.Set, From: "other"})},
		{"publish --view", func(*scene) {}, func(s *scene, store mirrortest.Store) error {
			_, err := publishtest.PublishTo(s.t, store, publishtest.Original(s.fixture), publish.Options{Views: []string{viewName}})
			return err
		}},
		{"rollback of a view", func(s *scene) { to(viewName, set)(s); to(viewName, zlib)(s) }, func(s *scene, store mirrortest.Store) error {
			view, _ := buildcache.V3.View(viewName)
			p, err := rollback.NewPlan(s.t.Context(), rollback.Mirror{Layout: view, Store: store}, rollback.Target{Generation: 1})
			if err != nil {
				return err
			}
			_, err = p.Apply(s.t.Context())
			return err
		}},
	}
}

// A package that is withdrawn while it is added to a view, at whatever request of that, is in no view afterwards; and if the withdrawal is
// undone at a later one, every index that should have it has it. A writer that dies at any request leaves nothing that repeating the
// withdrawal does not take out.
func TestAWithdrawalBesideWritersOfAView(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 9
	}
	for _, w := range writers() {
		for k, more := 1, true; more; k += step {
			for _, undoAfter := range []int{0, 1, 2, 3, 5, 8} {
				what := fmt.Sprintf("%s, withdrawn after request %d, undone %d later", w.name, k, undoAfter)
				more = besideWriter(t, what, w, k, undoAfter)
			}
			for kill := k; more && kill < k+6; kill += 2 {
				besideDeath(t, fmt.Sprintf("%s, withdrawn after request %d, killed at %d", w.name, k, kill), w, k, kill)
			}
		}
	}
}

func besideWriter(t *testing.T, what string, w writer, k, undoAfter int) (more bool) {
	s := newScene(t, "v3-signed")
	w.before(s)
	b := mirrortest.Break(s)
	n := 0
	undone := false
	b.AfterEach(func(mirrortest.Call) {
		switch n++; {
		case n == k:
			more = true
			_, err := s.withdraw(s)
			publishtest.Must(t, err)
		case undoAfter > 0 && n == k+undoAfter:
			undone = true
			_, err := s.undo(s)
			publishtest.Must(t, err)
		}
	})
	var findings *buildcache.FindingsError
	err := w.write(s, b)
	if refused := errors.As(err, &findings) || errors.Is(err, views.ErrNothing) || errors.Is(err, views.ErrLacking); err != nil && !refused {
		t.Errorf("%s: %v", what, err)
	}
	if !more {
		return false
	}
	if undone {
		if !s.offered() {
			t.Errorf("%s: the mirror does not offer it", what)
		}
		if err == nil && !s.viewOffers() && w.write(s, s) == nil && !s.viewOffers() {
			t.Errorf("%s: the view does not get it", what)
		}
	} else if s.offered() || s.viewOffers() {
		t.Errorf("%s: the mirror offers it %t, the view %t", what, s.offered(), s.viewOffers())
	}
	if found := publishtest.MustVerify(t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
		t.Errorf("%s: verify: %v", what, found)
	}
	return true
}

// besideDeath withdraws after request k of a writer that is killed at another one.
func besideDeath(t *testing.T, what string, w writer, k, kill int) {
	s := newScene(t, "v3-signed")
	w.before(s)
	b := mirrortest.Break(s, mirrortest.Kill(kill))
	n := 0
	b.AfterEach(func(mirrortest.Call) {
		if n++; n == k {
			_, err := s.withdraw(s)
			publishtest.Must(t, err)
		}
	})
	_ = w.write(s, b)
	_, err := s.withdraw(s)
	publishtest.Must(t, err)
	if s.offered() || s.viewOffers() {
		t.Errorf("%s: the mirror offers it %t, the view %t", what, s.offered(), s.viewOffers())
	}
}

// An undo that is killed at any request and repeated leaves no view without the package.
func TestAnUndoOfViewsIsKilledAtEveryRequest(t *testing.T) {
	for k, done := 1, false; !done; k++ {
		s := newScene(t, "v3-signed")
		publishtest.Must(t, change(views.Change{Act: views.Set, Want: wanting("munge")})(s, s))
		_, err := s.withdraw(s)
		publishtest.Must(t, err)
		_, err = s.undo(mirrortest.Break(s, mirrortest.Kill(k)))
		done = err == nil
		_, err = s.undo(s)
		publishtest.Must(t, err)
		if !s.offered() || !s.viewOffers() {
			t.Errorf("killed at %d: the mirror offers it %t, the view %t", k, s.offered(), s.viewOffers())
		}
	}
}

// An undo gives a view again what was decided to be in it, and nothing else: not what was withdrawn when the view was set to something else, and
// what was withdrawn can be removed. What was withdrawn and is needed by what is wanted comes back.
func TestAnUndoGivesAViewWhatWasDecided(t *testing.T) {
	for _, row := range []struct {
		name      string
		first     []string // what the view is set to
		removed   []string // from it, then
		withdrawn []string
		change    views.Change
		without   []string // after the undo: of what the view would offer if nothing had been withdrawn
		like      []string // what the view is to be like, but for these
	}{
		{"set", []string{"slurm"}, nil, []string{"munge", "slurm"}, views.Change{Act: views.Set, Want: wanting("zlib")}, nil, []string{"zlib"}},
		{"empty", []string{"slurm"}, nil, []string{"munge", "slurm"}, views.Change{Act: views.Set}, nil, nil},
		{"from", []string{"slurm"}, nil, []string{"munge", "slurm"}, views.Change{Act: views.Set, From: "other"}, nil, []string{"zlib"}},
		{"from one that has it withdrawn", []string{"zlib"}, nil, []string{"munge", "slurm"}, views.Change{Act: views.Set, From: "munge"}, nil, []string{"munge"}},
		{"remove", []string{"slurm"}, nil, []string{"munge", "slurm"}, views.Change{Act: views.Remove, Want: wanting("munge", "slurm")}, []string{"munge", "slurm"}, []string{"slurm"}},
		{"remove what only builds need", []string{"munge"}, nil, []string{"gcc"}, views.Change{Act: views.Remove, Want: wanting("gcc")}, []string{"gcc"}, []string{"munge"}},
		{"remove something else", []string{"munge", "libevent"}, nil, []string{"munge"}, views.Change{Act: views.Remove, Want: wanting("libevent")}, []string{"libevent"}, []string{"munge", "libevent"}},
		{"add", []string{"munge"}, nil, []string{"munge"}, views.Change{Act: views.Add, Want: wanting("libevent")}, nil, []string{"munge", "libevent"}},
		{"add what needs it", []string{"zlib"}, nil, []string{"munge"}, views.Change{Act: views.Add, Want: wanting("slurm")}, nil, []string{"slurm"}},
		{"set to what needs it", []string{"zlib"}, nil, []string{"munge"}, views.Change{Act: views.Set, Want: wanting("slurm")}, nil, []string{"slurm"}},
		{"set to what was removed before", []string{"munge"}, []string{"gcc"}, []string{"gcc"}, views.Change{Act: views.Set, Want: wanting("munge")}, nil, []string{"munge"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newScene(t, "v3-signed")
			set := func(view string, want ...string) {
				p, err := views.NewPlan(t.Context(), s, views.Change{View: view, Act: views.Set, Want: wanting(want...)})
				publishtest.Must(t, err)
				_, err = p.Apply(t.Context(), s)
				publishtest.Must(t, err)
			}
			set(viewName, row.like...)
			want := slices.DeleteFunc(s.inView(), func(name string) bool { return slices.Contains(row.without, name) })
			set(viewName, row.first...)
			set("other", "zlib")
			set("munge", "munge")
			if row.removed != nil {
				publishtest.Must(t, change(views.Change{Act: views.Remove, Want: wanting(row.removed...)})(s, s))
			}
			var packages []withdraw.Package
			for _, name := range row.withdrawn {
				document := publishtest.SubjectOf(t, s.Mem).Find(name)
				id, _ := s.layout.ParsePackageName(document)
				packages = append(packages, withdraw.Package{Hash: id.Hash, ID: name + "@1", Documents: []string{document}})
			}
			_, err := s.mirror(s).Withdraw(t.Context(), packages, "CVE-2026-1")
			publishtest.Must(t, err)

			row.change.View = viewName
			for _, changes := range []bool{true, false} {
				p, err := views.NewPlan(t.Context(), s, row.change)
				publishtest.Must(t, err)
				out, err := p.Apply(t.Context(), s)
				publishtest.Must(t, err)
				if p.Changes != changes || out.Written != changes || p.After != out.After {
					t.Errorf("planned: changes %t, %d packages; written %t, %d; want %t", p.Changes, p.After, out.Written, out.After, changes)
				}
			}
			now := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return slices.Contains(row.withdrawn, name) })
			if got := s.inView(); !slices.Equal(got, now) {
				t.Errorf("withdrawn: %v, want %v", got, now)
			}
			_, err = s.undo(s)
			publishtest.Must(t, err)
			if got := s.inView(); !slices.Equal(got, want) {
				t.Errorf("given again: %v, want %v", got, want)
			}
			if found := publishtest.MustVerify(t, s, verify.Options{Deep: true}).Findings; len(found) > 0 {
				t.Errorf("verify: %v", found)
			}
		})
	}
}

// What a package of a view needs is not removed from under it, whether it is withdrawn or not.
func TestWhatIsNeededIsNotRemovedWhileItIsWithdrawn(t *testing.T) {
	s := newScene(t, "v3-signed")
	publishtest.Must(t, change(views.Change{Act: views.Set, Want: wanting("slurm")})(s, s))
	_, err := s.withdraw(s)
	publishtest.Must(t, err)
	if err := change(views.Change{Act: views.Remove, Want: wanting("munge")})(s, s); !errors.Is(err, views.ErrNeeded) {
		t.Errorf("%v", err)
	}
}
