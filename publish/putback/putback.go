// Package putback detects that an earlier pointer of an index was put back: by hand, by restoring an earlier
// version of the object, or by a late replication. Such a pointer lacks everything that was published or withdrawn
// since.
package putback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// A Finding says that a pointer is an earlier one that was put back.
type Finding struct {
	View       string // view of the pointer; empty for the whole mirror
	Generation int    // of the pointer
	Newest     int    // newest generation that has a record
}

func (f *Finding) Error() string {
	what, mend := "the index", fmt.Sprintf("publish index makes an index of all that is there, and publish rollback --to %d one of what was offered last", f.Newest)
	if f.View != "" {
		what, mend = "the view "+f.View, fmt.Sprintf("publish rollback --view %s --to %d makes it what it offered last, and publish view set what it is to offer", f.View, f.Newest)
	}
	return fmt.Sprintf("%s is of generation %d, and there are records up to generation %d: an earlier pointer was put back, by hand or by replication. %s", what, f.Generation, f.Newest, mend)
}

// skew is the maximum difference between the clocks of a store.
const skew = 2 * time.Second

// Look returns a Finding if a pointer, as read by PointerForUpdate or ReadPointer, was put back. It returns nil if
// the pointer was not put back, or if the mirror cannot be listed. Look costs one listing, and a second one if the
// pointer was put back or is replaced meanwhile.
//
// A record that is newer by one generation is not enough: its publisher may be about to replace the pointer, may
// have lost a race, or may have died. The pointer was put back if it was stored after that record, or if a package
// that the record withdraws has a tombstone.
func Look(ctx context.Context, f buildcache.Layout, r mirror.Reader, p *buildcache.Pointer) (*Finding, error) {
	l, ok := r.(mirror.Lister)
	if !ok || p.Generation == 0 || p.Recalled {
		return nil, nil
	}
	newest, since, err := history.Newest(ctx, l, f.IndexID())
	if errors.Is(err, mirror.ErrDenied) {
		return nil, nil
	}
	if err != nil || newest <= p.Generation {
		return nil, err
	}
	if newest == p.Generation+1 && !p.Stored.After(since.Add(skew)) {
		if done, err := withdrew(ctx, f, r, l, p); err != nil || !done {
			return nil, err
		}
	}
	info, err := mirror.Find(ctx, l, f.IndexNames()[0])
	if err != nil || info.Version != p.Version {
		return nil, err // other publishers have replaced it since it was read
	}
	return &Finding{f.ViewName(), p.Generation, newest}, nil
}

// Recall calls Look, and treats a pointer that was put back like one that another program has written: the next
// generation and the withdrawn packages come from the history.
func Recall(ctx context.Context, f buildcache.Layout, r mirror.Reader, p *buildcache.Pointer) (*Finding, error) {
	found, err := Look(ctx, f, r, p)
	if err != nil || found == nil {
		return nil, err
	}
	p.Place = history.Place{}
	if f.ViewName() == "" && f.NamesContent() {
		p.Foreign = p.Digest()
	}
	return found, p.Recall(ctx, f, r, r.(mirror.Lister))
}

// withdrew reports whether a withdrawal that is in the newest records and not in the pointer was carried out. A
// tombstone proves it, since tombstones are stored after the pointer that has the withdrawal.
func withdrew(ctx context.Context, f buildcache.Layout, r mirror.Reader, l mirror.Lister, p *buildcache.Pointer) (bool, error) {
	records, _, err := history.Latest(ctx, r, l, f.IndexID(), "")
	for _, last := range records {
		for h, w := range last.Withdrawn {
			if _, said := p.Withdrawn[h]; said || err != nil {
				continue
			}
			var text []byte
			text, _, err = mirror.Read(ctx, r, tombstone.Name(f, w.Document), buildcache.MaxPointer+buildcache.MaxDocument)
			if errors.Is(err, mirror.ErrNotExist) {
				err = nil
			}
			// In layout v2, the tombstone may be that of an earlier withdrawal that was undone.
			if t, ok := tombstone.Parse(text); ok && err == nil && !t.Time.Before(w.Time) {
				return true, nil
			}
		}
	}
	return false, err
}
