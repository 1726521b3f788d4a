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
	// Objects that are on their way at once. The mirror has its own bound on requests; this one is above it, so that
	// it is never idle while one is only hashed.
	writers  = 160
	small    = 256 << 10 // bytes; up to this size, blobs are sent beside larger ones: they wait for answers, while those keep the processors busy
	checkers = 4         // files that are hashed at once where nothing is sent
)

// Progress receives what happens while a plan is carried out. Its methods are called concurrently.
type Progress interface {
	// Sent: n more bytes of an object of size bytes are on their way; negative when they
	// must be sent again. Of a blob, name is the package that it belongs to.
	Sent(name string, size, n int64)
	// Step: a step of a mirror begins, and the one before is done. An empty one begins none.
	Step(mirror, step string)
	// Stored: an object of size bytes was stored by the step of a mirror that is under way.
	Stored(mirror string, size int64)
}

// Apply carries the plan out. What is complete when it fails stays and is found again next time; the index was not
// touched unless everything that it names is there. The Outcome says what really happened, with an error as well.
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
	files    []*FilePlan // copies, whose signatures are made

	mu  sync.Mutex // guards out, and the bad blobs of a mirror, while one object's result is put in
	out *Outcome
}

// A running mirror is what is left of its plan, without what turned out bad, and what has become of it.
type running struct {
	*MirrorPlan // which stays as it is
	out         *MirrorOutcome

	documents [][]Write
	keys      []buildcache.Object
	named     []key.Fingerprint // that clients are offered, if keyIndex is not empty
	keyIndex  []buildcache.Object
	merge     *reindex.Merge
	views     []View
	quiet     time.Time // when no prune was at work
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

// A reader may look, and we may die, between any two requests below. Each step points only at what earlier steps made
// durable.
func (a *application) run(ctx context.Context) error {
	if a.plan.Blocked() {
		// Nothing will be sent, but all findings are wanted to mend the source.
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
	// Blobs are named by their content and nothing points at them yet. They are checked as
	// they are sent, in all mirrors, before any document is written in any.
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

// publish makes the packages of one mirror reachable: its blobs are there.
func (a *application) publish(ctx context.Context, m *running) error {
	if err := a.rely(ctx, m); err != nil {
		return err
	}
	// Dependencies first, so that a package whose document can be read can be installed.
	a.progress.Step(m.Path, "manifests")
	relied := time.Now()
	for i := 0; i < len(m.documents); i++ { // more may come
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

// putKey stores an object of a key. Where the destination has another copy of the key, the two are merged.
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

// resend returns what sends again what is gone when an index is merged once more.
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

// putBlobs stores the blobs of a mirror. One whose content is not what documents promise is a finding, and the others
// go on, so that all findings come at once.
func (a *application) putBlobs(ctx context.Context, m *running) error {
	bad := make(map[string]bool)
	put := func(ctx context.Context, o buildcache.Object) error {
		err := a.put(ctx, m, Write{Object: o})
		another := !m.format.NamesContent() && errors.Is(err, mirror.ErrExist) // build of it, published meanwhile
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

// Check reads what Apply would send, and finds what Apply would find. It writes nothing.
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

// bad keeps what is wrong with a blob of the source.
func (a *application) bad(m *running, o buildcache.Object, err error, bad map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	bad[o.Name] = true
	a.out.Findings = append(a.out.Findings, buildcache.Error.In(buildcache.Join(m.Path, o.Name), err.Error()))
}

// verifySource hashes what the destination holds already.
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

// dropBad takes packages out of what is left of the plan whose blobs turned out bad, and what depends on them.
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

// put stores one object, and remembers it if caches may have another under its name. Of what has a fixed name, the
// object of another publisher who was faster stays: it is about the same package. Of what never changes, another
// object is an alarm.
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

// counted is a store of a mirror that counts what is stored in it.
func (a *application) counted(path string, s mirror.Store) mirror.Store {
	return mirror.Counted(s, func(u mirror.Upload) {
		// What publishers tell each other, history and evidence are nothing that is published.
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

// putFiles stores plain files, each after what belongs to it.
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
