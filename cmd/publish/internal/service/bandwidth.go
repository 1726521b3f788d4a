package service

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml/ast"
	throttle "golang.org/x/time/rate"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
)

// A bandwidth limits the upload rate at some times of the week. If several hold at a time, the first counts.
type bandwidth struct {
	Limit limitRate `yaml:"limit"`
	Days  days      `yaml:"days"`
	Hours hours     `yaml:"hours"`
}

// limitRate is in bytes per second; 0: no limit.
type limitRate int64

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (l *limitRate) UnmarshalYAML(n ast.Node) error {
	if textOf(n) == "none" {
		return nil
	}
	v := quantity.Rate((*int64)(l))
	if err := v.Set(textOf(n)); err != nil || *l <= 0 {
		return misplaced(n, "limit %q: want a rate such as 20MB/s, or none", textOf(n))
	}
	return nil
}

// days are days of the week; empty: all.
type days []time.Weekday

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// UnmarshalYAML implements yaml.NodeUnmarshaler: mon-fri, sat,sun.
func (d *days) UnmarshalYAML(n ast.Node) error {
	for _, part := range strings.Split(textOf(n), ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		from, to := slices.Index(weekdays, first), slices.Index(weekdays, last)
		if !isRange {
			to = from
		}
		if from < 0 || to < 0 {
			return misplaced(n, "days %q: want mon, tue, wed, thu, fri, sat, sun, or a range such as mon-fri", part)
		}
		for day := from; ; day = (day + 1) % 7 {
			*d = append(*d, time.Weekday(day))
			if day == to {
				break
			}
		}
	}
	return nil
}

// hours are a part of a day, in minutes since midnight, local time. If it ends before it begins, it continues
// after midnight. Zero: all day.
type hours struct{ from, to int }

// UnmarshalYAML implements yaml.NodeUnmarshaler: 08:00-18:30.
func (h *hours) UnmarshalYAML(n ast.Node) error {
	from, to, ok := strings.Cut(textOf(n), "-")
	var err1, err2 error
	h.from, err1 = clock(from)
	h.to, err2 = clock(to)
	if !ok || err1 != nil || err2 != nil || h.from == h.to {
		return misplaced(n, "hours %q: want a part of the day such as 08:00-18:00", textOf(n))
	}
	return nil
}

func clock(text string) (minutes int, err error) {
	if strings.TrimSpace(text) == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", strings.TrimSpace(text))
	return t.Hour()*60 + t.Minute(), err
}

// holds reports whether a bandwidth applies at a time.
func (b bandwidth) holds(now time.Time) bool {
	minute, day := now.Hour()*60+now.Minute(), now.Weekday()
	in := b.Hours == hours{} || minute >= b.Hours.from && minute < b.Hours.to
	if b.Hours.to < b.Hours.from {
		in = minute >= b.Hours.from || minute < b.Hours.to
		if minute < b.Hours.to {
			day = (day + 6) % 7 // the part after midnight belongs to the day before
		}
	}
	return in && (len(b.Days) == 0 || slices.Contains(b.Days, day))
}

// limitAt returns the limit at a time, in bytes per second; 0: no limit.
func limitAt(all []bandwidth, now time.Time) int64 {
	for _, b := range all {
		if b.holds(now) {
			return int64(b.Limit)
		}
	}
	return 0
}

// lowest returns the lowest limit of all times; 0: there is none.
func lowest(all []bandwidth) int64 {
	least := int64(0)
	for _, b := range all {
		if b.Limit > 0 && (least == 0 || int64(b.Limit) < least) {
			least = int64(b.Limit)
		}
	}
	return least
}

// A pacing keeps the uploads of all mirrors at the current limit.
type pacing struct {
	// mu guards the fields below while they are read or replaced.
	mu      sync.Mutex
	table   []bandwidth
	limiter *throttle.Limiter // nil: there never was a limit
}

// use switches to another timetable. It returns the limiter for uploads, nil if there is never a limit, and the
// lowest limit.
func (p *pacing) use(table []bandwidth) (l *throttle.Limiter, least int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = table
	if least = lowest(table); least == 0 {
		return nil, 0
	}
	if p.limiter == nil {
		p.limiter = s3.NewLimiter(least)
	}
	p.adjust(time.Now())
	return p.limiter, least
}

// adjust sets the limit for a time. The caller holds p.mu.
func (p *pacing) adjust(now time.Time) {
	if p.limiter == nil {
		return
	}
	want := throttle.Inf
	if n := limitAt(p.table, now); n > 0 {
		want = throttle.Limit(n)
	}
	if p.limiter.Limit() != want {
		p.limiter.SetLimit(want)
	}
}

// keep adjusts the limit when it changes, until ctx ends.
func (p *pacing) keep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			p.mu.Lock()
			p.adjust(now)
			p.mu.Unlock()
		}
	}
}
