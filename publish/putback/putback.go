// Package putback notices that an earlier pointer of an index was put back, by hand, by restoring an earlier version of the object, or by
// a replication that runs late. Such a pointer lacks what was published since, and says nothing of what was withdrawn.
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
	View       string // whose pointer it is; empty: that of the whole mirror
	Generation int    // of the pointer
	Newest     int    // of which there is a record
}

func (f *Finding) Error() string {
	what, mend := "the index", fmt.Sprintf("publish index makes an index of all that is there, and publish rollback --to %d one of what was offered last", f.Newest)
	if f.View != "" {
		what, mend = "the view "+f.View, fmt.Sprintf("publish rollback --view %s --to %d makes it what it offered last, and publish view set what it is to offer", f.View, f.Newest)
	}
	return fmt.Sprintf("%s is of generation %d, and there are records up to generation %d: an earlier pointer was put back, by hand or by replication. %s", what, f.Generation, f.Newest, mend)
}

// skew is how much the clocks of a store may differ.
const skew = 2 * time.Second

// Look returns a Finding if a pointer, as PointerForUpdate or ReadPointer has read it, was put back, and nil if it was not or if the mirror cannot
// be listed. It costs a listing, and a second one where the pointer was put back or is replaced meanwhile.
//
// A record that is newer by one generation may be of a publisher that is about to replace the pointer, lost a race or died. It is of one that had
// replaced it if the pointer was stored after the record, or if what it withdraws has a tombstone.
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

// Recall is Look that takes a pointer that was put back for one that another program has written: the history says what comes
// after it and what is withdrawn.
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

// withdrew reports whether a withdrawal of the newest records, which a pointer does not say, was carried out: its tombstones come after the
// pointer that says it.
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
			// In layout v2, one of an earlier withdrawal, which was undone, may be there.
			if t, ok := tombstone.Parse(text); ok && err == nil && !t.Time.Before(w.Time) {
				return true, nil
			}
		}
	}
	return false, err
}
