// Package downloads counts the downloads of a mirror's packages in access logs.
//
// It reads logs of CloudFront, as text and as JSON, and of S3, each compressed with gzip or not. A Counter makes
// statistics for people: how often each package was downloaded, and when last. It counts the lines that it cannot
// parse. Uses protects used packages from deletion, so a line that it cannot parse is an error. Neither keeps
// addresses, names of clients or single requests.
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

// version is the version of the JSON of a Report.
const version = 1

// A Report contains the downloads of a mirror's packages in a period.
type Report struct {
	Version  int       `json:"version"`
	Made     time.Time `json:"made"`
	From     string    `json:"from"` // first and last day with a request; empty: no requests
	To       string    `json:"to"`
	Requests int64     `json:"requests"` // successful reads of this mirror
	Hits     int64     `json:"hits"`     // requests that an edge of the CDN answered
	Bytes    int64     `json:"bytes"`    // sent
	Files    int       `json:"files"`    // log files
	Strange  int64     `json:"strange"`  // lines that could not be parsed
	Packages []Package `json:"packages"` // packages that the mirror offers, most downloads first
	Unread   Unread    `json:"unread"`
}

// A Package contains the downloads of one package.
type Package struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Hash      string `json:"hash"`
	Size      int64  `json:"size"`           // bytes in the mirror
	Downloads int64  `json:"downloads"`      // of its tarball
	Bytes     int64  `json:"bytes"`          // sent of its tarball
	Last      string `json:"last,omitempty"` // the day of the last download
}

// Unread is the number and size of packages without downloads.
type Unread struct {
	Packages int   `json:"packages"`
	Bytes    int64 `json:"bytes"`
}

// Parse parses a Report from JSON.
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

// HitRate returns the fraction of requests that the CDN answered, from 0 to 1.
func (r *Report) HitRate() float64 {
	if r.Requests == 0 {
		return 0
	}
	return float64(r.Hits) / float64(r.Requests)
}

// Downloads returns the number of downloads of each package, by hash.
func (r *Report) Downloads() map[string]int64 {
	all := make(map[string]int64)
	for _, p := range r.Packages {
		all[p.Hash] = p.Downloads
	}
	return all
}

// Logs is the storage of access logs.
type Logs interface {
	mirror.Reader
	mirror.Lister
}

// A Counter adds up the requests in logs for the objects of a mirror.
type Counter struct {
	prefix string // path of the mirror in the logs, without slashes at its ends
	blobs  map[string]*Package

	mu     sync.Mutex // guards all below
	report Report
}

// NewCounter returns a counter for the tarballs of documents. prefix is the path of the mirror in the logs:
// noble/spack.
func NewCounter(documents []*inventory.Document, prefix string) *Counter {
	c := &Counter{prefix: strings.Trim(prefix, "/"), blobs: make(map[string]*Package), report: Report{Version: version, Packages: []Package{}}}
	for _, d := range documents {
		p := &Package{Name: d.Build.Name, Version: d.Version.String(), Hash: d.Hash, Size: d.Bytes()}
		if b := d.Tarball(); b != nil && c.blobs[b.Name] == nil {
			c.blobs[b.Name] = p
		} else {
			c.blobs["\x00"+p.Hash] = p // another package has the same tarball, or it is unknown
		}
	}
	return c
}

// Read adds the log files that were stored since a time.
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
			return nil // the log file has expired in the meantime
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

// readFile adds one file, compressed or not. The lines of a file of an unknown format count as strange.
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

// Report returns the sums so far.
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
