package withdraw_test

import (
	"errors"
	"fmt"
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
)

const viewName = "site/login"

// viewOffers reports whether the view offers the package.
func (s *scene) viewOffers() bool {
	view, _ := buildcache.V3.View(viewName)
	p, err := view.ReadPointer(s.t.Context(), s)
	publishtest.Must(s.t, err)
	if p.Version == mirror.Absent {
		return false
	}
	x, err := view.ReadIndex(s.t.Context(), s, p)
	publishtest.Must(s.t, err)
	return x.Has(s.hash)
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

func wanting(text string) closure.Want {
	q, err := query.Parse(text)
	if err != nil {
		panic(err)
	}
	return closure.Want{Packages: []*query.Query{q}}
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
	if refused := errors.As(err, &findings) || errors.Is(err, views.ErrNothing); err != nil && !refused {
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
