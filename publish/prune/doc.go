// Package prune deletes from a mirror what is no longer needed: packages that no rule keeps, what nothing points at,
// superseded indices, and what publishers that died have left.
//
// New makes a plan and only reads. Plan.Apply carries it out, in the order of publishing reversed: the offers in the index go
// first, then the documents of packages, then what they point at. Between these it waits, so that a client that holds an older
// index finds all that the index names. Before it deletes anything it reads the mirror again, and deletes only what both
// readings found unneeded. Package notice keeps publishers and a prune apart.
//
// What cannot be proved to be unneeded stays: objects that this package does not know, everything that is young, and, where a
// document cannot be read, all that it may point at.
package prune

import (
	"crypto/sha256"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/notice"
)

// Options say what is kept, and how careful a prune is.
type Options struct {
	Keep Keep
	// MinAge is the age below which nothing is deleted. It must be at least notice.Young twice where others write.
	MinAge time.Duration
	// Grace is how long a client may work with an index that it has read. A prune waits as long between its steps.
	Grace time.Duration
	// Settle is how long a publisher that objects waits, and twice as long as a request that deletes may take.
	Settle time.Duration
	// Alone says that no other program writes to the mirror or reads from it. Then a prune does not wait for another one either.
	Alone bool
	// AllowEmpty lets the rules keep nothing of a mirror.
	AllowEmpty bool
	// Now is the time by the clock of the mirror. Zero: that of the host.
	Now time.Time
	// Listing, if set, yields the content that is probably there, and takes the place of listing it for the plan, in layout v3. Documents are
	// listed all the same, and what is to be deleted is looked at again.
	Listing iter.Seq2[mirror.Info, error]
}

// Defaults are the options where nothing else is said: every package is kept, and what is deleted is old.
func Defaults() Options {
	return Options{Keep: Keep{Views: true, Generations: 10, Withdrawn: 365 * 24 * time.Hour}, MinAge: 24 * time.Hour, Grace: 15 * time.Minute, Settle: notice.Fresh / 10}
}

// A Store is what a plan is made of.
type Store interface {
	mirror.Reader
	mirror.Lister
}

// A key identifies what documents point at: in layout v3 the digest, in v2 what follows from the name that document and tarball
// share.
type key [sha256.Size]byte

// keyOf returns the key of an object that documents may point at. It is false for an object that is not known.
func keyOf(f buildcache.Layout, name string) (key, bool) {
	if f.NamesContent() {
		d, err := blob.ParseDigest(path.Base(name))
		if err != nil {
			return key{}, false
		}
		if want, _ := f.BlobName(d); want != name {
			return key{}, false
		}
		return key(d), true
	}
	if _, ok := f.ParseTarballName(name); !ok {
		return key{}, false
	}
	return stemKey(strings.TrimSuffix(path.Base(name), ".spack")), true
}

func stemKey(stem string) key { return sha256.Sum256([]byte(stem)) }
