package daemon

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/hints"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A sighting records a document seen by a scan.
type sighting struct {
	mark string
	scan int // the latest scan that saw it
	// reason is why it could not be parsed. Each scan reads it again until it can.
	reason   string
	since    time.Time
	reported bool // whether it was reported as stuck
}

const (
	// together is the number of documents that become jobs in one step: few enough that the first of a thousand is
	// checked while the last is read.
	together = 64
	// manyHints is the number of hinted directories above which everything is scanned instead.
	manyHints = 256
	// hintSettles is how long hints are collected.
	hintSettles = 100 * time.Millisecond
)

// scan scans the source: now, regularly, and wherever hints say.
func (k *worker) scan(ctx context.Context) error {
	next := time.Now()
	for ctx.Err() == nil {
		if !time.Now().Before(next) {
			k.scanAll(ctx)
			next = time.Now().Add(k.m.Scan)
		}
		for _, dir := range k.hints() {
			if dir == "" {
				k.scanAll(ctx)
				next = time.Now().Add(k.m.Scan)
				break
			}
			k.scanDir(ctx, dir)
		}
		// Setting the clock back does not delay the next scan.
		if waitOr(ctx, min(time.Until(next), k.m.Scan), k.toScan) {
			wait(ctx, hintSettles)
		}
	}
	return ctx.Err()
}

// hintsAgain is the pause before events of the file system are requested again after a failure.
const hintsAgain = time.Minute

// followHints collects hints from the file system until ctx ends. If the system provides none, only scans find
// packages.
func (k *worker) followHints(ctx context.Context) error {
	tree := hints.Tree{
		Dir: k.m.Source, MayHold: k.m.Work.MayHold, Look: k.look,
		Lost: func() { k.d.counts.of(k.m.Name, func(m *MirrorCounts) { m.Overflows++ }) },
	}
	for ctx.Err() == nil {
		if err := hints.Watch(ctx, tree); err != nil && ctx.Err() == nil {
			k.d.o.Log.Warn("no hints from the file system; packages are found by scanning", "mirror", k.m.Name, "every", k.m.Scan.String(), "reason", err.Error())
		}
		wait(ctx, hintsAgain)
	}
	return ctx.Err()
}

// look requests a scan of a directory; "" is the source.
func (k *worker) look(dir string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if dir == "." {
		dir = ""
	}
	if len(k.asked) >= manyHints {
		dir = ""
	}
	k.asked[dir] = true
	k.toScan.give()
}

// lookThrough returns a channel that is closed when a full scan that begins from now on is complete, and never if
// scanning stops first.
func (k *worker) lookThrough() <-chan struct{} {
	done := make(chan struct{})
	k.mu.Lock()
	k.wanted = append(k.wanted, done)
	k.mu.Unlock()
	k.look("")
	return done
}

// hints returns the directories to scan, or everything if that is among them.
func (k *worker) hints() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	dirs := slices.Sorted(maps.Keys(k.asked))
	clear(k.asked)
	if len(k.wanted) > 0 {
		return []string{""}
	}
	return dirs
}

// scanAll scans everything, and forgets documents that are gone.
func (k *worker) scanAll(ctx context.Context) {
	k.mu.Lock()
	wanted := k.wanted
	k.wanted = nil
	k.mu.Unlock()
	began := time.Now()
	if err := k.d.o.Queue.ClockSetBack(ctx); err != nil {
		k.trouble(ctx, "scanning", err)
	}
	whole := k.scanDir(ctx, "")
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if whole {
		if !k.whole {
			k.whole = true
			k.d.toForget.give()
		}
		for name, s := range k.seen {
			if s.scan < k.scans {
				delete(k.seen, name)
			}
		}
	}
	k.scans++
	k.d.counts.scanned(k.m.Name, time.Since(began), len(k.seen))
	for _, done := range wanted {
		close(done)
	}
}

// scanDir makes jobs of the new documents in a directory, and reports whether it saw all of it.
func (k *worker) scanDir(ctx context.Context, dir string) bool {
	whole := true
	var fresh []queue.Job
	for f, err := range k.m.Work.Arrivals(ctx, dir) {
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			whole = false
			k.d.o.Log.Warn("cannot scan a directory", "mirror", k.m.Name, "reason", err.Error())
			continue
		}
		if !k.sighted(f) {
			continue
		}
		if p, ok := k.read(ctx, f); ok {
			fresh = append(fresh, k.job(p))
		}
		if len(fresh) == together {
			whole = k.takeOver(ctx, fresh) && whole
			fresh = nil
		}
	}
	return k.takeOver(ctx, fresh) && whole
}

// sighted records a document, and reports whether it must be read.
func (k *worker) sighted(f File) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.seen[f.Name]
	if s == nil {
		s = &sighting{since: time.Now()}
		k.seen[f.Name] = s
	}
	s.scan = k.scans
	read := s.mark != f.Mark || s.reason != ""
	if s.mark != "" && s.mark != f.Mark {
		s.since, s.reported = time.Now(), false
	}
	s.mark = f.Mark
	return read
}

// read parses a document. The next scan reads a document again that cannot be parsed.
func (k *worker) read(ctx context.Context, f File) (Package, bool) {
	p, err := k.m.Work.Read(ctx, f.Name)
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.seen[f.Name]
	if s == nil {
		return p, err == nil
	}
	s.reason = ""
	if err == nil || errors.Is(err, arrival.ErrNotSelected) || ctx.Err() != nil {
		return p, err == nil
	}
	if errors.Is(err, arrival.ErrGone) {
		delete(k.seen, f.Name)
		return p, false
	}
	s.reason = err.Error()
	if !s.reported && time.Since(s.since) >= k.m.Stuck {
		s.reported = true
		k.d.o.Log.Warn("a document is stuck: it cannot be read", "mirror", k.m.Name, "file", f.Name, "since", s.since.Format(time.RFC3339), "reason", s.reason)
	}
	return p, false
}

func (k *worker) job(p Package) queue.Job {
	return queue.Job{Mirror: k.m.Key(), File: p.File, Digest: p.Digest, Package: p.ID, Bytes: p.Bytes}
}

// takeOver makes jobs of the documents found. If the queue cannot be used, the next scan finds them again.
func (k *worker) takeOver(ctx context.Context, jobs []queue.Job) bool {
	if len(jobs) == 0 {
		return true
	}
	if _, err := k.accept(ctx, jobs); err != nil {
		k.mu.Lock()
		for _, j := range jobs {
			delete(k.seen, j.File)
		}
		k.mu.Unlock()
		k.trouble(ctx, "accepting packages", err)
		return false
	}
	return true
}

// accept makes durable jobs and starts them.
func (k *worker) accept(ctx context.Context, jobs []queue.Job) ([]queue.Job, error) {
	known, err := k.d.o.Queue.Accept(ctx, jobs...)
	if err != nil {
		return nil, err
	}
	k.d.troubled.Store(nil)
	for _, j := range known {
		if j.New {
			k.changed(j, queue.Accepted, "")
		}
	}
	k.toCheck.give()
	return known, nil
}

// mayHave reports whether a file may be in the source: the latest scan has seen it, or no scan is complete yet.
func (k *worker) mayHave(file string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.whole || k.seen[file] != nil
}

// missed makes the next scan read a document again even if it looks unchanged: it was gone when it was checked, and
// may be back.
func (k *worker) missed(file string) {
	k.mu.Lock()
	delete(k.seen, file)
	k.mu.Unlock()
	k.look(dirOf(file)) // for its replacement
}

// dirOf returns the directory of a file below the source; "" is the source.
func dirOf(name string) string {
	if dir := path.Dir(name); dir != "." {
		return dir
	}
	return ""
}

// ErrOutside reports that a path is in none of the sources. The error is an OutsideError.
var ErrOutside = errors.New("outside of every source")

// An OutsideError reports that a path is in none of the sources.
type OutsideError struct{ Sources []string }

// Error implements error.
func (*OutsideError) Error() string { return ErrOutside.Error() }

// Is reports whether target is ErrOutside.
func (*OutsideError) Is(target error) bool { return target == ErrOutside }

// Push makes jobs of the document at a path, or of the documents in a directory. It returns when they are durable.
func (d *Daemon) Push(ctx context.Context, where string) ([]queue.Job, error) {
	if d.isStopping() {
		return nil, ErrStopping
	}
	var inside []*worker
	var names []string
	for _, k := range d.all() {
		if name, ok := below(k.m.Source, where); ok {
			inside, names = append(inside, k), append(names, name)
		}
	}
	if len(inside) == 0 {
		outside := &OutsideError{}
		for _, k := range d.all() {
			outside.Sources = append(outside.Sources, k.m.Source)
		}
		return nil, outside
	}
	var all []queue.Job
	for i, k := range inside {
		jobs, err := k.push(ctx, names[i])
		if errors.Is(err, arrival.ErrNotSelected) && len(inside) > 1 {
			continue // another mirror of the same source may accept it
		}
		if err != nil {
			return nil, err
		}
		all = append(all, jobs...)
	}
	return d.named(all), nil
}

// below returns a path relative to a source.
func below(source, where string) (name string, ok bool) {
	if !path.IsAbs(where) {
		return "", false
	}
	where = path.Clean(where)
	if where == path.Clean(source) {
		return "", true
	}
	return strings.CutPrefix(where, strings.TrimSuffix(path.Clean(source), "/")+"/")
}

func (k *worker) push(ctx context.Context, name string) ([]queue.Job, error) {
	p, err := k.m.Work.Read(ctx, name)
	if err == nil {
		return k.acceptPushed(ctx, []queue.Job{k.job(p)})
	}
	if !errors.Is(err, arrival.ErrNoDocument) {
		return nil, err
	}
	return k.pushDir(ctx, name)
}

// pushDir makes jobs of all documents in a directory. Unlike a scan, it also reads documents seen before, because
// the caller wants the state of each.
func (k *worker) pushDir(ctx context.Context, dir string) ([]queue.Job, error) {
	var all []queue.Job
	for f, err := range k.m.Work.Arrivals(ctx, dir) {
		if err != nil {
			return nil, err
		}
		p, err := k.m.Work.Read(ctx, f.Name)
		switch {
		case err == nil:
			all = append(all, k.job(p))
		case errors.Is(err, arrival.ErrGone), errors.Is(err, arrival.ErrNotSelected):
		default:
			k.look(dirOf(f.Name)) // scanned again until it is complete
		}
	}
	if len(all) == 0 {
		return nil, arrival.ErrNoDocument
	}
	return k.acceptPushed(ctx, all)
}

// acceptPushed is accept for a caller. A failure is returned to the caller and also recorded.
func (k *worker) acceptPushed(ctx context.Context, jobs []queue.Job) ([]queue.Job, error) {
	known, err := k.accept(ctx, jobs)
	if err != nil && ctx.Err() == nil {
		k.d.inTrouble(err)
	}
	return known, err
}
