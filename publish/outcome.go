package publish

import (
	"context"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// An Outcome is the result of a plan.
type Outcome struct {
	Mirrors  []*MirrorOutcome
	Files    []FileOutcome
	Findings []buildcache.Finding // those of the plan, and those found while content was sent
	Objects  int                  // stored
	Bytes    int64
	Stale    []string // fixed names below DESTINATION whose content has changed; caches may have the earlier content
}

// A MirrorOutcome is the result of the plan of one mirror.
type MirrorOutcome struct {
	Path, Layout string
	Packages     []PlannedPackage // with their final status
	Index        Index
	Views        []View
	Untrusted    []string // see MirrorPlan
	Promotion    string   // the name of the record of a promotion; empty: there is none

	format buildcache.Layout
}

// A FileOutcome is the result of a plain file.
type FileOutcome struct {
	Name   string
	Status Status
	WasBy  string // the key whose signature is replaced; empty: none
}

// Expected returns the outcome of the plan if nothing interferes. It writes nothing.
func (p *Plan) Expected() *Outcome {
	out := &Outcome{Findings: slices.Clone(p.Findings)}
	for _, m := range p.Mirrors {
		out.Mirrors = append(out.Mirrors, &MirrorOutcome{
			Path: m.Path, Layout: m.Layout, Packages: slices.Clone(m.Packages), Index: m.Index, Views: slices.Clone(m.Views),
			Untrusted: slices.Clone(m.Untrusted), format: m.format,
		})
	}
	for _, f := range p.Files {
		out.Files = append(out.Files, FileOutcome{f.Name, f.Status, f.Replaces()})
	}
	return out
}

// Expectation returns what clients must see: the packages that this run published or found published.
func (m *MirrorOutcome) Expectation() reindex.Expectation {
	s := reindex.Expectation{Path: m.Path, Digest: m.Index.Digest(), Layout: m.format}
	for _, p := range m.Packages {
		if p.isThere() {
			s.Packages = append(s.Packages, p.Hash)
		}
	}
	return s
}

// Expectations returns what clients must see in the index of the mirror and in its views.
func (m *MirrorOutcome) Expectations() []reindex.Expectation {
	all := []reindex.Expectation{m.Expectation()}
	absent := make(map[spec.Hash]bool)
	for _, p := range m.Packages {
		absent[p.Hash] = !p.isThere()
	}
	for _, v := range m.Views {
		s := v.addition.Expectation(m.Path, v.Index.Digest())
		s.Packages = slices.DeleteFunc(slices.Clone(s.Packages), func(h spec.Hash) bool { return absent[h] })
		if len(s.Packages) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// Pointers returns the names, below DESTINATION, of the index objects that a client reads.
func (m *MirrorPlan) Pointers() []string { return buildcache.Pointers(m.Path, m.format) }

// smallestParts is the size from which a blob may have been sent in parts: S3 takes no smaller one.
const smallestParts = 5 << 20

// Sweep discards unfinished uploads of blobs that the mirror holds: uploads left by a publisher that died
// after another one stored the blob. It checks only if the source has blobs large enough to have been sent in
// parts. It must run after Apply, when all blobs are stored. A publisher that is still sending one of these
// blobs then finds it stored.
func (m *MirrorOutcome) Sweep(ctx context.Context, s mirror.Sweeper) error {
	large := make(map[string]bool)
	for _, p := range m.Packages {
		for _, b := range p.Blobs {
			if b.Size > smallestParts && p.published() {
				large[b.Name] = true
			}
		}
	}
	if len(large) == 0 {
		return nil
	}
	return mirror.DiscardUploads(ctx, s, m.format.Payload(), large)
}
