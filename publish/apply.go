package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/keyindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

const (
	// Objects that are sent at once. The mirror has its own bound on requests. This bound is higher, so that
	// the mirror is not idle while objects are hashed.
	writers  = 160
	small    = 256 << 10 // bytes; smaller blobs mostly wait for answers, so they are sent beside larger ones
	checkers = 4         // files that are hashed at once when nothing is sent
)

// Progress receives what happens while a plan is carried out. Its methods are called concurrently.
type Progress interface {
	// Sent reports that n more bytes of an object of size bytes are on their way. n is negative when bytes
	// must be sent again. For a blob, name is its package.
	Sent(name string, size, n int64)
	// Step reports that a step of a mirror begins and that the step before it is done. An empty step begins
	// none.
	Step(mirror, step string)
	// Stored reports that the current step of a mirror has stored an object of size bytes.
	Stored(mirror string, size int64)
}

// Apply carries out the plan. If it fails, the objects already stored stay, and the next run finds them. The
// index is replaced only after everything that it names is stored. The Outcome says what was done, also if
// there is an error.
func (p *Plan) Apply(ctx context.Context, progress Progress) (*Outcome, error) {
	a := newApplication(p, progress)
	err := a.run(ctx)
	slices.Sort(a.out.Stale)
	a.out.Stale = slices.Compact(a.out.Stale)
	return a.out, err
}

// An application is a plan being carried out.
type application struct {
	plan     *Plan
	progress Progress
	mirrors  []*running
	files    []*FilePlan // copies, which receive the signatures

	mu  sync.Mutex // guards out and the bad blobs of a mirror while one object's result is recorded
	out *Outcome
}

// A running mirror holds the rest of its plan, without the packages found bad, and its outcome so far.
type running struct {
	*MirrorPlan // is not changed
	out         *MirrorOutcome

	documents [][]Write
	keys      []buildcache.Object
	named     []key.Fingerprint // keys that clients are offered, if keyIndex is not empty
	keyIndex  []buildcache.Object
	merge     *reindex.Merge
	views     []View
	quiet     time.Time // a time at which no prune was running
}

func newApplication(p *Plan, progress Progress) *application {
	a := &application{plan: p, progress: progress, out: p.Expected()}
	for i, m := range p.Mirrors {
		r := &running{MirrorPlan: m, out: a.out.Mirrors[i], keys: m.Keys, named: m.offer.Named, keyIndex: m.KeyIndex, merge: m.merge, views: slices.Clone(m.Views)}
		for _, wave := range m.Documents {
			r.documents = append(r.documents, slices.Clone(wave))
		}
		a.mirrors = append(a.mirrors, r)
	}
	for _, f := range p.Files {
		c := *f
		c.Writes = slices.Clone(f.Writes)
		a.files = append(a.files, &c)
	}
	return a
}

// A reader may read the mirror, and this process may die, between any two requests below. Each step points
// only at what earlier steps made durable.
func (a *application) run(ctx context.Context) error {
	if a.plan.Blocked() {
		// Nothing is sent, but the user needs all findings to repair the source.
		if err := a.checkAll(ctx); err != nil {
			return err
		}
		return &buildcache.FindingsError{Findings: a.out.Findings, Held: true}
	}
	if a.plan.Signs() {
		if err := a.plan.options.Sign.Key.Prove(ctx); err != nil {
			return err
		}
	}
	// Blobs are named by their content, and nothing points at them yet. The blobs of all mirrors are sent,
	// and checked as they are sent, before any document is written.
	for _, m := range a.mirrors {
		a.progress.Step(m.Path, "blobs")
		var err error
		if m.quiet, err = notice.Beside(ctx, m.store, m.relied(false).names, func() error { return a.putBlobs(ctx, m) }); err != nil {
			return fmt.Errorf("blobs: %w", err)
		}
		a.progress.Step(m.Path, "")
	}
	if buildcache.Failed(a.out.Findings) && !a.plan.options.KeepGoing {
		return &buildcache.FindingsError{Findings: a.out.Findings, Held: true}
	}
	if err := a.sign(ctx); err != nil {
		return err
	}
	g, gctx := defect.WithContext(ctx)
	for _, m := range a.mirrors {
		g.Go(func() error {
			if err := a.publish(gctx, m); err != nil {
				return inMirror(m.Layout, m.Path, err)
			}
			a.progress.Step(m.Path, "")
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(a.files) > 0 {
		a.progress.Step("", "files")
	}
	if err := a.putFiles(ctx); err != nil {
		return fmt.Errorf("files: %w", err)
	}
	a.progress.Step("", "")
	if buildcache.Failed(a.out.Findings) {
		return &buildcache.FindingsError{Findings: a.out.Findings}
	}
	return nil
}

// publish makes the packages of one mirror reachable. Its blobs are already stored.
func (a *application) publish(ctx context.Context, m *running) error {
	if err := a.rely(ctx, m); err != nil {
		return err
	}
	// Dependencies first, so that a package whose document can be read can be installed.
	a.progress.Step(m.Path, "manifests")
	relied := time.Now()
	for i := 0; i < len(m.documents); i++ { // rely may append more
		if notice.Since(relied) > notice.Fresh/2 {
			if err := a.rely(ctx, m); err != nil {
				return err
			}
			relied = time.Now()
		}
		if err := a.putAll(ctx, m, m.documents[i]); err != nil {
			return fmt.Errorf("manifests: %w", err)
		}
	}
	for _, o := range m.Marker {
		if err := a.put(ctx, m, Write{Object: o}); err != nil {
			return fmt.Errorf("layout: %w", err)
		}
	}
	if len(m.keys)+len(m.keyIndex) > 0 {
		a.progress.Step(m.Path, "keys")
	}
	for _, o := range m.keys { // in order: a key before the document that names it
		if err := a.putKey(ctx, m, o); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
	}
	if len(m.keyIndex) > 0 {
		if err := keyindex.Add(ctx, m.format, a.counted(m.Path, m.store), m.named); err != nil {
			return fmt.Errorf("key index: %w", err)
		}
		a.stale(m.Path, m.format.KeyIndexName())
	}
	if a.plan.options.Promotion != nil && (len(m.documents) > 0 || m.Index.Changes) {
		if err := a.leaveEvidence(ctx, m); err != nil {
			return err
		}
	}
	if err := a.writeIndex(ctx, m); err != nil {
		return err
	}
	return a.writeViews(ctx, m)
}

// putKey stores an object of a key. If the destination has another copy of the key, the two are merged.
func (a *application) putKey(ctx context.Context, m *running, o buildcache.Object) error {
	store := a.counted(m.Path, m.store)
	err := a.store(ctx, store, buildcache.Join(m.Path, o.Name), Write{Object: o})
	f, ok := m.format.ParseKeyName(o.Name)
	if !ok || !errors.Is(err, mirror.ErrExist) {
		return err
	}
	replaced, err := keyindex.Store(ctx, m.format, store, m.offer.Public(f), false)
	if replaced {
		a.stale(m.Path, o.Name)
	}
	return err
}

// resend returns a function that sends deleted objects again when an index is merged again.
func (a *application) resend(m *running) reindex.Moved {
	return func(ctx context.Context, now *buildcache.Pointer, adds []*buildcache.Package) ([]*buildcache.Package, error) {
		return a.sendLost(ctx, m, now, adds)
	}
}

// warn reports the packages that a rebuilt index leaves out.
func (a *application) warn(path string, findings []buildcache.Finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range findings {
		a.out.Findings = append(a.out.Findings, buildcache.Warning.In(buildcache.Join(path, f.File), f.Reason))
	}
}

func (a *application) stale(path string, names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range names {
		a.out.Stale = append(a.out.Stale, buildcache.Join(path, name))
	}
}

// putBlobs stores the blobs of a mirror. A blob whose content differs from its document is a finding. The
// other blobs are still sent, so that one run reports all findings.
func (a *application) putBlobs(ctx context.Context, m *running) error {
	bad := make(map[string]bool)
	put := func(ctx context.Context, o buildcache.Object) error {
		err := a.put(ctx, m, Write{Object: o})
		another := !m.format.NamesContent() && errors.Is(err, mirror.ErrExist) // build of it was published meanwhile
		if !blob.Spoilt(err) && !another {
			return err
		}
		a.bad(m, o, err, bad)
		return nil
	}
	large, _ := slices.BinarySearchFunc(m.Blobs, small, func(o buildcache.Object, size int64) int { return cmp.Compare(size, o.Size) })
	err := parallel.Beside(ctx, writers, put, m.Blobs[:large], m.Blobs[large:])
	if err == nil && a.plan.options.VerifySource {
		err = a.verifySource(ctx, m, bad)
	}
	if err != nil {
		return err
	}
	a.dropBad(m, bad)
	return nil
}

// Check reads the content that Apply would send and reports the same findings. It writes nothing.
func (p *Plan) Check(ctx context.Context) (*Outcome, error) {
	a := newApplication(p, nil)
	return a.out, a.checkAll(ctx)
}

func (a *application) checkAll(ctx context.Context) error {
	for _, m := range a.mirrors {
		bad := make(map[string]bool)
		if err := a.check(ctx, m, m.Blobs, bad); err != nil {
			return err
		}
		if a.plan.options.VerifySource {
			if err := a.verifySource(ctx, m, bad); err != nil {
				return err
			}
		}
		a.dropBad(m, bad)
	}
	return nil
}

// bad records what is wrong with a blob of the source.
func (a *application) bad(m *running, o buildcache.Object, err error, bad map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	bad[o.Name] = true
	a.out.Findings = append(a.out.Findings, buildcache.Error.In(buildcache.Join(m.Path, o.Name), err.Error()))
}

// verifySource hashes the blobs of the source that the destination already holds.
func (a *application) verifySource(ctx context.Context, m *running, bad map[string]bool) error {
	sent := make(map[string]bool)
	for _, o := range m.Blobs {
		sent[o.Name] = true
	}
	var rest []buildcache.Object
	for _, p := range m.out.Packages {
		for _, o := range p.Blobs {
			if o.Content != nil && !sent[o.Name] && p.Status != Rejected {
				sent[o.Name] = true
				rest = append(rest, o)
			}
		}
	}
	return a.check(ctx, m, rest, bad)
}

// check hashes blobs that are not sent.
func (a *application) check(ctx context.Context, m *running, blobs []buildcache.Object, bad map[string]bool) error {
	return parallel.Each(ctx, checkers, blobs, func(ctx context.Context, o buildcache.Object) error {
		err := blob.Check(ctx, o.Name, o.Content, o.Digest)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		a.bad(m, o, err, bad)
		return nil
	})
}

// dropBad removes packages with bad blobs, and the packages that depend on them, from the rest of the plan.
func (a *application) dropBad(m *running, bad map[string]bool) {
	if len(bad) == 0 {
		return
	}
	refused := make(map[*buildcache.Package]string)
	var all []*buildcache.Package
	for i := range m.out.Packages {
		p := &m.out.Packages[i]
		all = append(all, p.Package)
		if p.Status == Rejected {
			refused[p.Package] = p.Reason
		} else if slices.ContainsFunc(p.Blobs, func(o buildcache.Object) bool { return bad[o.Name] }) {
			refused[p.Package] = "its content is not what its document says"
		}
	}
	closure.Dependents(all, refused, func(p *buildcache.Package, reason string) {
		refused[p] = reason
		a.out.Findings = append(a.out.Findings, buildcache.Error.In(buildcache.Join(m.Path, p.File), reason))
	})
	for i := range m.out.Packages {
		p := &m.out.Packages[i]
		if reason, ok := refused[p.Package]; ok {
			p.Status, p.Reason = Rejected, reason
		}
	}
	for i := range m.documents {
		m.documents[i] = slices.DeleteFunc(m.documents[i], func(w Write) bool { return refused[w.pkg] != "" })
	}
	if m.keys, m.named = m.offer.For(published(m.out.Packages)); len(m.named) == 0 {
		m.keyIndex = nil
	}
	without := func(p *buildcache.Package) bool { return refused[p] != "" }
	if m.merge != nil {
		m.merge = m.merge.Without(without)
	}
	for i, v := range m.views {
		m.views[i].addition = v.addition.Without(without)
	}
}

func (a *application) putAll(ctx context.Context, m *running, writes []Write) error {
	return parallel.Each(ctx, writers, writes, func(ctx context.Context, w Write) error { return a.put(ctx, m, w) })
}

// put stores one object, and records its name as stale if caches may have earlier content. If another
// publisher has already stored an object with a fixed name, that object is kept: it describes the same
// package. For an immutable object this is an error.
func (a *application) put(ctx context.Context, m *running, w Write) error {
	shown := w.Of
	if shown == "" {
		shown = buildcache.Join(m.Path, w.Name)
	}
	err := a.store(ctx, a.counted(m.Path, m.store), shown, w)
	if w.CacheControl != layout.Immutable && a.plan.options.IfExists != Refuse &&
		(errors.Is(err, mirror.ErrExist) || errors.Is(err, mirror.ErrConflict)) {
		return nil
	}
	if err != nil {
		return err
	}
	if w.Was != mirror.Absent {
		a.stale(m.Path, w.Name)
	}
	return nil
}

func (a *application) store(ctx context.Context, s mirror.Store, shown string, w Write) error {
	u := w.Upload()
	u.Sent = func(n int64) { a.progress.Sent(shown, w.Size, n) }
	if w.Was == mirror.Absent {
		return s.Create(ctx, u)
	}
	_, err := s.Swap(ctx, u, w.Was)
	return err
}

// counted returns a store of a mirror that counts the objects and bytes stored.
func (a *application) counted(path string, s mirror.Store) mirror.Store {
	return mirror.Counted(s, func(u mirror.Upload) {
		// Notices between publishers, history and evidence do not count as published.
		if strings.HasPrefix(u.Name, lead.Dir) || strings.HasPrefix(u.Name, history.Dir) || strings.HasPrefix(u.Name, promotion.Dir) {
			return
		}
		a.progress.Stored(path, u.Content.Size())
		a.mu.Lock()
		defer a.mu.Unlock()
		a.out.Objects++
		a.out.Bytes += u.Content.Size()
	})
}

// putFiles stores plain files, each after its companions.
func (a *application) putFiles(ctx context.Context) error {
	return parallel.Each(ctx, writers, parallel.Positions(a.files), func(ctx context.Context, i int) error {
		f := a.files[i]
		for _, w := range f.Writes {
			err := a.store(ctx, a.counted("", f.store), w.Name, w)
			if blob.Spoilt(err) {
				a.mu.Lock()
				a.out.Findings = append(a.out.Findings, buildcache.Error.In(w.Name, err.Error()))
				a.out.Files[i].Status = Rejected
				a.mu.Unlock()
				return nil
			}
			if err != nil {
				return err
			}
			if w.CacheControl == layout.Release && w.Was != mirror.Absent {
				a.stale("", w.Name)
			}
		}
		return nil
	})
}
