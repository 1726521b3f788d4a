package publish

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Options say what a publish may and must do.
type Options struct {
	Selection source.Selection
	Trust     buildcache.Trust
	Sign      Signing

	// Index says what becomes of the index. Default: IndexMerge.
	Index IndexMode
	// Views are named indices that get all that is published, and of what that depends on all that the mirror holds.
	Views []string
	// Upstream are packages that clients get from another mirror: they are not published. Nil: there is no such mirror.
	Upstream map[spec.Hash]bool
	// IfExists says what becomes of a package that the destination holds with another
	// document: signed again, or rebuilt. Default: Skip.
	IfExists IfExists
	// Downgrade lets Overwrite replace a signed document by one that is not signed.
	Downgrade bool
	// KeepGoing publishes what is good although something else is bad.
	KeepGoing bool
	// Licences, if set, keep packages out that may not be redistributed: they are refused or, with Route, left to
	// another publish.
	Licences *licence.Rules
	Route    bool
	// Promotion, if set, leaves a record of what was stored under these terms, before the index names it.
	Promotion *promotion.Terms
	// VerifySource checks the content of packages that the destination holds already.
	VerifySource bool
}

// An IndexMode says what becomes of the index.
type IndexMode string

// The index gets what is published and what it lacks; or is rebuilt from everything that
// is there; or is left alone.
const (
	IndexMerge   IndexMode = "merge"
	IndexRebuild IndexMode = "rebuild"
	IndexNone    IndexMode = "none"
)

// IfExists says what becomes of a package that is there with another document.
type IfExists string

// It stays as it is; or is replaced; or stops the run.
const (
	Skip      IfExists = "skip"
	Overwrite IfExists = "overwrite"
	Refuse    IfExists = "error"
)

// A Status is what a plan does with a package.
type Status string

// What becomes of a package or a file.
const (
	New       Status = "new"
	Unchanged Status = "unchanged"
	Skipped   Status = "skipped"  // there with another document, which stays
	Replaced  Status = "replaced" // there with another document, which goes
	Repaired  Status = "repaired" // there with the same document, and without some of its content, which is sent again
	Rejected  Status = "rejected"
	Routed    Status = "routed"    // may not be published here, and is meant for another destination
	Upstream  Status = "upstream"  // offered by an upstream mirror, and so not published
	Withdrawn Status = "withdrawn" // from the destination: it is not published until that is undone
)
