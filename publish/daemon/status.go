package daemon

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A Status describes the daemon.
type Status struct {
	At          time.Time          `json:"at"`
	Since       time.Time          `json:"since"` // when the daemon started
	Healthy     bool               `json:"healthy"`
	Problem     string             `json:"problem,omitempty"` // why it is not
	Stopping    bool               `json:"stopping,omitempty"`
	Trouble     string             `json:"trouble,omitempty"` // a recent error of the queue, such as a full disk
	Mirrors     []MirrorStatus     `json:"mirrors"`
	Failed      []queue.Job        `json:"failed"`      // the dead letters, the latest first
	Incomplete  []StuckPackage     `json:"incomplete"`  // incomplete packages that are not stuck yet, with reasons
	Stuck       []StuckPackage     `json:"stuck"`       // packages that stay incomplete
	Recent      []queue.Job        `json:"recent"`      // the latest published packages
	Obligations []queue.Obligation `json:"obligations"` // invalidations that are due
}

// A MirrorStatus describes one mirror.
type MirrorStatus struct {
	Name        string `json:"name"`
	Source      string `json:"source"`
	Destination string `json:"destination"`

	Jobs      map[queue.State]int `json:"jobs"`
	Waiting   int                 `json:"waiting"` // unfinished jobs
	Bytes     int64               `json:"bytes"`   // of the unfinished jobs
	Oldest    *time.Time          `json:"oldest,omitempty"`
	Documents int                 `json:"documents"` // in the source, at the latest scan
	Scanned   bool                `json:"scanned"`   // at least once

	Running     []Sending     `json:"running"`
	Last        *LastRun      `json:"last_run,omitempty"`
	Published   *time.Time    `json:"published,omitempty"`   // when a run last succeeded
	Invalidated *time.Time    `json:"invalidated,omitempty"` // when caches were last invalidated
	Indices     []IndexStatus `json:"indices"`
	SigningKey  *SigningKey   `json:"signing_key,omitempty"`
	Paused      string        `json:"paused,omitempty"` // why it waits for its destination; empty if it does not
	PauseUntil  *time.Time    `json:"paused_until,omitempty"`
}

// A LastRun describes a finished run.
type LastRun struct {
	At       time.Time `json:"at"`
	Packages int       `json:"packages"`
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`
	Seconds  float64   `json:"seconds"`
	Error    string    `json:"error,omitempty"`
}

// A StuckPackage is a package that stays incomplete.
type StuckPackage struct {
	Mirror  string    `json:"mirror"`
	File    string    `json:"file"`
	Package string    `json:"package,omitempty"` // empty if its document cannot be read
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason"`
}

// listed is the maximum number of jobs of a kind in a status.
const listed = 100

// troubleLasts is how long an error of the queue is shown if it does not recur: longer than the interval between
// scans.
const troubleLasts = 2 * time.Minute

// Status returns the state of the daemon. It makes no requests.
func (d *Daemon) Status(ctx context.Context) (Status, error) {
	s := Status{At: time.Now(), Since: d.began, Stopping: d.isStopping(), Mirrors: []MirrorStatus{}, Incomplete: []StuckPackage{}, Stuck: []StuckPackage{}}
	if err := d.Health(ctx); err != nil {
		s.Problem = err.Error()
	} else {
		s.Healthy = true
	}
	if last := d.troubled.Load(); last != nil && time.Since(last.at) < troubleLasts {
		s.Trouble = last.why
	}
	q := d.o.Queue
	counts, err := q.Count(ctx)
	if err != nil {
		return s, err
	}
	for _, k := range d.all() {
		m, err := k.status(ctx, counts[k.m.Key()])
		if err != nil {
			return s, err
		}
		s.Mirrors = append(s.Mirrors, m)
		incomplete, err := k.incomplete(ctx)
		if err != nil {
			return s, err
		}
		for _, p := range incomplete {
			if s.At.Sub(p.Since) >= k.m.Stuck {
				s.Stuck = append(s.Stuck, p)
			} else {
				s.Incomplete = append(s.Incomplete, p)
			}
		}
	}
	if s.Failed, err = q.Jobs(ctx, queue.Filter{States: []queue.State{queue.Failed}, Newest: true, Limit: listed}); err != nil {
		return s, err
	}
	if s.Recent, err = q.Jobs(ctx, queue.Filter{States: []queue.State{queue.Published}, Newest: true, Limit: 10}); err != nil {
		return s, err
	}
	if s.Obligations, err = q.Obligations(ctx); err != nil {
		return s, err
	}
	s.Failed, s.Recent, s.Obligations = orEmpty(d.named(s.Failed)), orEmpty(d.named(s.Recent)), orEmpty(s.Obligations)
	for i := range s.Obligations {
		s.Obligations[i].Mirror = d.name(s.Obligations[i].Mirror)
	}
	return s, nil
}

// name returns the name of a mirror for display. A removed mirror has the name that the queue has for it.
func (d *Daemon) name(key string) string {
	if k := d.worker(key); k != nil {
		return k.m.Name
	}
	return key
}

// named replaces the mirrors of jobs by their names for display.
func (d *Daemon) named(jobs []queue.Job) []queue.Job {
	for i := range jobs {
		jobs[i].Mirror = d.name(jobs[i].Mirror)
	}
	return jobs
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (k *worker) status(ctx context.Context, counts map[queue.State]queue.Tally) (MirrorStatus, error) {
	m := MirrorStatus{
		Name: k.m.Name, Source: k.m.Source, Destination: k.m.Destination,
		Jobs: make(map[queue.State]int), Running: []Sending{}, Indices: []IndexStatus{}, SigningKey: k.m.SigningKey,
	}
	for _, state := range queue.States {
		n := counts[state]
		m.Jobs[state] = n.Jobs
		if !state.Ended() && n.Jobs > 0 {
			m.Waiting += n.Jobs
			m.Bytes += n.Bytes
			if m.Oldest == nil || n.Oldest.Before(*m.Oldest) {
				m.Oldest = &n.Oldest
			}
		}
	}
	invalidated, err := k.d.o.Queue.LastMet(ctx, k.m.Key())
	if err != nil {
		return m, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m.Documents, m.Scanned = len(k.seen), k.scans > 0
	m.Last, m.Published, m.Invalidated = k.last, timeOrNil(k.published), timeOrNil(invalidated)
	m.Indices = append(m.Indices, k.index...)
	for p := range k.runs {
		m.Running = append(m.Running, p.now())
	}
	slices.SortFunc(m.Running, func(a, b Sending) int { return cmp.Compare(b.Lane, a.Lane) })
	if k.pause.failures > 0 {
		m.Paused, m.PauseUntil = k.pause.reason, timeOrNil(k.pause.until)
	}
	return m, nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// incomplete returns documents that cannot be read, and packages that were checked and are incomplete, the oldest
// first.
func (k *worker) incomplete(ctx context.Context) ([]StuckPackage, error) {
	var all []StuckPackage
	jobs, err := k.d.o.Queue.Jobs(ctx, queue.Filter{Mirror: k.m.Key(), States: []queue.State{queue.Accepted, queue.Checking}, Limit: mostPackages})
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if j.Attempts > 0 {
			all = append(all, StuckPackage{k.m.Name, j.File, j.Package, j.Accepted, j.Reason})
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for file, s := range k.seen {
		if s.reason != "" {
			all = append(all, StuckPackage{k.m.Name, file, "", s.since, s.reason})
		}
	}
	slices.SortFunc(all, func(a, b StuckPackage) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.File, b.File)) })
	if len(all) > listed {
		all = all[:listed]
	}
	return all, nil
}

// Jobs returns jobs: all, or those of the mirror with a name.
func (d *Daemon) Jobs(ctx context.Context, mirror string, f queue.Filter) ([]queue.Job, error) {
	for _, k := range d.all() {
		if k.m.Name == mirror {
			f.Mirror = k.m.Key()
		}
	}
	if mirror != "" && f.Mirror == "" {
		return nil, nil
	}
	jobs, err := d.o.Queue.Jobs(ctx, f)
	return d.named(jobs), err
}
