// Package prune deletes objects of a mirror that are no longer needed: packages that no rule keeps, objects without
// references, superseded indices, and leftovers of publishers that died.
//
// New makes a plan and only reads. Plan.Apply carries it out in the reverse order of publishing: it removes
// packages from the index, then deletes their documents, then the objects that these point at. It waits between
// these steps, so that a client with an older index finds everything that the index names. Before it deletes
// anything it reads the mirror again, and deletes only objects that both readings found unneeded. Package notice
// keeps publishers and a prune apart.
//
// Objects that cannot be proved to be unneeded stay: objects that this package does not know, all young objects,
// and, if a document cannot be read, everything that it may point at.
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

// Options say what is kept and how careful a prune is.
type Options struct {
	Keep Keep
	// MinAge is the age below which nothing is deleted. If other programs write, it must be at least twice
	// notice.Young.
	MinAge time.Duration
	// Grace is how long a client may use an index that it has read. A prune waits that long between its steps.
	Grace time.Duration
	// Settle is how long an objecting publisher waits. It is twice the maximum time of a request that deletes.
	Settle time.Duration
	// Alone says that no other program writes to the mirror or reads from it. A prune then does not wait for other
	// prunes either.
	Alone bool
	// AllowEmpty permits rules that keep no package of a mirror.
	AllowEmpty bool
	// Now is the time by the clock of the mirror. Zero means that of the host.
	Now time.Time
	// Listing, if set, yields the content that probably exists, and replaces listing it for the plan, in layout v3.
	// Documents are listed in any case, and objects to be deleted are checked again.
	Listing iter.Seq2[mirror.Info, error]
}

// Defaults are the default options: every package is kept, and only old objects are deleted.
func Defaults() Options {
	return Options{Keep: Keep{Views: true, Generations: 10, Withdrawn: 365 * 24 * time.Hour}, MinAge: 24 * time.Hour, Grace: 15 * time.Minute, Settle: notice.Fresh / 10}
}

// A Store is the mirror that a plan is made of.
type Store interface {
	mirror.Reader
	mirror.Lister
}

// A key identifies the target of documents: in layout v3 the digest, in v2 the common part of the names of document
// and tarball.
type key [sha256.Size]byte

// keyOf returns the key of an object that documents may point at. It returns false for unknown objects.
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
