package history

import (
	"context"
	"errors"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// An Entry is one generation of an index.
type Entry struct {
	Record
	// Foreign means that another program wrote the index, so little is known about it.
	Foreign bool `json:"foreign,omitempty"`
	// Lost means that the record is missing or damaged. The generation before it is known only if the ID of
	// this one follows from an existing record.
	Lost bool `json:"lost,omitempty"`
	// Damaged says why an existing record is lost.
	Damaged string `json:"damaged,omitempty"`
}

// A Head is the current index of a mirror, as its pointer says.
type Head struct {
	Index  string // see buildcache.Layout.IndexID
	Place         // unknown if another program wrote the index
	Digest string // empty: there is no index
}

// ahead is how many records are read at once.
const ahead = 32

// Chain yields the generations of an index, newest first, until yield returns false. A store that can be listed
// is read in a few rounds; any other, such as a web server, takes one request per record.
func Chain(ctx context.Context, r mirror.Reader, head Head, yield func(Entry) bool) error {
	w := walk{reader: r, index: head.Index, known: make(map[name]*Record)}
	w.lister, _ = r.(mirror.Lister)
	at := &Parent{Generation: head.Generation, ID: head.Record, Digest: head.Digest}
	if head.Generation == 0 {
		if head.Digest == "" {
			return nil
		}
		before, err := w.before(ctx, last-1)
		if err != nil {
			return err
		}
		at.Generation = 1
		if before != nil {
			at.Generation = before.Generation + 1
		}
	}
	for at != nil {
		e, err := w.entry(ctx, at)
		if err != nil || !yield(e) {
			return err
		}
		if e.Lost {
			e.Parent, err = w.parent(ctx, e)
		}
		if err != nil {
			return err
		}
		if at = e.Parent; e.Foreign && e.Generation > 1 {
			if at, err = w.before(ctx, e.Generation-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// A walk reads records backwards.
type walk struct {
	reader mirror.Reader
	lister mirror.Lister // nil: the store cannot be listed
	index  string
	known  map[name]*Record
}

// entry returns the entry of a generation.
func (w *walk) entry(ctx context.Context, at *Parent) (Entry, error) {
	if at.ID == "" {
		e := Entry{Foreign: true}
		e.Generation, e.Digest = at.Generation, at.Digest
		return e, nil
	}
	n := name{at.Generation, at.ID}
	r := w.known[n]
	if r == nil && w.lister != nil {
		if err := w.fetch(ctx, at.Generation); err != nil {
			return Entry{}, err
		}
		r = w.known[n]
	}
	if r == nil {
		var err error
		r, err = Read(ctx, w.reader, w.index, at.Generation, at.ID)
		if errors.Is(err, mirror.ErrNotExist) || errors.Is(err, ErrDamaged) {
			e := Entry{Lost: true}
			if errors.Is(err, ErrDamaged) {
				e.Damaged = err.Error()
			}
			e.Generation, e.ID, e.Digest = at.Generation, at.ID, at.Digest
			return e, nil
		}
		if err != nil {
			return Entry{}, err
		}
	}
	delete(w.known, n)
	return Entry{Record: *r}, nil
}

// fetch reads the next records at and below a generation.
func (w *walk) fetch(ctx context.Context, generation int) error {
	names, err := newest(ctx, w.lister, w.index, generation, ahead)
	if err != nil {
		return err
	}
	records, err := readAll(ctx, w.reader, w.index, names)
	if err != nil {
		return err
	}
	clear(w.known)
	for _, r := range records {
		w.known[name{r.Generation, r.ID}] = r
	}
	return nil
}

// parent finds the record before a lost one: the ID of the lost record follows from its parent. Without such a
// record it is unknown.
func (w *walk) parent(ctx context.Context, lost Entry) (*Parent, error) {
	if w.lister == nil || lost.Generation < 2 {
		return nil, nil
	}
	names, err := newest(ctx, w.lister, w.index, lost.Generation-1, 1)
	for _, n := range names {
		r, readErr := Read(ctx, w.reader, w.index, n.generation, n.id)
		p := &Parent{Generation: n.generation, ID: n.id}
		if n.generation != lost.Generation-1 || NewID(lost.Generation, p, lost.Digest) != lost.ID {
			continue
		}
		if readErr == nil { // otherwise it is lost as well
			p.Digest = r.Digest
		}
		return p, nil
	}
	return nil, err
}

// before returns the newest record at or below a generation: the state before another program replaced the
// index.
func (w *walk) before(ctx context.Context, generation int) (*Parent, error) {
	if w.lister == nil {
		return nil, nil
	}
	names, err := newest(ctx, w.lister, w.index, generation, 1)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return &Parent{Generation: names[0].generation, ID: names[0].id}, nil
}
