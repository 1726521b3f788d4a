// Package putback notices that an earlier pointer of an index was put back, by hand, by restoring an earlier version of the object, or by
// a replication that runs late. Such a pointer lacks what was published since, and says nothing of what was withdrawn.
package putback

import (
	"context"
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Finding says that a pointer is an earlier one that was put back.
type Finding struct {
	Generation int // of the pointer
	Newest     int // of which there is a record
}

func (f *Finding) Error() string {
	return fmt.Sprintf("the index is of generation %d, and there are records up to generation %d: an earlier pointer was put back, by hand or by replication. "+
		"publish index makes an index of all that is there, and publish rollback --to %d one of what was offered last", f.Generation, f.Newest, f.Newest)
}

// Look returns a Finding if a pointer, as PointerForUpdate or ReadPointer has read it, was put back, and nil if it was not or if the mirror cannot
// be listed. It costs a listing, and a second one where the pointer was put back or is replaced meanwhile.
func Look(ctx context.Context, f buildcache.Layout, r mirror.Reader, p *buildcache.Pointer) (*Finding, error) {
	l, ok := r.(mirror.Lister)
	if !ok || p.Generation == 0 || p.Recalled {
		return nil, nil
	}
	newest, err := history.Newest(ctx, l, f.IndexID())
	if errors.Is(err, mirror.ErrDenied) {
		return nil, nil
	}
	// A record that is newer by one generation may be of a publisher that lost a race or died.
	if err != nil || newest <= p.Generation+1 {
		return nil, err
	}
	info, err := mirror.Find(ctx, l, f.IndexNames()[0])
	if err != nil || info.Version != p.Version {
		return nil, err // other publishers have replaced it since it was read
	}
	return &Finding{p.Generation, newest}, nil
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
