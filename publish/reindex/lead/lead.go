// Package lead lets publishers that share one index take turns, so that each turn adds the packages of all of
// them.
//
// A publisher whose documents are stored claims the version of the index that it has seen. One claim
// succeeds, and its holder leads. The leader reads the index, adds the documents that the others have
// announced, and replaces the pointer. The others announce their documents and wait until the pointer
// changes. A receipt of the new index then tells them whether it has their documents.
//
// This package does not decide what the index is. Only the conditional write of the pointer does, which is
// made elsewhere. Claims and announcements are hints: a lost hint or a second leader costs time but loses no
// package. A receipt states a fact about immutable content: the index with this digest is an earlier index
// plus these documents.
//
// Only elapsed time on the own host is used, no clock of another host. The model of the protocol is in
// test/contention.
package lead

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// Dir is the directory of messages between publishers, below the root of the mirror. Clients do not read it,
// and everything in it may be deleted at any time.
const Dir = ".publishers/"

// A Store is the part of a mirror that a publisher needs.
type Store interface {
	mirror.Reader
	mirror.Lister
	mirror.Writer
	mirror.Swapper
}

// A Publisher has documents to add to an index.
type Publisher struct {
	store Store
	index string // identifies the index among those of the mirror
	dir   string // of the index
	self  Announcement
	text  []byte // the announcement as it is stored
	nonce string

	trip     time.Duration       // duration of a request
	receipts map[string]*Receipt // receipts read so far, by digest of the index
}

// An Announcement names stored documents to add to the index.
type Announcement struct {
	ID        string   `json:"-"` // follows from the other fields
	Documents []string `json:"documents"`
	// Contents are objects of these documents by name, so that the leader need not read them from the mirror.
	// It may lack some documents.
	Contents map[string][]byte `json:"contents,omitempty"`
}

// maxText is the maximum size in bytes of an object that is read here.
const maxText = 4 << 20

// New returns a publisher of documents for an index: see buildcache.Layout.IndexID. contents is announced
// together with the names.
func New(s Store, index string, documents []string, contents map[string][]byte) *Publisher {
	names := slices.Clone(documents)
	slices.Sort(names)
	p := &Publisher{store: s, index: index, dir: dirOf(index), nonce: rand.Text(), receipts: make(map[string]*Receipt)}
	p.self.Documents, p.self.Contents = slices.Compact(names), contents
	p.text = encode(p.self)
	p.self.ID = idOf(p.text)
	return p
}

func dirOf(index string) string { return Dir + index + "/" }

// ID identifies the publisher's announcement.
func (p *Publisher) ID() string { return p.self.ID }

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own structs
	}
	return text
}

func idOf(text []byte) string { return blob.DigestOf(text).String()[:32] }

// generation returns the directory of messages about one version of the index.
func generation(base mirror.Version) string {
	if base == mirror.Absent {
		return "none"
	}
	return blob.DigestOf([]byte(base)).String()[:32]
}

func (p *Publisher) leadName(base mirror.Version) string { return p.dir + generation(base) + "/lead" }

func (p *Publisher) wantName(base mirror.Version) string {
	return p.dir + generation(base) + "/" + wantPrefix + p.self.ID
}

const wantPrefix = "want-"

// announcementOf returns the ID of the announcement with this object name.
func announcementOf(name string) string { return strings.TrimPrefix(path.Base(name), wantPrefix) }

// A claim is the content of a lead.
type claim struct {
	Holder  string   `json:"holder"`
	Nonce   string   `json:"nonce"` // unique for each claim
	Attempt int      `json:"attempt"`
	Beat    int      `json:"beat"`
	Spent   bool     `json:"spent,omitempty"` // given back
	Found   []string `json:"found,omitempty"` // in a spent lead: announcements that the index already has
}

func upload(name string, text []byte, caching string) mirror.Upload {
	return mirror.Upload{Name: name, Content: blob.Bytes(text), Digest: blob.DigestOf(text), Type: "application/json", CacheControl: caching}
}

// A Turn is the right to build on a version of the index. It is not exclusive: another publisher may take it
// over, and the holder notices only when the pointer has changed.
type Turn struct {
	p       *Publisher
	base    mirror.Version
	name    string
	version mirror.Version // of the lead
	claim   claim
	seen    map[string]bool // announcements that were returned
	beat    *beat           // nil: progress is not reported
}

// Claim tries to lead. It returns nil if another publisher already leads. The error is a mirror.ErrDenied if
// publishers have no permission to communicate. Other errors count as not leading.
func (p *Publisher) Claim(ctx context.Context, base mirror.Version) (*Turn, error) {
	began := time.Now()
	t, err := p.take(ctx, base, mirror.Absent, 0)
	p.trip = time.Since(began)
	if errors.Is(err, mirror.ErrConflict) {
		return nil, nil
	}
	return t, err
}

// take replaces the version was of a lead.
func (p *Publisher) take(ctx context.Context, base, was mirror.Version, attempt int) (*Turn, error) {
	c := claim{Holder: p.self.ID, Nonce: p.nonce, Attempt: attempt}
	u := upload(p.leadName(base), encode(c), layout.Revalidate)
	u.Own = true // see waiting.look
	version, err := p.store.Swap(ctx, u, was)
	if err == nil {
		return p.turn(base, version, c), nil
	}
	if ctx.Err() != nil || errors.Is(err, mirror.ErrConflict) || errors.Is(err, mirror.ErrDenied) {
		return nil, err
	}
	// The claim may have been stored despite the error.
	there, version, lookErr := p.lead(ctx, base)
	if lookErr == nil && p.holds(there) {
		return p.turn(base, version, c), nil
	}
	return nil, err
}

// turn returns the turn of a publisher whose claim was stored.
func (p *Publisher) turn(base, version mirror.Version, c claim) *Turn {
	return &Turn{p: p, base: base, name: p.leadName(base), version: version, claim: c, seen: make(map[string]bool)}
}

// holds reports whether a claim belongs to the publisher.
func (p *Publisher) holds(c claim) bool { return c.Nonce == p.nonce && !c.Spent }

// lead reads the current claim.
func (p *Publisher) lead(ctx context.Context, base mirror.Version) (claim, mirror.Version, error) {
	var c claim
	text, info, err := mirror.Read(ctx, p.store, p.leadName(base), maxText)
	if err == nil && json.Unmarshal(text, &c) != nil {
		c = claim{Spent: true} // without holder
	}
	return c, info.Version, err
}

// Others returns announcements that it has not returned before: those for the version that the turn builds
// on, and those for the version before, which the previous turn left. took are announcements that the index
// already has. Unreadable announcements are left out: their publishers lead later.
func (t *Turn) Others(ctx context.Context, before string, took []string) []Announcement {
	t.seen[t.p.self.ID] = true
	for _, id := range took {
		t.seen[id] = true
	}
	prefixes := []string{t.p.dir + generation(t.base) + "/" + wantPrefix}
	if before != "" {
		prefixes = append(prefixes, t.p.dir+before+"/"+wantPrefix)
	}
	listed := make([][]string, len(prefixes))
	parallel.Each(ctx, len(prefixes), parallel.Positions(prefixes), func(ctx context.Context, i int) error {
		for info, err := range t.p.store.List(ctx, mirror.Range{Prefix: prefixes[i]}) {
			if err != nil {
				break
			}
			listed[i] = append(listed[i], info.Name)
		}
		return nil
	})
	names := slices.DeleteFunc(slices.Concat(listed...), func(name string) bool {
		id := announcementOf(name)
		was := t.seen[id]
		t.seen[id] = true
		return was
	})
	return t.p.announcements(ctx, names)
}

// Spend gives the lead back: the index needs no change, or the holder cannot continue. found are the
// announcements whose documents the index offers.
func (t *Turn) Spend(ctx context.Context, found []string) {
	version := t.stop()
	c := t.claim
	c.Spent, c.Found = true, found
	// If it fails, the others take over after their patience.
	t.p.store.Swap(ctx, upload(t.name, encode(c), layout.Revalidate), version)
}

// Announce stores the announcement for the leader.
func (p *Publisher) Announce(ctx context.Context, base mirror.Version) error {
	if err := p.store.Create(ctx, upload(p.wantName(base), p.text, layout.Immutable)); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}
