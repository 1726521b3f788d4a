// Package history keeps what became of an index: one record for each time that it was replaced.
//
// A record is written before the pointer is replaced, and the pointer names it. So the records that count are those that can be
// reached from the pointer, each through the one that it names as its parent. Of publishers that race, one replaces the pointer, so
// the chain never forks. The record of one that lost, or died, is reached by nothing.
//
// Records are plain JSON below Dir. No client reads them, and the prune of Spack leaves them alone. Their names begin
// with a number that falls as generations rise, so a listing yields the newest first and need not go on.
package history

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Dir is where records are, below the root of the mirror.
const Dir = ".history/"

// A Record says how an index replaced the one before.
type Record struct {
	Generation int       `json:"generation"` // how many indices there have been, this one included
	ID         string    `json:"id"`
	Parent     *Parent   `json:"parent,omitempty"` // that was replaced; nil: there was none
	Digest     string    `json:"digest"`           // of the index; of several indices with a + between them
	Packages   int       `json:"packages"`         // that it offers
	Time       time.Time `json:"time"`
	Author
	Added   []string `json:"added"` // name@version/hash of each package that the one before did not offer
	Removed []string `json:"removed"`
	Past             // as the pointer has it, so that it can be restored when another program has replaced the pointer
}

// A Parent is the index that another one has replaced. It has no record if another program wrote it.
type Parent struct {
	Generation int    `json:"generation"`
	ID         string `json:"id,omitempty"`
	Digest     string `json:"digest,omitempty"`
}

// An Author says on whose behalf an index is replaced, and by what.
type Author struct {
	Command string `json:"command"`
	By      string `json:"by,omitempty"`     // who: user@host, or the repository and ref of a workflow
	Run     string `json:"run,omitempty"`    // address of the run of a workflow
	Reason  string `json:"reason,omitempty"` // that was given with the command
}

// A Past is what a pointer says of how its index came about, and which packages are kept out of it.
type Past struct {
	// Epoch changes with each index that is not the one before and more packages. It is part of the index, so that
	// no two pointers name the same index: a client that holds the ETag of the one would lose its copy by the other.
	Epoch string `json:"epoch,omitempty"`
	// Withdrawn are the packages that may not be offered until their withdrawal is undone.
	Withdrawn map[spec.Hash]Withdrawal `json:"withdrawn,omitempty"`
	// Withheld are packages that were taken out by a rollback. They stay out until they are published again.
	Withheld []spec.Hash `json:"withheld,omitempty"`
}

// A Withdrawal says why a package may not be offered.
type Withdrawal struct {
	Package  string    `json:"package"`  // name@version
	Document string    `json:"document"` // the name of its document
	Reason   string    `json:"reason"`
	Time     time.Time `json:"time"`
	By       string    `json:"by,omitempty"`
}

func (w Withdrawal) String() string {
	return fmt.Sprintf("it was withdrawn on %s: %s", w.Time.Format(time.DateOnly), w.Reason)
}

// A Place says which generation a pointer is of, and names its record.
type Place struct {
	Generation int    `json:"generation,omitzero"` // 0: not known
	Record     string `json:"record,omitempty"`    // ID; empty: it could not be written
}

// IsWithheld reports whether a package is withheld.
func (p Past) IsWithheld(h spec.Hash) bool {
	_, held := slices.BinarySearch(p.Withheld, h)
	return held
}

// Equal reports whether two pasts keep out the same packages for the same reasons, in the same epoch.
func (p Past) Equal(q Past) bool {
	return p.Epoch == q.Epoch && slices.Equal(p.Withheld, q.Withheld) && maps.Equal(p.Withdrawn, q.Withdrawn)
}

// Withdrawing returns the past with one more package withdrawn. One that is withheld stays so when that is undone.
func (p Past) Withdrawing(h spec.Hash, w Withdrawal) Past {
	return p.And(Past{Withdrawn: map[spec.Hash]Withdrawal{h: w}})
}

// Restoring returns the past with a package withdrawn no more.
func (p Past) Restoring(h spec.Hash) Past {
	p.Withdrawn = maps.Clone(p.Withdrawn)
	delete(p.Withdrawn, h)
	return p.Normal()
}

// Withholding returns the past with more packages withheld.
func (p Past) Withholding(hashes ...spec.Hash) Past { return p.And(Past{Withheld: hashes}) }

// And returns the past that keeps out what either of two does.
func (p Past) And(q Past) Past {
	p.Withheld = slices.Concat(p.Withheld, q.Withheld)
	withdrawn := maps.Clone(p.Withdrawn)
	if withdrawn == nil {
		withdrawn = make(map[spec.Hash]Withdrawal)
	}
	maps.Copy(withdrawn, q.Withdrawn)
	p.Withdrawn = withdrawn
	return p.Normal()
}

// WithdrawnNeeds says what is withdrawn of that which a package needs when it is installed: clients cannot install it from this mirror. s is
// nil where it was not read.
func (p Past) WithdrawnNeeds(s *spec.Spec) []string {
	if s == nil || len(p.Withdrawn) == 0 {
		return nil
	}
	var reasons []string
	for _, n := range s.Needed() {
		if w, ok := p.Withdrawn[n.Hash]; ok {
			reasons = append(reasons, fmt.Sprintf("clients cannot install it from this mirror: it needs %s/%s, and %s", w.Package, n.Hash.Short(), w))
		}
	}
	return reasons
}

// Normal returns the past with its hashes in order, each once.
func (p Past) Normal() Past {
	p.Withheld = slices.Clone(p.Withheld)
	slices.Sort(p.Withheld)
	p.Withheld = slices.Compact(p.Withheld)
	if len(p.Withdrawn) == 0 {
		p.Withdrawn = nil
	}
	return p
}

// Releasing returns the past without the withheld packages that offered reports.
func (p Past) Releasing(offered func(spec.Hash) bool) Past {
	if slices.ContainsFunc(p.Withheld, offered) {
		p.Withheld = slices.DeleteFunc(slices.Clone(p.Withheld), offered)
	}
	return p
}

// NewID identifies the record of the generation after parent, given the digest of what its index offers. Two publishers who
// make the same step make the same record.
func NewID(generation int, parent *Parent, digest string) string {
	var before string
	if parent != nil {
		before = cmp.Or(parent.ID, parent.Digest)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s", generation, before, digest))
	return hex.EncodeToString(sum[:16])
}

// PackageName is how a record names a package: name@version/hash.
func PackageName(name, version string, h spec.Hash) string {
	return name + "@" + version + "/" + string(h)
}

// HashOf is the hash of a package that a record names.
func HashOf(name string) spec.Hash { return spec.Hash(name[strings.LastIndexByte(name, '/')+1:]) }
