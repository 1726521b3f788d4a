// Package history keeps the history of an index: one record for each time that the index was replaced.
//
// A record is written before the pointer is replaced, and the pointer names it. So the valid records are those
// that can be reached from the pointer, each through the parent of the next. Only one of several racing
// publishers replaces the pointer, so the chain never forks. The record of a publisher that lost, or died,
// cannot be reached.
//
// Records are plain JSON below Dir. Clients do not read them, and the prune of Spack ignores them. Their names
// begin with a number that falls as generations rise, so a listing yields the newest first and may stop early.
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

// Dir is the directory of records, below the root of the mirror.
const Dir = ".history/"

// A Record describes one replacement of an index.
type Record struct {
	Generation int       `json:"generation"` // number of indices so far, including this one
	ID         string    `json:"id"`
	Parent     *Parent   `json:"parent,omitempty"` // the replaced index; nil: none
	Digest     string    `json:"digest"`           // of the index; of several indices with a + between them
	Packages   int       `json:"packages"`         // number of offered packages
	Time       time.Time `json:"time"`
	Author
	Added   []string `json:"added"` // name@version/hash of each package that the parent did not offer
	Removed []string `json:"removed"`
	Past             // as in the pointer, to restore it if another program has replaced the pointer
}

// A Parent is a replaced index. It has no record if another program wrote it.
type Parent struct {
	Generation int    `json:"generation"`
	ID         string `json:"id,omitempty"`
	Digest     string `json:"digest,omitempty"`
}

// An Author says on whose behalf an index is replaced, and by which command.
type Author struct {
	Command string `json:"command"`
	By      string `json:"by,omitempty"`     // who: user@host, or the repository and ref of a workflow
	Run     string `json:"run,omitempty"`    // address of the run of a workflow
	Reason  string `json:"reason,omitempty"` // given with the command
}

// A Past is the part of a pointer about the origin of its index, and the packages kept out of the index.
type Past struct {
	// Epoch changes with each index that is not the previous one plus packages. It is part of the index, so
	// that no two pointers name the same index: a client with the ETag of one would lose its copy through the
	// other.
	Epoch string `json:"epoch,omitempty"`
	// Withdrawn are the packages that may not be offered until their withdrawal is undone.
	Withdrawn map[spec.Hash]Withdrawal `json:"withdrawn,omitempty"`
	// Withheld are packages that a rollback took out. They stay out until they are published again.
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

func (w Withdrawal) String() string { return "it " + w.why() }

func (w Withdrawal) why() string {
	return fmt.Sprintf("was withdrawn on %s: %s", w.Time.Format(time.DateOnly), w.Reason)
}

// A Place names the generation of a pointer and its record.
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

// Withdrawing returns the past with one more withdrawn package. A withheld package stays withheld when that is
// undone.
func (p Past) Withdrawing(h spec.Hash, w Withdrawal) Past {
	return p.And(Past{Withdrawn: map[spec.Hash]Withdrawal{h: w}})
}

// Restoring returns the past without a withdrawal.
func (p Past) Restoring(h spec.Hash) Past {
	p.Withdrawn = maps.Clone(p.Withdrawn)
	delete(p.Withdrawn, h)
	return p.Normal()
}

// Withholding returns the past with more withheld packages.
func (p Past) Withholding(hashes ...spec.Hash) Past { return p.And(Past{Withheld: hashes}) }

// And returns the past that keeps out the packages of both.
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

// WithdrawnNeeds says which withdrawn packages a package needs at installation: clients cannot install it from
// this mirror. s is nil if it was not read.
func (p Past) WithdrawnNeeds(s *spec.Spec) []string {
	if s == nil || len(p.Withdrawn) == 0 {
		return nil
	}
	var reasons []string
	for _, n := range s.Needed() {
		if w, ok := p.Withdrawn[n.Hash]; ok {
			reasons = append(reasons, fmt.Sprintf("clients cannot install it from this mirror: it needs %s/%s, which %s", w.Package, n.Hash.Short(), w.why()))
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

// Releasing returns the past without the withheld packages for which offered returns true.
func (p Past) Releasing(offered func(spec.Hash) bool) Past {
	if slices.ContainsFunc(p.Withheld, offered) {
		p.Withheld = slices.DeleteFunc(slices.Clone(p.Withheld), offered)
	}
	return p
}

// NewID returns the ID of the record of the generation after parent, given the digest of the packages in its
// index. Two publishers that make the same step make the same record.
func NewID(generation int, parent *Parent, digest string) string {
	var before string
	if parent != nil {
		before = cmp.Or(parent.ID, parent.Digest)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s", generation, before, digest))
	return hex.EncodeToString(sum[:16])
}

// PackageName returns the name of a package in a record: name@version/hash.
func PackageName(name, version string, h spec.Hash) string {
	return name + "@" + version + "/" + string(h)
}

// HashOf returns the hash in the name of a package in a record.
func HashOf(name string) spec.Hash { return spec.Hash(name[strings.LastIndexByte(name, '/')+1:]) }
