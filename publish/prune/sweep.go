package prune

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// A Target is a mirror to be pruned.
type Target interface {
	mirror.Store
	mirror.Sweeper
}

// A Progress receives the progress of a prune.
type Progress interface {
	// Step reports that a step begins.
	Step(step string)
	// Wait reports that the prune waits until a time.
	Wait(until time.Time, why string)
	// Deleted reports that so many more objects were deleted.
	Deleted(objects int, bytes int64)
	// Withdrawn reports that the index was replaced. Caches may have the old one under these names.
	Withdrawn(ctx context.Context, stale []string) error
}

// An Outcome says what a prune has done.
type Outcome struct {
	Withdrawn int // packages removed from the index
	Deleted   Count
	Uploads   int // aborted uploads
	// Spared are planned objects that stay, because publishers need them or because they have changed.
	Spared   int
	Findings []buildcache.Finding
}

// maxSkew is the maximum difference between the clocks of the host and of the mirror.
const maxSkew = 5 * time.Minute

// Apply carries out the plan. After an interruption, the next prune does the rest.
//
// A client may read the mirror, and this process may die, between any two requests. Each step deletes only objects
// to which no earlier index, document or publisher leads any more.
func (p *Plan) Apply(ctx context.Context, target Target, d mirror.Deleter, progress Progress) (out *Outcome, err error) {
	s := &sweep{plan: p, target: target, deleter: d, progress: progress, run: rand.Text(), spared: make(map[string]bool), own: make(map[string]bool), out: new(Outcome)}
	for _, l := range p.Layouts { // removes the notice of a dead prune
		if err := reindex.Complete(ctx, l.Layout, target); err != nil {
			return s.out, fmt.Errorf("index: %w", err)
		}
	}
	if p.Empty() {
		return s.out, nil
	}
	if err := s.prove(ctx); err != nil {
		return s.out, err
	}
	s.renewed = time.Now()
	if s.giver, err = notice.Give(ctx, target, s.run, p.options.Settle, p.options.Alone); err != nil {
		return s.out, err
	}
	s.began = time.Now()
	err = s.steps(ctx)
	if err != nil && !s.deleting { // no delete request is in flight
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		s.end(end)
	}
	if err == nil {
		err = s.end(ctx)
	}
	return s.out, err
}

// goodbye is how long a prune that is interrupted during a wait may take to remove its notice.
const goodbye = 10 * time.Second

// A sweep is the execution of a plan.
type sweep struct {
	plan     *Plan
	target   Target
	deleter  mirror.Deleter
	progress Progress
	run      string // unique to this prune
	giver    *notice.Giver
	out      *Outcome

	began    time.Time // when notice was given
	changed  time.Time // when clients could last read an index with the objects of the next step
	renewed  time.Time // when the notice was last renewed, or a moment before
	skew     time.Duration
	single   bool            // the storage obeys conditions only for single deletes
	spared   map[string]bool // names to which publishers object
	deleting bool            // a delete request was sent and not answered
	own      map[string]bool // names of the records of this prune, including those of lost races
}

func (s *sweep) steps(ctx context.Context) error {
	if err := s.clocks(ctx); err != nil {
		return err
	}
	if !s.plan.deletes() {
		return s.tidy(ctx)
	}
	s.changed = s.began
	for _, l := range s.plan.Layouts {
		if err := s.withdraw(ctx, l); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	if err := s.wait(ctx, "so that clients with an older index, and publishers, finish"); err != nil {
		return err
	}
	found, err := s.look(ctx)
	if err != nil {
		return err
	}
	gone := s.out.Deleted.Objects
	for _, l := range found {
		if err := s.deleteDocuments(ctx, l); err != nil {
			return fmt.Errorf("documents: %w", err)
		}
	}
	if s.out.Deleted.Objects > gone {
		s.changed = time.Now()
		if err := s.wait(ctx, "so that clients that have read a document get its content"); err != nil {
			return err
		}
		if found, err = s.look(ctx); err != nil {
			return err
		}
	}
	for _, l := range found {
		if err := s.deleteContent(ctx, l); err != nil {
			return fmt.Errorf("content: %w", err)
		}
	}
	return s.tidy(ctx)
}

// clocks checks that ages can be judged.
func (s *sweep) clocks(ctx context.Context) error {
	stored, err := s.giver.Stored(ctx)
	if err != nil {
		return err
	}
	s.skew = stored.Sub(s.began)
	if s.skew.Abs() > maxSkew {
		return fmt.Errorf("the clock of the storage is %s from that of this host, so the age of objects cannot be told: set the clock", s.skew.Round(time.Second))
	}
	return nil
}

// withdraw removes packages from the index.
func (s *sweep) withdraw(ctx context.Context, l *LayoutPlan) error {
	if len(l.offered) == 0 {
		return nil
	}
	s.progress.Step("index")
	layouts := []buildcache.Layout{l.Layout}
	for _, name := range l.views {
		if view, ok := l.Layout.View(name); ok {
			layouts = append(layouts, view)
		}
	}
	for _, f := range layouts {
		before, after := 0, 0
		r, err := reindex.Replace(ctx, f, recorder{s.target, s.own}, func(_ context.Context, _ *buildcache.Pointer, now *indices.Set) (*indices.Set, error) {
			if now == nil {
				return nil, nil
			}
			if err := s.objections(ctx); err != nil {
				return nil, err
			}
			out := maps.Clone(l.offered)
			for name := range s.spared { // packages just published again
				if id, ok := f.ParsePackageName(name); ok {
					delete(out, id.Hash)
				}
			}
			next, err := now.Without(out)
			if err == nil {
				before, after = now.Offered(), next.Offered()
			}
			return next, err
		})
		if err != nil {
			return err
		}
		if !r.Written {
			continue
		}
		if f.ViewName() == "" {
			s.out.Withdrawn += before - after
		}
		s.changed = time.Now()
		if err := s.progress.Withdrawn(ctx, f.IndexNames()); err != nil {
			return err
		}
	}
	return nil
}

// A recorder records which history records are stored.
type recorder struct {
	Target
	records map[string]bool
}

func (r recorder) Create(ctx context.Context, u mirror.Upload) error {
	if strings.HasPrefix(u.Name, history.Dir) { // one at a time
		r.records[u.Name] = true
	}
	return r.Target.Create(ctx, u)
}

func (r recorder) Unwrap() any { return r.Target }

// wait waits for the grace period, and renews the notice meanwhile.
func (s *sweep) wait(ctx context.Context, why string) error {
	until := s.changed.Add(s.plan.options.Grace)
	if time.Until(until) <= 0 {
		return nil
	}
	s.progress.Wait(until, why)
	for {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(left, renewal)):
		}
		if err := s.renew(ctx); err != nil {
			return err
		}
	}
}

// renewal is the interval at which the notice is renewed.
const renewal = notice.Alive / 6

// renew renews the notice. After an error nothing may be deleted: publishers may have taken this prune for dead.
func (s *sweep) renew(ctx context.Context) error {
	if notice.Since(s.renewed) < renewal {
		return nil
	}
	if err := s.awake(); err != nil {
		return err
	}
	began := time.Now()
	if err := s.giver.Renew(ctx); err != nil {
		return err
	}
	s.renewed = began
	return s.awake()
}

// awake checks that the notice is young enough.
func (s *sweep) awake() error {
	if notice.Since(s.renewed) > notice.Alive {
		return errors.New("this host was asleep, or the storage did not answer, for too long, and another prune may have begun: start again")
	}
	return nil
}

// deleteDocuments deletes documents, dependents first.
func (s *sweep) deleteDocuments(ctx context.Context, c candidate) error {
	if len(c.documents) == 0 {
		return nil
	}
	s.progress.Step("documents")
	return s.deleteAll(ctx, c, c.documents, s.single)
}

// deleteContent deletes content without references.
func (s *sweep) deleteContent(ctx context.Context, c candidate) error {
	if len(c.content) == 0 {
		return nil
	}
	s.progress.Step("content")
	return s.deleteAll(ctx, c, c.content, false) // immutable objects need no condition
}

// deleteAll deletes objects in batches. Before each batch it obeys the objections of publishers, and checks that no
// index offers the objects.
func (s *sweep) deleteAll(ctx context.Context, c candidate, objects []mirror.Info, single bool) error {
	for batch := range slices.Chunk(objects, mirror.MaxBatch) {
		if err := s.renew(ctx); err != nil {
			return err
		}
		began := time.Now()
		now, err := s.pointers(ctx, c.layout)
		if err != nil {
			return err
		}
		if now != c.pointers {
			if batch, err = s.notOffered(ctx, c.layout, batch); err != nil {
				return err
			}
		}
		if batch, err = s.obey(ctx, batch); err != nil {
			return err
		}
		if err := s.deleteBatch(ctx, began, batch, single); err != nil {
			return err
		}
	}
	return nil
}

// deleteBatch deletes objects. It ends in time for publishers that object meanwhile.
func (s *sweep) deleteBatch(ctx context.Context, began time.Time, batch []mirror.Info, single bool) error {
	if len(batch) == 0 {
		return nil
	}
	until := began.Add(s.plan.options.Settle / 2)
	if s.plan.options.Settle > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, until, errors.New("the storage is too slow to delete safely beside publishers: try again when it answers faster"))
		defer cancel()
	}
	remove := func() ([]string, error) { return mirror.DeleteAll(ctx, s.deleter, batch) }
	if single {
		remove = func() ([]string, error) { return deleteEach(ctx, s.deleter, batch) }
	}
	s.deleting = true
	changed, err := remove()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.DeadlineExceeded) {
			err = cause
		}
		return err
	}
	s.deleting = false
	s.out.Spared += len(changed)
	n, size := 0, int64(0)
	for _, o := range batch {
		if !slices.Contains(changed, o.Name) {
			n++
			size += o.Size
		}
	}
	s.out.Deleted.Objects += n
	s.out.Deleted.Bytes += size
	s.progress.Deleted(n, size)
	return nil
}

// pointers identifies the current indices of a layout, in one request.
func (s *sweep) pointers(ctx context.Context, f buildcache.Layout) (string, error) {
	var all strings.Builder
	for info, err := range s.target.List(ctx, mirror.Range{Prefix: f.Pointers()}) {
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&all, info.Name, info.Version)
	}
	return all.String(), nil
}

// notOffered leaves out documents of packages that an index offers, and content that is an index. The index was
// replaced since the mirror was read.
func (s *sweep) notOffered(ctx context.Context, f buildcache.Layout, batch []mirror.Info) ([]mirror.Info, error) {
	again := &scan{layout: f, reader: s.target, graph: newGraph(), at: make(map[string]int)}
	if err := again.offers(ctx, s.target); err != nil {
		return nil, err
	}
	return s.spare(batch, func(name string) bool {
		if id, ok := f.ParsePackageName(name); ok {
			at, known := again.graph.at[id.Hash]
			return known && again.graph.nodes[at].offered
		}
		k, _ := keyOf(f, name)
		return again.indices[k]
	}), nil
}

// objections records the objections of publishers.
func (s *sweep) objections(ctx context.Context) error {
	names, err := s.giver.Spared(ctx)
	for _, name := range names {
		s.spared[name] = true
	}
	return err
}

// obey leaves out objects to which publishers object.
func (s *sweep) obey(ctx context.Context, batch []mirror.Info) ([]mirror.Info, error) {
	if err := s.objections(ctx); err != nil {
		return nil, err
	}
	return s.spare(batch, func(name string) bool { return s.spared[name] }), nil
}

func (s *sweep) spare(batch []mirror.Info, stays func(string) bool) []mirror.Info {
	left := slices.DeleteFunc(slices.Clone(batch), func(o mirror.Info) bool { return stays(o.Name) })
	s.out.Spared += len(batch) - len(left)
	return left
}

// tidy deletes leftovers of publishers, to which nothing leads.
func (s *sweep) tidy(ctx context.Context) error {
	if len(s.plan.Notes) > 0 {
		s.progress.Step("notes of publishers")
	}
	for batch := range slices.Chunk(s.plan.Notes, mirror.MaxBatch) {
		if err := s.deleteBatch(ctx, time.Now(), batch, false); err != nil {
			return err
		}
	}
	for _, u := range s.plan.Uploads {
		if err := s.target.Discard(ctx, u); err != nil {
			return err
		}
		s.out.Uploads++
	}
	return nil
}

// end removes the notice and the objections to it.
func (s *sweep) end(ctx context.Context) error {
	if err := s.deleter.Delete(ctx, notice.Name, s.giver.Version()); err != nil && !errors.Is(err, mirror.ErrConflict) {
		return err
	}
	var old []mirror.Info
	for info, err := range s.target.List(ctx, mirror.Range{Prefix: notice.Dir}) {
		if err != nil {
			return err
		}
		if info.Name != notice.Name { // the notice may be that of the next prune
			old = append(old, info)
		}
	}
	for batch := range slices.Chunk(old, mirror.MaxBatch) {
		if _, err := mirror.DeleteAll(ctx, s.deleter, batch); err != nil {
			return err
		}
	}
	return nil
}
