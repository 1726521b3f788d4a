package daemon

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A Progress records the progress of a run. Its methods may be called concurrently.
type Progress struct {
	d        *Daemon
	lane     string
	began    time.Time
	packages int
	expected int64 // bytes of all packages; how many must be sent is known later

	// mu guards the fields below.
	mu    sync.Mutex
	step  string
	total int64 // bytes to send; -1 if unknown
	sent  int64
	files map[string]*Transfer
	rate  rate

	retrying string // why a request is being retried; empty if bytes moved since
}

// A Transfer is an object that is being sent.
type Transfer struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Sent int64  `json:"sent"`
}

func newProgress(d *Daemon, l lane, jobs []queue.Job) *Progress {
	p := &Progress{d: d, lane: l.name, began: time.Now(), packages: len(jobs), total: -1, files: make(map[string]*Transfer)}
	for _, j := range jobs {
		p.expected += j.Bytes
	}
	return p
}

// Planned records how many bytes will be sent.
func (p *Progress) Planned(bytes int64) {
	p.d.progress()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.retrying = bytes, ""
}

// Sent records that n more bytes of an object were sent; n is negative when bytes must be sent again.
func (p *Progress) Sent(name string, size, n int64) {
	p.d.progress()
	p.d.counts.sent.Add(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent += n
	p.retrying = ""
	p.rate.add(time.Now(), n)
	t := p.files[name]
	if t == nil {
		t = &Transfer{Name: name, Size: size}
		p.files[name] = t
	}
	if t.Sent += n; t.Sent >= size {
		delete(p.files, name)
	}
}

// Retrying records that a request is retried, and why.
func (p *Progress) Retrying(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retrying = why
}

// Step records that a step of a mirror begins. An empty step begins none.
func (p *Progress) Step(_, step string) {
	p.d.progress()
	if step == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
}

// Stored records that an object was stored.
func (p *Progress) Stored(string, int64) { p.d.progress() }

// A Sending describes a run in progress.
type Sending struct {
	Lane      string     `json:"lane"`
	Step      string     `json:"step"`
	Packages  int        `json:"packages"`
	Since     time.Time  `json:"since"`
	Sent      int64      `json:"sent"`
	Total     int64      `json:"total"` // -1 if unknown
	Rate      int64      `json:"rate"`  // bytes a second, recently
	Left      float64    `json:"left"`  // seconds, at that rate; -1 if unknown
	Transfers []Transfer `json:"transfers"`
	Retrying  string     `json:"retrying,omitempty"` // why a request is being retried
}

// shown is the maximum number of transfers in a Sending. The largest are shown.
const shown = 10

func (p *Progress) now() Sending {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Sending{Lane: p.lane, Step: p.step, Packages: p.packages, Since: p.began, Sent: p.sent, Total: p.total, Rate: p.rate.of(time.Now()), Left: -1, Transfers: []Transfer{}, Retrying: p.retrying}
	if s.Total >= 0 && s.Rate > 0 {
		s.Left = float64(max(s.Total-s.Sent, 0)) / float64(s.Rate)
	}
	for _, t := range slices.SortedFunc(maps.Values(p.files), func(a, b *Transfer) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
	}) {
		if len(s.Transfers) < shown {
			s.Transfers = append(s.Transfers, *t)
		}
	}
	return s
}

// A rate counts the bytes sent in each of the latest seconds.
type rate struct {
	bytes  [10]int64
	newest int64 // the second of the newest count
	oldest int64 // the second of the first addition
}

func (r *rate) add(now time.Time, n int64) {
	r.turn(now.Unix())
	r.bytes[now.Unix()%int64(len(r.bytes))] += n
}

// turn clears the seconds that are over.
func (r *rate) turn(second int64) {
	if r.oldest == 0 {
		r.oldest, r.newest = second, second
	}
	for n := int64(len(r.bytes)); r.newest < second && n > 0; n-- {
		r.newest++
		r.bytes[r.newest%int64(len(r.bytes))] = 0
	}
	r.newest = second
}

func (r *rate) of(now time.Time) int64 {
	if r.oldest == 0 {
		return 0
	}
	r.turn(now.Unix())
	sum := int64(0)
	for _, n := range r.bytes {
		sum += n
	}
	return max(sum, 0) / min(max(now.Unix()-r.oldest, 1), int64(len(r.bytes)))
}
