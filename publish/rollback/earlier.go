package rollback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/putback"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Offers returns the packages of the index of a generation, as records name them. It only reads.
func Offers(ctx context.Context, f buildcache.Layout, r mirror.Reader, to Target) (history.Entry, map[spec.Hash]string, error) {
	p, err := buildcache.PointerForUpdate(ctx, f, r)
	if err != nil {
		return history.Entry{}, nil, err
	}
	was, x, _, err := offers(ctx, f, r, p, to)
	if err != nil {
		return history.Entry{}, nil, err
	}
	now := offeredBy(x)
	names := make(map[spec.Hash]string)
	for h := range was.offers {
		if names[h] = was.names[h]; names[h] == "" {
			names[h] = reindex.NameOf(now[h])
		}
	}
	return was.entry, names, nil
}

// unreadable says of an error of reading an index what makes that again, and whether it is damaged.
func unreadable(f buildcache.Layout, err error) error {
	mend := "publish index rebuilds it"
	if f.ViewName() != "" {
		mend = "publish view set makes it again"
	}
	_, unusable := errors.AsType[*buildcache.ContentError](err)
	_, another := errors.AsType[*blob.MismatchError](err)
	if unusable || another || errors.Is(err, mirror.ErrNotExist) {
		err = fmt.Errorf("%w: %w", reindex.ErrUnreadable, err)
	}
	return fmt.Errorf("index: %w; %s", err, mend)
}

// An earlier index.
type earlier struct {
	entry  history.Entry
	offers map[spec.Hash]bool
	names  map[spec.Hash]string // as far as they are known
}

// offers returns the packages of an earlier index, the current index, and the record of the current index. It
// recalls the pointer, and reads the history while the index arrives.
func offers(ctx context.Context, f buildcache.Layout, r mirror.Reader, p *buildcache.Pointer, to Target) (was earlier, now *indices.Set, from history.Entry, err error) {
	var g defect.Group
	g.Go(func() (err error) {
		if now, err = f.ReadIndex(ctx, r, p); err != nil {
			err = unreadable(f, err)
		}
		return err
	})
	var since []history.Entry // newest first
	gap, found := "", false
	if _, err = putback.Recall(ctx, f, r, p); err == nil {
		head := p.Head(f)
		if p.Recalled {
			head.Place = history.Place{}
		}
		err = history.Chain(ctx, r, head, func(e history.Entry) bool {
			since = append(since, e)
			if found = to.is(e, len(since)); !found {
				gap = cmp.Or(gap, gapAt(e))
			}
			return !found
		})
	}
	if err := cmp.Or(g.Wait(), err); err != nil {
		return was, nil, from, err
	}
	if !found {
		return was, nil, from, fmt.Errorf("%w: %s; publish history shows those that there are", ErrNone, to)
	}
	last := len(since) - 1
	was = earlier{entry: since[last], offers: make(map[spec.Hash]bool, now.Offered()), names: make(map[spec.Hash]string)}
	if gap != "" {
		return was, now, since[0], was.read(ctx, f, r, gap)
	}
	for e := range now.Records() {
		if e.InBuildcache {
			was.offers[e.Hash] = true
		}
	}
	for _, e := range since[:last] {
		for _, name := range e.Added {
			delete(was.offers, history.HashOf(name))
		}
		for _, name := range e.Removed {
			h := history.HashOf(name)
			was.offers[h], was.names[h] = true, name
		}
	}
	return was, now, since[0], nil
}

// is reports whether an entry, the n-th from now, is the target.
func (t Target) is(e history.Entry, n int) bool {
	switch {
	case t.Generation > 0:
		return e.Generation == t.Generation
	case !t.Time.IsZero():
		return !e.Time.IsZero() && !e.Time.After(t.Time)
	}
	return n == 2
}

func (t Target) String() string {
	switch {
	case t.Generation > 0:
		return "generation " + strconv.Itoa(t.Generation)
	case !t.Time.IsZero():
		return "at " + t.Time.Format(time.RFC3339)
	}
	return "one before the first"
}

// gapAt says why the packages of the generation before this one do not follow from its record; empty: they do.
func gapAt(e history.Entry) string {
	switch {
	case e.Damaged != "":
		return fmt.Sprintf("the record of generation %d is damaged", e.Generation)
	case e.Lost:
		return fmt.Sprintf("the record of generation %d is gone", e.Generation)
	case e.Foreign:
		return fmt.Sprintf("generation %d has no record, since another program has written that index or put it back", e.Generation)
	}
	return ""
}

// read reads the earlier index itself, because the history has a gap.
func (was *earlier) read(ctx context.Context, f buildcache.Layout, r mirror.Reader, gap string) error {
	x := indices.New(f.Generations())
	for part := range strings.SplitSeq(was.entry.Digest, "+") {
		digest, err := blob.ParseDigest(part)
		name, apart := f.BlobName(digest)
		if err != nil || !apart {
			return fmt.Errorf("what generation %d offered is not known: %s", was.entry.Generation, gap)
		}
		raw, err := buildcache.ReadBlob(ctx, r, buildcache.Object{Name: name, Size: -1, Digest: digest}, buildcache.MaxIndex)
		if errors.Is(err, mirror.ErrNotExist) {
			return fmt.Errorf("what generation %d offered is not known: %s, and its index %s is gone", was.entry.Generation, gap, name)
		}
		if err == nil {
			err = parseInto(x, raw)
		}
		if err != nil {
			return err
		}
	}
	for h, e := range offeredBy(x) {
		was.offers[h], was.names[h] = true, reindex.NameOf(e)
	}
	return nil
}

func parseInto(x *indices.Set, raw []byte) error {
	var failed error
	for i, g := range x.Generations {
		part, err := index.Parse(raw, g.Index)
		if err == nil {
			x.Parts[i] = part
			return nil
		}
		failed = err
	}
	return failed
}

func offeredBy(x *indices.Set) map[spec.Hash]index.Entry {
	offered := make(map[spec.Hash]index.Entry, x.Offered())
	for e := range x.Records() {
		if e.InBuildcache {
			offered[e.Hash] = e
		}
	}
	return offered
}
