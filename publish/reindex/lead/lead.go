// Package lead lets publishers that share one index take turns, so that each turn adds what all of them have.
//
// A publisher whose documents are stored claims the version of the index that it has seen. One claim succeeds: its
// holder leads. It reads the index, takes along what the others have announced, and replaces the pointer. The others
// announce their documents and wait until the pointer moves. A receipt of the new index then tells them whether they
// are in it.
//
// Nothing here decides what the index is. Only the conditional write of the pointer does, and it is not made here. Claims
// and announcements are hints: losing one, or finding two leaders, costs time and no package. A receipt is a truth
// about content that cannot change: the index with this digest is that one and these documents.
//
// No clock but the own stopwatch is read. The model of the protocol is in test/contention.
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

// Dir is where publishers leave what they tell each other, below the root of the mirror. Clients read nothing there, and
// everything in it may be deleted at any time.
const Dir = ".publishers/"

// A Store is what a publisher needs of a mirror.
type Store interface {
	mirror.Reader
	mirror.Lister
	mirror.Writer
	mirror.Swapper
}

// A Publisher has documents to be indexed.
type Publisher struct {
	store Store
	index string // identifies the index among those of the mirror
	dir   string // of the index
	self  Announcement
	text  []byte // the announcement as it is stored
	nonce string

	trip     time.Duration       // how long a request has taken
	receipts map[string]*Receipt // that were read, by digest of the index
}

// An Announcement names documents that are stored and are to be indexed.
type Announcement struct {
	ID        string   `json:"-"` // follows from the rest
	Documents []string `json:"documents"`
	// Contents are objects of those documents, by name, so that the leader need not read them from the mirror. Those of
	// some documents may be left out.
	Contents map[string][]byte `json:"contents,omitempty"`
}

// maxText is the size of the largest object that is read here.
const maxText = 4 << 20

// New returns a publisher of documents for an index: see buildcache.Layout.IndexID. contents is what it announces with
// their names.
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

// generation is the directory of what is said about one version of the index.
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

// announcementOf is the identity of the announcement with a name.
func announcementOf(name string) string { return strings.TrimPrefix(path.Base(name), wantPrefix) }

// A claim is the content of a lead.
type claim struct {
	Holder  string   `json:"holder"`
	Nonce   string   `json:"nonce"` // tells it from every other claim
	Attempt int      `json:"attempt"`
	Beat    int      `json:"beat"`
	Spent   bool     `json:"spent,omitempty"` // given back
	Found   []string `json:"found,omitempty"` // by the holder of a spent lead: who is in the index already
}

func upload(name string, text []byte, caching string) mirror.Upload {
	return mirror.Upload{Name: name, Content: blob.Bytes(text), Digest: blob.DigestOf(text), Type: "application/json", CacheControl: caching}
}

// A Turn is the right to build on a version of the index, as far as there is one: another publisher may take it away, and the
// holder learns of it when the pointer has moved.
type Turn struct {
	p       *Publisher
	base    mirror.Version
	name    string
	version mirror.Version // of the lead
	claim   claim
	seen    map[string]bool // announcements that were returned
	beat    *beat           // nil: nobody is told that it goes on
}

// Claim tries to lead. It returns nil if another publisher leads already. The error is a mirror.ErrDenied where publishers
// may not tell each other anything; other failures count as not leading.
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
	// It may have been stored all the same.
	there, version, lookErr := p.lead(ctx, base)
	if lookErr == nil && p.holds(there) {
		return p.turn(base, version, c), nil
	}
	return nil, err
}

// turn is what the publisher has whose claim was stored.
func (p *Publisher) turn(base, version mirror.Version, c claim) *Turn {
	return &Turn{p: p, base: base, name: p.leadName(base), version: version, claim: c, seen: make(map[string]bool)}
}

// holds reports whether a claim is the publisher's.
func (p *Publisher) holds(c claim) bool { return c.Nonce == p.nonce && !c.Spent }

// lead reads who leads.
func (p *Publisher) lead(ctx context.Context, base mirror.Version) (claim, mirror.Version, error) {
	var c claim
	text, info, err := mirror.Read(ctx, p.store, p.leadName(base), maxText)
	if err == nil && json.Unmarshal(text, &c) != nil {
		c = claim{Spent: true} // nobody's
	}
	return c, info.Version, err
}

// Others returns announcements that were not returned before: those for the version that the turn builds on, and those for the
// one before, which are left from the turn before. took are those that the index has. What cannot be read is left out: its
// publisher leads later.
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

// Spend gives the lead back: the index needs nothing more, or the holder cannot go on. found are the announcements whose
// documents the index offers.
func (t *Turn) Spend(ctx context.Context, found []string) {
	version := t.stop()
	c := t.claim
	c.Spent, c.Found = true, found
	// If it fails, the others wait until they lose patience.
	t.p.store.Swap(ctx, upload(t.name, encode(c), layout.Revalidate), version)
}

// Announce tells the leader what to take along.
func (p *Publisher) Announce(ctx context.Context, base mirror.Version) error {
	if err := p.store.Create(ctx, upload(p.wantName(base), p.text, layout.Immutable)); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}
