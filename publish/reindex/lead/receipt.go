package lead

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// A Receipt says that an index consists of an earlier index and added documents.
type Receipt struct {
	From   string   `json:"from"`   // digest of the earlier index; empty: none
	Before string   `json:"before"` // directory of announcements for the earlier index
	Took   []string `json:"took"`   // announcements all of whose documents it offers
	Offers int      `json:"offers"` // packages in all
}

func receiptName(index, digest string) string {
	return dirOf(index) + "made/" + strings.ReplaceAll(digest, "+", "-")
}

// Receipt returns the receipt of an index. It is nil if there is none that can be read.
func (p *Publisher) Receipt(ctx context.Context, digest string) *Receipt {
	if r := p.receipts[digest]; r != nil {
		return r // receipts do not change
	}
	r := readReceipt(ctx, p.store, p.index, digest)
	p.receipts[digest] = r
	return r
}

func readReceipt(ctx context.Context, r mirror.Reader, index, digest string) *Receipt {
	if digest == "" {
		return nil
	}
	text, _, err := mirror.Read(ctx, r, receiptName(index, digest), maxText)
	out := new(Receipt)
	if err != nil || json.Unmarshal(text, out) != nil {
		return nil
	}
	return out
}

// Record stores the receipt of the index with a digest. It must be called before the pointer names that
// index, and the index must contain what the receipt says. An existing receipt stays: it is true as well. A
// failure does no harm, because publishers that find no receipt read the index.
func (t *Turn) Record(ctx context.Context, digest, from string, took []string, offers int) {
	r := Receipt{From: from, Before: generation(t.base), Took: took, Offers: offers}
	t.p.store.Create(ctx, upload(receiptName(t.p.index, digest), encode(r), layout.Immutable))
}

// hops is the maximum number of receipts to follow. After more turns than that, a publisher reads the index.
const hops = 8

// In reports whether the index with a digest is known to offer the publisher's documents. until is the digest
// of an index that is known not to offer them.
func (p *Publisher) In(ctx context.Context, digest, until string) bool {
	for range hops {
		r := p.Receipt(ctx, digest)
		switch {
		case r == nil:
			return false
		case slices.Contains(r.Took, p.self.ID):
			return true
		case r.From == until || r.From == digest:
			return false
		}
		digest = r.From
	}
	return false
}

// Follows reports whether the index with a digest is known to offer all packages of an older index.
func Follows(ctx context.Context, r mirror.Reader, index, digest, older string) bool {
	return follows(func(digest string) *Receipt { return readReceipt(ctx, r, index, digest) }, digest, older)
}

// Follows reports whether the index with a digest is known to be an older index with only packages added.
func (p *Publisher) Follows(ctx context.Context, digest, older string) bool {
	return follows(func(digest string) *Receipt { return p.Receipt(ctx, digest) }, digest, older)
}

func follows(receiptOf func(digest string) *Receipt, digest, older string) bool {
	for range hops {
		if digest == older {
			return true
		}
		receipt := receiptOf(digest)
		if receipt == nil || receipt.From == digest {
			return false
		}
		digest = receipt.From
	}
	return false
}

// announcements reads announcements. Broken announcements are left out.
func (p *Publisher) announcements(ctx context.Context, names []string) []Announcement {
	all := make([]Announcement, len(names))
	parallel.Each(ctx, parallel.Readers, parallel.Positions(names), func(ctx context.Context, i int) error {
		text, _, err := mirror.Read(ctx, p.store, names[i], maxText)
		id := announcementOf(names[i])
		if err == nil && idOf(text) == id && json.Unmarshal(text, &all[i]) == nil {
			all[i].ID = id
		}
		return ctx.Err()
	})
	return slices.DeleteFunc(all, func(a Announcement) bool { return a.ID == "" })
}
