// Package downloads tells from access logs which packages of a mirror are downloaded.
//
// It reads logs of CloudFront, as text and as JSON, and of S3, each packed or not. A Counter keeps sums for people: of each package how often and
// when it was last downloaded; what it does not understand it counts. Uses are for what must not delete a package that is used; what they do not
// understand is an error. Neither keeps addresses, names of clients or single requests.
package downloads

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// version is that of the form of a Report.
const version = 1

// A Report is what became of a mirror's packages in a time.
type Report struct {
	Version  int       `json:"version"`
	Made     time.Time `json:"made"`
	From     string    `json:"from"` // first and last day with a request; empty: there was none
	To       string    `json:"to"`
	Requests int64     `json:"requests"` // reads that were answered, of this mirror
	Hits     int64     `json:"hits"`     // of them, those that an edge of the CDN has answered
	Bytes    int64     `json:"bytes"`    // that were sent
	Files    int       `json:"files"`    // of logs
	Strange  int64     `json:"strange"`  // lines that could not be understood
	Packages []Package `json:"packages"` // that the mirror offers, what was downloaded most first
	Unread   Unread    `json:"unread"`
}

// A Package is how often a package was downloaded.
type Package struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Hash      string `json:"hash"`
	Size      int64  `json:"size"`           // bytes that it takes
	Downloads int64  `json:"downloads"`      // of its tarball
	Bytes     int64  `json:"bytes"`          // that were sent of it
	Last      string `json:"last,omitempty"` // the day of the last download
}

// Unread is what nobody has downloaded.
type Unread struct {
	Packages int   `json:"packages"`
	Bytes    int64 `json:"bytes"`
}

// Parse reads a Report that was written as JSON.
func Parse(text []byte) (*Report, error) {
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("no report of publish usage: %w", err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("a report of version %d: want one of version %d, which publish usage writes", r.Version, version)
	}
	return r, nil
}

// HitRate is the part of the requests that the CDN has answered.
func (r *Report) HitRate() float64 {
	if r.Requests == 0 {
		return 0
	}
	return float64(r.Hits) / float64(r.Requests)
}

// Downloads are how often each package was downloaded, by its hash.
func (r *Report) Downloads() map[string]int64 {
	all := make(map[string]int64)
	for _, p := range r.Packages {
		all[p.Hash] = p.Downloads
	}
	return all
}

// Logs are where access logs are.
type Logs interface {
	mirror.Reader
	mirror.Lister
}

// A Counter adds up what logs say of the objects of a mirror.
type Counter struct {
	prefix string // of the names of the mirror's objects, in logs
	blobs  map[string]*Package

	mu     sync.Mutex // guards all below
	report Report
}

// NewCounter returns a counter for what documents point at. prefix is the path of the mirror in the logs: noble/spack.
func NewCounter(documents []*inventory.Document, prefix string) *Counter {
	c := &Counter{prefix: strings.Trim(prefix, "/"), blobs: make(map[string]*Package), report: Report{Version: version, Packages: []Package{}}}
	for _, d := range documents {
		p := &Package{Name: d.Build.Name, Version: d.Version.String(), Hash: d.Hash, Size: d.Bytes()}
		if b := d.Tarball(); b != nil && c.blobs[b.Name] == nil {
			c.blobs[b.Name] = p
		} else {
			c.blobs["\x00"+p.Hash] = p // its tarball is that of another one, or not known
		}
	}
	return c
}

// Read adds the logs that were stored since a time.
func (c *Counter) Read(ctx context.Context, logs Logs, since time.Time) error {
	var names []string
	for info, err := range logs.List(ctx, mirror.Range{}) {
		if err != nil {
			return fmt.Errorf("list logs: %w", err)
		}
		if !info.Modified.Before(since) || info.Modified.IsZero() {
			names = append(names, info.Name)
		}
	}
	return parallel.Each(ctx, parallel.Readers, names, func(ctx context.Context, name string) error {
		o, err := logs.Open(ctx, name)
		if errors.Is(err, mirror.ErrNotExist) {
			return nil // it has expired meanwhile
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		defer o.Body.Close()
		if err := c.readFile(ctx, o.Body, since.Format(time.DateOnly)); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return nil
	})
}

// readFile adds one file, packed or not. One of another kind has no line that is understood.
func (c *Counter) readFile(ctx context.Context, file io.Reader, since string) error {
	var read format
	sum := Report{Files: 1}
	of := make(map[*Package]*Package)
	err := eachLine(file, func(_ int, line string) error {
		if read == nil {
			read = formatOf(line)
		}
		switch {
		case read == nil && !strings.HasPrefix(line, "#") && line != "":
			sum.Strange++
		case read != nil:
			c.count(&sum, of, line, read, since)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		return err
	}
	c.add(&sum, of)
	return ctx.Err()
}

func (c *Counter) count(sum *Report, of map[*Package]*Package, line string, read format, since string) {
	r, keep, ok := read(line)
	if !ok && line != "" {
		sum.Strange++
	}
	name, ours := strings.CutPrefix(r.path, c.prefix)
	if c.prefix != "" {
		var below bool
		name, below = strings.CutPrefix(name, "/")
		ours = ours && below
	}
	if !keep || !ours || r.day < since {
		return
	}
	sum.Requests++
	sum.Bytes += r.bytes
	if r.hit {
		sum.Hits++
	}
	sum.between(r.day, r.day)
	if p := c.blobs[name]; p != nil {
		if of[p] == nil {
			of[p] = new(Package)
		}
		of[p].Bytes += r.bytes
		if r.whole {
			of[p].Downloads++
			of[p].Last = max(of[p].Last, r.day)
		}
	}
}

func (r *Report) between(from, to string) {
	if from != "" && (r.From == "" || from < r.From) {
		r.From = from
	}
	r.To = max(r.To, to)
}

func (c *Counter) add(sum *Report, of map[*Package]*Package) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Files += sum.Files
	c.report.Strange += sum.Strange
	c.report.Requests += sum.Requests
	c.report.Hits += sum.Hits
	c.report.Bytes += sum.Bytes
	c.report.between(sum.From, sum.To)
	for p, more := range of {
		p.Downloads += more.Downloads
		p.Bytes += more.Bytes
		p.Last = max(p.Last, more.Last)
	}
}

// Report returns the sums, as of now.
func (c *Counter) Report(now time.Time) *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.Made = now.UTC()
	r.Packages, r.Unread = []Package{}, Unread{}
	for _, p := range slices.Collect(maps.Values(c.blobs)) {
		r.Packages = append(r.Packages, *p)
		if p.Downloads == 0 {
			r.Unread.Packages++
			r.Unread.Bytes += p.Size
		}
	}
	slices.SortFunc(r.Packages, func(a, b Package) int {
		return cmp.Or(cmp.Compare(b.Downloads, a.Downloads), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Hash, b.Hash))
	})
	return &r
}
