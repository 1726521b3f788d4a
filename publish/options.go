package publish

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/promotion"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Options are the settings of a publish.
type Options struct {
	Selection source.Selection
	Trust     buildcache.Trust
	Sign      Signing

	// Index says how the index is updated. Default: IndexMerge.
	Index IndexMode
	// Views are named indices that get all published packages, and those of their dependencies that the
	// mirror holds.
	Views []string
	// Upstream are packages that clients get from another mirror. They are not published. Nil: there is no
	// such mirror.
	Upstream map[spec.Hash]bool
	// IfExists says what is done with a package that the destination holds with another document, for example
	// because it was rebuilt or signed again. Default: Skip.
	IfExists IfExists
	// Downgrade lets Overwrite replace a signed document by one that is not signed.
	Downgrade bool
	// KeepGoing publishes the good packages although others are bad.
	KeepGoing bool
	// Licences, if set, keep out packages that may not be redistributed. They are refused or, with Route,
	// left to another publish.
	Licences *licence.Rules
	Route    bool
	// Promotion, if set, records what was stored under these terms before the index names it.
	Promotion *promotion.Terms
	// VerifySource also checks the source's content of packages that the destination already holds.
	VerifySource bool
}

// An IndexMode says how a publish updates the index.
type IndexMode string

// IndexMerge adds the published packages and those that the index lacks. IndexRebuild rebuilds the index from
// all packages of the mirror. IndexNone leaves the index alone.
const (
	IndexMerge   IndexMode = "merge"
	IndexRebuild IndexMode = "rebuild"
	IndexNone    IndexMode = "none"
)

// IfExists says what is done with a package that the destination holds with another document.
type IfExists string

// Skip keeps the destination's document. Overwrite replaces it. Refuse stops the run.
const (
	Skip      IfExists = "skip"
	Overwrite IfExists = "overwrite"
	Refuse    IfExists = "error"
)

// A Status says what a plan does with a package or a file.
type Status string

const (
	New       Status = "new"
	Unchanged Status = "unchanged"
	Skipped   Status = "skipped"  // the destination's document differs and stays
	Replaced  Status = "replaced" // the destination's document differs and is replaced
	Repaired  Status = "repaired" // the same document is there, but content is missing and is sent again
	Rejected  Status = "rejected"
	Routed    Status = "routed"    // may not be published here, and is meant for another destination
	Upstream  Status = "upstream"  // not published, because an upstream mirror offers it
	Withdrawn Status = "withdrawn" // withdrawn from the destination: not published until the withdrawal is undone
)
