// Package notice keeps a pruner from deleting objects that a publisher is about to use.
//
// A publisher may find an object in the mirror, not send it, and then store a document that points at it. To
// a pruner that reads the mirror in between, nothing points at the object. So a pruner gives notice before it
// deletes anything, and a publisher objects to the deletion of objects that it has found. Each side writes
// before it reads what the other side writes, so at least one of them sees the other:
//
//	pruner                                      publisher
//	store the notice                            read the notice: there is none, or
//	wait Fresh and longer                         store an objection, wait as long as the notice says, and
//	list all documents again                      check that the found objects are still there
//	before each request that deletes:           store the document, within Fresh
//	  renew the notice, or stop
//	  list the objections; obey them
//	  end the request within half of the time
//	remove the notice
//
// A publisher that sees no notice has stored its document before the pruner lists the documents. The same
// holds for a writer of an index that offers old packages again: see Timely. A publisher that sees the notice
// objects. Then either the pruner obeys, or its last request made without knowledge of the objection has
// ended when the publisher checks the objects.
//
// A pruner that dies leaves its notice. A running pruner has renewed its notice less than Alive ago whenever
// it deletes. So a publisher need not wait for a notice older than Dead: no delete request is in progress.
// The publisher measures the age on the clock of the mirror, with its objection, which it stores in any case:
// a pruner that was only slow stops, and if it did not stop, it would find the objection.
//
// An object stored less than Young ago needs no objection: a pruner does not delete it.
package notice

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
)

const (
	// Dir is the directory of notices and objections, below the root of the mirror.
	Dir = lead.Dir + "prune/"
	// Name is the name of the notice.
	Name = Dir + "notice"
	// Objections is the prefix of the names of objections.
	Objections = Dir + "spare-"
)

const (
	// Fresh is how long a publisher may rely on having seen no notice. After giving notice, a pruner deletes
	// nothing for twice as long.
	Fresh = 5 * minute
	// recent is how long a publisher may rely on Beside having seen no notice.
	recent = Fresh / 10
	// Young is the age up to which a publisher may rely on an object without an objection. A pruner deletes
	// only objects at least twice as old, so their clocks may differ.
	Young = 30 * minute
	// Alive is the maximum age of the notice of a running pruner, which renews it more often. A pruner that
	// cannot renew it in time stops.
	Alive = 3 * minute
	// A pruner whose notice is older than Dead plus Settle is not running: its last request has ended. Dead
	// is more than Alive because in a directory, the clock of the mirror may be the clocks of several hosts.
	Dead = 10 * minute
)

// A Notice says that a pruner is running, or was running when it died.
type Notice struct {
	Run   string    `json:"run"`   // unique for each run
	Began time.Time `json:"began"` // by the clock of the pruner
	Beat  int       `json:"beat"`
	// Settle is how long a publisher waits after its objection before it checks whether an object is there.
	// The pruner ends each delete request within half of that time.
	Settle time.Duration `json:"settle"`

	Version mirror.Version `json:"-"`
	Stored  time.Time      `json:"-"` // by the clock of the mirror
}

// maxText is the size of the largest object that is read here.
const maxText = 16 << 20

// read returns the notice; nil if no pruner is running. It also returns nil without permission to read here:
// such a publisher is not protected from a prune. It lists the name first, because without permission to
// list, a missing object is answered like a denied one.
func read(ctx context.Context, r Reader) (*Notice, error) {
	there, err := mirror.Find(ctx, r, Name)
	if errors.Is(err, mirror.ErrDenied) || err == nil && there.Name == "" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("see whether a prune is at work: %w", err)
	}
	text, info, err := mirror.Read(ctx, r, Name, maxText)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("see whether a prune is at work: %w", err)
	}
	n := &Notice{Version: info.Version, Stored: info.Modified}
	if err := json.Unmarshal(text, n); err != nil || n.Settle < 0 {
		n.Settle = time.Minute // the notice of an unknown version of the pruner
	}
	return n, nil
}

// Beside checks for a notice while do runs, for a publisher that will object to the deletion of objects if
// there is one. quiet is a time at which there was no notice; zero if that is not known, or if names is
// empty. The error is that of do.
func Beside(ctx context.Context, r Reader, names []string, do func() error) (quiet time.Time, err error) {
	began := time.Now()
	var g defect.Group
	g.Go(func() error {
		if len(names) == 0 {
			return nil
		}
		if n, err := read(ctx, r); err == nil && n == nil {
			quiet = began
		}
		return nil
	})
	err = errors.Join(do(), g.Wait())
	return quiet, err
}

// A Reader can read a notice.
type Reader interface {
	mirror.Reader
	mirror.Lister
}

// A Store can store an objection.
type Store interface {
	Reader
	mirror.Writer
}

// An objection names objects that must not be deleted.
type objection struct {
	Names []string `json:"names"`
}

// Object keeps a pruner from deleting objects. It returns when delete requests that had already begun have
// ended. It reports whether there is a notice: then the caller must check whether the objects are still
// there. Without a notice nothing is stored. quiet is a time at which there was no notice; zero if that is
// not known. Object does not wait for a pruner that has died.
func Object(ctx context.Context, s Store, names []string, quiet time.Time) (noticed bool, err error) {
	if len(names) == 0 || time.Since(quiet) < recent {
		return false, nil
	}
	n, err := read(ctx, s)
	if err != nil || n == nil {
		return false, err
	}
	dead, err := n.object(ctx, s, names)
	if err != nil {
		return true, fmt.Errorf("a prune is at work, and it cannot be kept from deleting what is to be published: %w", err)
	}
	if dead {
		return true, nil
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-time.After(n.Settle):
		return true, nil
	}
}

// object stores an objection, and determines from its time whether the pruner has died.
func (n *Notice) object(ctx context.Context, s Store, names []string) (dead bool, err error) {
	text, err := json.Marshal(objection{slices.Compact(slices.Sorted(slices.Values(names)))})
	if err != nil {
		return false, err
	}
	name := Objections + n.Run + "-" + rand.Text() // a new object each time, since its time of storage is needed
	if err := s.Create(ctx, upload(name, text, layout.Immutable)); err != nil {
		if errors.Is(err, mirror.ErrDenied) && time.Since(n.Stored) > Young { // only the own clock is available
			return true, nil
		}
		return false, err
	}
	info, err := s.Stat(ctx, name)
	if errors.Is(err, mirror.ErrNotExist) {
		return false, nil // a prune has ended
	}
	return info.Modified.Sub(n.Stored) > Dead+n.Settle, err
}

func upload(name string, text []byte, caching string) mirror.Upload {
	return mirror.Upload{Name: name, Content: blob.Bytes(text), Digest: blob.DigestOf(text), Type: "application/json", CacheControl: caching}
}

// ErrAtWork means that a pruner is running.
var ErrAtWork = errors.New("a prune of this mirror is at work")

// Refuse returns ErrAtWork if a pruner is running. It is for a writer that builds an index of all packages
// found, and so could offer packages that the pruner is about to delete.
func Refuse(ctx context.Context, s Store) error {
	n, err := read(ctx, s)
	if err != nil || n == nil {
		return err
	}
	if time.Since(n.Stored) > Dead { // by a clock that may be wrong
		dead, err := n.object(ctx, s, nil)
		if dead || err != nil && !errors.Is(err, mirror.ErrDenied) {
			return err
		}
	}
	return fmt.Errorf("%w, since %s: try again when it has ended", ErrAtWork, n.Began.UTC().Format(time.RFC3339))
}

// A Giver gives notice for a pruner. It is not safe for concurrent use.
type Giver struct {
	store  PrunerStore
	notice Notice
	seen   map[string]bool // objections that were read
}

// A PrunerStore is the part of a mirror that a pruner needs to give notice.
type PrunerStore interface {
	Store
	mirror.Swapper
}

// Give stores a notice. The error is ErrAtWork if another pruner is running or was running less than Alive
// ago. The notice of a dead pruner is replaced. If alone is set, any notice is replaced.
func Give(ctx context.Context, s PrunerStore, run string, settle time.Duration, alone bool) (*Giver, error) {
	was, err := read(ctx, s)
	if err != nil {
		return nil, err
	}
	version := mirror.Absent
	if was != nil {
		if age := time.Since(was.Stored); age < Alive && !alone {
			return nil, fmt.Errorf("%w, since %s: if it was killed, try again in %s", ErrAtWork, was.Began.UTC().Format(time.RFC3339), (Alive - age).Round(time.Second))
		}
		version = was.Version
	}
	g := &Giver{store: s, notice: Notice{Run: run, Began: time.Now().UTC(), Settle: settle, Version: version}, seen: make(map[string]bool)}
	err = g.Renew(ctx)
	if errors.Is(err, mirror.ErrConflict) {
		err = ErrAtWork
	}
	return g, err
}

// Renew shows that the pruner is alive. The error is mirror.ErrConflict if another pruner has considered this
// one dead: then nothing more may be deleted.
func (g *Giver) Renew(ctx context.Context) error {
	g.notice.Beat++
	text, err := json.Marshal(g.notice)
	if err != nil {
		return err
	}
	version, err := g.store.Swap(ctx, upload(Name, text, layout.Revalidate), g.notice.Version)
	if err != nil {
		return fmt.Errorf("give notice: %w", err)
	}
	g.notice.Version = version
	return nil
}

// Stored returns when the notice was last stored, by the clock of the mirror.
func (g *Giver) Stored(ctx context.Context) (time.Time, error) {
	info, err := g.store.Stat(ctx, Name)
	if err == nil && info.Version != g.notice.Version {
		err = ErrAtWork
	}
	return info.Modified, err
}

// Version returns the version of the notice that was stored last.
func (g *Giver) Version() mirror.Version { return g.notice.Version }

// Spared returns the names of new objections. An objection that cannot be read is an error.
func (g *Giver) Spared(ctx context.Context) ([]string, error) {
	var names []string
	for info, err := range g.store.List(ctx, mirror.Range{Prefix: Objections}) {
		if err != nil {
			return nil, fmt.Errorf("objections of publishers: %w", err)
		}
		if g.seen[info.Name] {
			continue
		}
		text, _, err := mirror.Read(ctx, g.store, info.Name, maxText)
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			return nil, fmt.Errorf("objections of publishers: %w", err)
		}
		var o objection
		if err == nil && json.Unmarshal(text, &o) != nil {
			return nil, fmt.Errorf("%s is no objection of a publisher: delete it", info.Name)
		}
		g.seen[info.Name] = true
		names = append(names, o.Names...)
	}
	return names, nil
}

// IsOurs reports whether an object below lead.Dir belongs to a prune.
func IsOurs(name string) bool { return strings.HasPrefix(name, Dir) }
