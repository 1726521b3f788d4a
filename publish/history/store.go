package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// last is the largest number of a generation. Names of records hold the difference to it.
const last = 9_999_999_999

// maxRecord is the size of the largest record that is read: that of an index with a million new packages.
const maxRecord = 256 << 20

// DirOf returns the directory of the records of an index: see buildcache.Layout.IndexID. No part of the name of
// an index begins with an underscore, so the records of one index are never below those of another.
func DirOf(index string) string { return Dir + index + "/_/" }

// Name returns the name of a record.
func Name(index string, generation int, id string) string {
	return fmt.Sprintf("%s%010d-%s.json", DirOf(index), last-generation, id)
}

var recordName = regexp.MustCompile(`^([0-9]{10})-([0-9a-f]{32})\.json$`)

// ParseName parses the name of a record of an index.
func ParseName(index, name string) (generation int, id string, ok bool) {
	if path.Dir(name)+"/" != DirOf(index) {
		return 0, "", false
	}
	m := recordName.FindStringSubmatch(path.Base(name))
	if m == nil {
		return 0, "", false
	}
	n, err := strconv.Atoi(m[1])
	return last - n, m[2], err == nil && n < last
}

// A Store is a store for records.
type Store interface {
	mirror.Reader
	mirror.Writer
	mirror.Swapper
}

// Write stores a record. It replaces an existing record of the same step, by a publisher that has died or is
// racing: both are true, and the last one is most likely the valid one.
func Write(ctx context.Context, s Store, index string, r *Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // our own struct
	}
	u := mirror.Upload{
		Name: Name(index, r.Generation, r.ID), Content: blob.Bytes(text), Digest: blob.DigestOf(text),
		Type: "application/json", CacheControl: layout.Revalidate,
	}
	err = s.Create(ctx, u)
	if errors.Is(err, mirror.ErrExist) {
		var there mirror.Info
		if there, err = s.Stat(ctx, u.Name); err == nil {
			_, err = s.Swap(ctx, u, there.Version)
		}
		if errors.Is(err, mirror.ErrConflict) || errors.Is(err, mirror.ErrNotExist) {
			err = nil // the other publisher is writing it as well
		}
	}
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// ErrDamaged means that an object is not a valid record.
var ErrDamaged = errors.New("the record is damaged")

// Read reads a record. The error is ErrDamaged if it exists but is not valid.
func Read(ctx context.Context, r mirror.Reader, index string, generation int, id string) (*Record, error) {
	name := Name(index, generation, id)
	if _, _, ok := ParseName(index, name); !ok {
		return nil, fmt.Errorf("history: %.40q of generation %d names no record", id, generation)
	}
	text, _, err := mirror.Read(ctx, r, name, maxRecord)
	if err != nil {
		return nil, err
	}
	out := new(Record)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	if out.Generation != generation || out.ID != id {
		return nil, fmt.Errorf("%s: %w: it is about generation %d, %.40q", name, ErrDamaged, out.Generation, out.ID)
	}
	return out, nil
}

// A name is the parsed name of a record.
type name struct {
	generation int
	id         string
}

// A listed record exists, and was stored at a time.
type listed struct {
	name
	stored time.Time
}

// newest lists up to n records, from the highest generation or from those at and below one. The records of the
// last listed generation are complete.
func newest(ctx context.Context, l mirror.Lister, index string, below, n int) ([]listed, error) {
	r := mirror.Range{Prefix: DirOf(index)}
	if below > 0 {
		r.After = fmt.Sprintf("%s%010d", r.Prefix, last-below)
	}
	var found []listed
	for info, err := range l.List(ctx, r) {
		if err != nil {
			return nil, err
		}
		generation, id, ok := ParseName(index, info.Name)
		if !ok {
			continue
		}
		if len(found) >= n && generation != found[len(found)-1].generation {
			break
		}
		found = append(found, listed{name{generation, id}, info.Modified})
	}
	return found, nil
}

// Newest returns the highest generation with a record, and when its first record was stored; 0 if there is
// none.
func Newest(ctx context.Context, l mirror.Lister, index string) (generation int, since time.Time, err error) {
	records, err := newest(ctx, l, index, 0, 1)
	if err != nil || len(records) == 0 {
		return 0, since, err
	}
	first := slices.MinFunc(records, func(a, b listed) int { return a.stored.Compare(b.stored) })
	return first.generation, first.stored, nil
}

// Latest returns the records of the highest generation, and that generation; 0 if there is none. Usually it is
// one record. Several are from racing publishers, of which one replaced the pointer; it is unknown which.
// Damaged records are skipped in favour of earlier ones. So are records of publishers that are about to replace
// the index with the given digest, which has no record itself: their generation does not count.
func Latest(ctx context.Context, r mirror.Reader, l mirror.Lister, index, digest string) (latest []*Record, generation int, err error) {
	names, err := newest(ctx, l, index, 0, 1)
	for err == nil && len(names) > 0 {
		at := names[0].generation
		var records []*Record
		if records, err = readAll(ctx, r, index, names); err != nil {
			break
		}
		whole := len(records) == len(names)
		attempts := whole && !slices.ContainsFunc(records, func(r *Record) bool { return !r.replaces(digest) })
		if !attempts {
			generation = max(generation, at)
		}
		if latest = append(latest, records...); whole && !attempts || at == 1 {
			break
		}
		names, err = newest(ctx, l, index, at-1, 1)
	}
	return latest, generation, err
}

// replaces reports whether a record is of a publisher that replaces an index without a record; with an empty
// digest, no index.
func (r *Record) replaces(digest string) bool {
	if r.Parent == nil {
		return digest == ""
	}
	return r.Parent.ID == "" && r.Parent.Digest == digest
}

// readAll reads records. It leaves out missing and unreadable ones.
func readAll(ctx context.Context, r mirror.Reader, index string, names []listed) ([]*Record, error) {
	all := make([]*Record, len(names))
	err := parallel.Each(ctx, parallel.Readers, parallel.Positions(names), func(ctx context.Context, i int) error {
		var err error
		all[i], err = Read(ctx, r, index, names[i].generation, names[i].id)
		if errors.Is(err, mirror.ErrNotExist) || errors.Is(err, ErrDamaged) {
			return nil
		}
		return err
	})
	found := all[:0]
	for _, r := range all {
		if r != nil {
			found = append(found, r)
		}
	}
	return found, err
}
