package reindex

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/conflict"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// largeIndex is the size of an index, in bytes, from which publishers take turns from the start and do not
// read the index to plan. Reading and writing a smaller index takes no longer than agreeing on turns, so
// publishers race for it. They take turns only after they have lost a race.
var largeIndex int64 = 1 << 20

// A contest is a merge that is being written beside other publishers.
type contest struct {
	layout buildcache.Layout
	store  mirror.Store
	trust  buildcache.Trust
	moved  Moved

	planned *buildcache.Pointer
	was     *buildcache.Pointer // the pointer that the merge builds on
	next    *indices.Set        // the indices of was with adds; nil: not read yet
	adds    []*buildcache.Package
	healed  map[*buildcache.Package]bool      // those of adds that were only found in the mirror
	found   map[*buildcache.Package]time.Time // see Merge.found
	needed  map[spec.Hash]bool                // by published packages of adds, which protect it from a prune
	relied  time.Time                         // when it was checked that no prune is about to delete adds
	out     Result

	me    *lead.Publisher
	known bool // to other publishers, which may have added the packages
	mute  bool // publishers have no permission to communicate here
	races int  // lost so far
	lost  bool // the pointer is no longer was
	less  bool // not all announced packages are added
}

// Moved is called before an index other than the planned one is replaced. adds are the packages to be added.
// It returns those that can still be added.
type Moved func(ctx context.Context, now *buildcache.Pointer, adds []*buildcache.Package) ([]*buildcache.Package, error)

// Write writes the planned index. Of many publishers, one leads and also adds the packages of the others: see
// package lead. Each publisher succeeds only when the index offers its packages: it has written or read that
// index, or receipts prove it.
func (m *Merge) Write(ctx context.Context, f buildcache.Layout, s mirror.Store, moved Moved) (Result, error) {
	c := &contest{
		layout: f, store: s, trust: m.trust, moved: moved,
		planned: m.Was, was: m.Was, next: m.next, adds: m.adds, found: m.found, relied: time.Now(), healed: make(map[*buildcache.Package]bool), needed: make(map[spec.Hash]bool),
		out: Result{Before: m.Before, After: m.After, Audiences: m.Audiences, Pointer: m.Was},
	}
	for _, p := range m.Healed {
		c.healed[p] = !m.published[p.Hash]
	}
	for _, p := range m.adds {
		for i := 1; !c.healed[p] && i < len(p.Spec.Nodes); i++ {
			c.needed[p.Spec.Nodes[i].Hash] = true
		}
	}
	// Packages that a prune may be about to delete are not announced: a leader would add them.
	announce := slices.DeleteFunc(slices.Clone(m.adds), func(p *buildcache.Package) bool { return c.healed[p] && c.isOld(p) && !c.needed[p.Hash] })
	names := make([]string, len(announce))
	for i, p := range announce {
		names[i] = p.File
	}
	c.me = lead.New(s, f.IndexID(), names, announced(announce))
	m.next = nil // so that only one index is in memory if another one has to be read
	err := conflict.Retry(ctx, func() error { return c.round(ctx) })
	return c.out, err
}

// round tries to add the packages to the index. The error is a mirror.ErrConflict if another publisher was
// faster.
func (c *contest) round(ctx context.Context) error {
	for range conflict.MaxRounds {
		if c.lost {
			if done, err := c.catchUp(ctx); done || err != nil {
				return err
			}
		}
		if c.mute || c.races == 0 && c.was.Size() < largeIndex {
			return c.merge(ctx, c.store, nil)
		}
		w, err := c.claim(ctx)
		switch {
		case err != nil:
			return err
		case w.Found:
			c.out.Pointer = c.was
			return nil
		case w.Moved:
			c.lost = true
		case w.Turn != nil:
			return c.lead(ctx, w.Turn)
		default:
			return c.merge(ctx, c.store, nil)
		}
	}
	return mirror.ErrConflict
}

// claim tries to lead, or waits while another publisher leads. If the result is empty, publishers cannot
// agree and race.
func (c *contest) claim(ctx context.Context) (lead.Waited, error) {
	turn, err := c.me.Claim(ctx, c.was.Version)
	w := lead.Waited{Turn: turn}
	c.known = c.known || err == nil
	if err == nil && turn == nil {
		w, err = c.me.Wait(ctx, c.was.Version, c.was.Size(), c.isMoved)
	}
	if ctx.Err() != nil {
		return w, ctx.Err()
	}
	c.mute = c.mute || errors.Is(err, mirror.ErrDenied)
	return w, nil
}

// isMoved reports whether the pointer has changed since c.was.
func (c *contest) isMoved(ctx context.Context) (bool, error) {
	info, err := c.store.Stat(ctx, c.layout.IndexNames()[0])
	if errors.Is(err, mirror.ErrNotExist) {
		return c.was.Version != mirror.Absent, nil
	}
	return info.Version != c.was.Version, err
}

// In layout v2 the digest of an index is written after the index. It is read up to hashReads times,
// hashIsLate apart.
const (
	hashIsLate = 100 * time.Millisecond
	hashReads  = 5
)

// catchUp reads the new pointer after a lost race. It reports whether the index already offers the packages.
func (c *contest) catchUp(ctx context.Context) (done bool, err error) {
	for n := 0; c.known && n < hashReads; n++ {
		now, err := c.layout.Glance(ctx, c.store)
		if err != nil {
			return false, err
		}
		if c.me.In(ctx, now.Digest(), c.was.Digest()) {
			c.taken(ctx, now)
			return true, nil
		}
		if now.Version == c.was.Version || now.Digest() != c.was.Digest() {
			break
		}
		if err := conflict.Pause(ctx, hashIsLate); err != nil {
			return false, err
		}
	}
	now, err := buildcache.PointerForUpdate(ctx, c.layout, c.store)
	if err != nil {
		return false, err
	}
	if c.known && c.me.In(ctx, now.Digest(), c.was.Digest()) {
		c.taken(ctx, now)
		if !now.Incomplete {
			return true, nil
		}
		// The leader died before it had finished. Clients check the hash to see whether the index is new.
		return true, conflict.Retry(ctx, func() error { return c.layout.CompleteIndex(ctx, c.store, now) })
	}
	c.admit(now)
	// Other publishers only add packages. Another program may have removed some.
	if now.Version != c.planned.Version && !c.me.Follows(ctx, now.Digest(), c.planned.Digest()) {
		if c.adds, err = c.moved(ctx, now, c.adds); err != nil {
			return false, err
		}
		c.relied = time.Now()
	}
	c.was, c.next, c.lost = now, nil, false
	c.races++
	return false, nil
}

// admit drops packages that were withdrawn in the meantime, and found packages that a rollback has taken out.
func (c *contest) admit(now *buildcache.Pointer) {
	kept := slices.DeleteFunc(slices.Clone(c.adds), func(p *buildcache.Package) bool {
		_, withdrawn := now.Withdrawn[p.Hash]
		return withdrawn || c.healed[p] && now.IsWithheld(p.Hash)
	})
	c.less = c.less || len(kept) < len(c.adds)
	c.adds = kept
}

// taken records that another publisher has added the packages.
func (c *contest) taken(ctx context.Context, now *buildcache.Pointer) {
	c.out.Pointer = now
	if r := c.me.Receipt(ctx, now.Digest()); r != nil && r.Offers > 0 {
		c.out.After = r.Offers
	}
}

// lead merges while other publishers wait. If it fails, another publisher may lead at once.
func (c *contest) lead(ctx context.Context, turn *lead.Turn) error {
	err := turn.Work(ctx, c.store, func(s lead.Store) error { return c.merge(ctx, s, turn) })
	if err != nil && !errors.Is(err, mirror.ErrConflict) && ctx.Err() == nil {
		turn.Spend(ctx, nil)
	}
	return err
}

// merge adds the packages to the index and replaces the pointer. If it has the turn, it also adds packages of
// others.
func (c *contest) merge(ctx context.Context, s mirror.Store, turn *lead.Turn) error {
	if err := c.rely(ctx); err != nil {
		return err
	}
	others, err := c.prepare(ctx, s, turn)
	if err != nil {
		return err
	}
	var took []string
	if !c.less {
		took = append(took, c.me.ID())
	}
	for _, o := range others {
		for _, p := range o.packages {
			c.next.Add(p.Spec)
		}
		if o.whole {
			took = append(took, o.id)
		}
	}
	c.out.After, c.out.Audiences = c.next.Offered(), c.next.Audiences()
	if !(c.next.Changed() || c.was.Incomplete) || c.out.After == 0 {
		c.out.Pointer = c.was
		if turn != nil {
			turn.Spend(ctx, took)
		}
		return nil
	}
	if len(others) > 0 || turn == nil && c.was.Size() >= largeIndex {
		// Check before a large document is sent in vain.
		if c.lost, err = c.isMoved(ctx); err != nil {
			return err
		}
	}
	if !c.lost {
		err = c.replace(ctx, s, turn, took)
	}
	c.next = nil // it contains packages of others
	if c.lost = c.lost || errors.Is(err, mirror.ErrConflict); c.lost {
		return cmp.Or(err, mirror.ErrConflict)
	}
	return err
}

func (c *contest) replace(ctx context.Context, s mirror.Store, turn *lead.Turn, took []string) error {
	offers := c.next.Changes()
	var relied time.Time
	if slices.ContainsFunc(c.adds, c.isOld) {
		relied = c.relied
	}
	now, err := replaceIndex(ctx, c.layout, s, change{was: c.was, x: c.next, offers: &offers, relied: relied, prepared: func(digest string) {
		if turn != nil {
			turn.Record(ctx, digest, c.was.Digest(), took, c.out.After)
		}
	}})
	if err != nil {
		return err
	}
	if turn != nil && now.Version == c.was.Version { // waiting publishers see no new pointer
		turn.Spend(ctx, took)
	}
	c.out.Pointer, c.out.Bytes, c.out.Written = now, now.Size(), true
	return nil
}

// prepare reads the index. While the index is parsed, it reads the packages of others.
func (c *contest) prepare(ctx context.Context, s mirror.Store, turn *lead.Turn) ([]other, error) {
	var g defect.Group
	var others []other
	waits := make(chan struct{})
	arrived := sync.OnceFunc(func() { close(waits) })
	if turn != nil {
		g.Go(func() error {
			others = c.others(ctx, s, turn, waits)
			return nil
		})
	}
	if c.was.Content != nil {
		arrived()
	}
	var failed error
	if c.next == nil {
		if c.next, failed = loadIndex(ctx, c.layout, &arrivingReader{s, arrived}, c.was); failed == nil {
			c.out.Before = c.next.Offered()
			for _, p := range c.adds {
				c.next.Add(p.Spec)
			}
		}
	}
	arrived()
	if err := g.Wait(); failed == nil {
		failed = err
	}
	return others, failed
}
