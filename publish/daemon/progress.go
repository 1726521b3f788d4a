package daemon

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// A Progress receives what happens in a run. Its methods may be called concurrently.
type Progress struct {
	d        *Daemon
	lane     string
	began    time.Time
	packages int
	expected int64 // bytes of all packages; what of it must be sent is known later

	// mu guards what follows while one event is put in.
	mu    sync.Mutex
	step  string
	total int64 // bytes to send; -1: not known yet
	sent  int64
	files map[string]*Transfer
	rate  rate

	retrying string // since nothing has moved; empty: no request is sent again
}

// A Transfer is an object on its way.
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

// Planned: so many bytes are to be sent.
func (p *Progress) Planned(bytes int64) {
	p.d.progress()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.retrying = bytes, ""
}

// Sent: n more bytes of an object are on their way; negative when they must be sent again.
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

// Retrying: a request is sent again, for a reason.
func (p *Progress) Retrying(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retrying = why
}

// Step: a step of a mirror begins. An empty one begins none.
func (p *Progress) Step(_, step string) {
	p.d.progress()
	if step == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
}

// Stored: an object was stored.
func (p *Progress) Stored(string, int64) { p.d.progress() }

// A Sending is a run as it is now.
type Sending struct {
	Lane      string     `json:"lane"`
	Step      string     `json:"step"`
	Packages  int        `json:"packages"`
	Since     time.Time  `json:"since"`
	Sent      int64      `json:"sent"`
	Total     int64      `json:"total"` // -1: not known yet
	Rate      int64      `json:"rate"`  // bytes a second, recently
	Left      float64    `json:"left"`  // seconds, at that rate; -1: not known
	Transfers []Transfer `json:"transfers"`
	Retrying  string     `json:"retrying,omitempty"` // why a request is sent again just now
}

// shown is how many transfers of a run are shown: the largest.
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

// A rate is how much was sent in each of the last seconds.
type rate struct {
	bytes  [10]int64
	newest int64 // the second that the newest of bytes is of
	oldest int64 // the second of the first addition
}

func (r *rate) add(now time.Time, n int64) {
	r.turn(now.Unix())
	r.bytes[now.Unix()%int64(len(r.bytes))] += n
}

// turn forgets the seconds that are over.
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
