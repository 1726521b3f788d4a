package reindex

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// An Expectation is what clients must see of one index.
type Expectation struct {
	Path   string // of its mirror, below DESTINATION
	Digest string // of the index that the mirror has now; empty if it has none

	Layout   buildcache.Layout
	Packages []spec.Hash // packages of this run that the index offers
	Without  []spec.Hash // packages that it no longer offers
}

// Pointers returns the names, below DESTINATION, of the index objects that a client reads.
func (s Expectation) Pointers() []string { return buildcache.Pointers(s.Path, s.Layout) }

// MergeExpectations merges expectations of the same mirror and index: the digest is that of the last one, the
// packages are those of all. So each index is read once, for any number of runs.
func MergeExpectations(all []Expectation) []Expectation {
	type place struct{ path, index string }
	at := make(map[place]int)
	var merged []Expectation
	for _, s := range all {
		p := place{s.Path, s.Layout.IndexID()}
		i, known := at[p]
		if !known {
			at[p] = len(merged)
			s.Packages = slices.Clone(s.Packages)
			merged = append(merged, s)
			continue
		}
		has := func(h spec.Hash) bool { return slices.Contains(s.Packages, h) }
		not := func(h spec.Hash) bool { return slices.Contains(s.Without, h) }
		was := merged[i]
		s.Packages = append(s.Packages, slices.DeleteFunc(was.Packages, not)...)
		s.Without = append(slices.DeleteFunc(slices.Clone(was.Without), has), s.Without...)
		merged[i] = s
	}
	for i := range merged {
		slices.Sort(merged[i].Packages)
		merged[i].Packages = slices.Compact(merged[i].Packages)
	}
	return merged
}

// expectationText is the JSON form of an Expectation.
type expectationText struct {
	Path     string      `json:"path"`
	Pointers []string    `json:"pointers"` // for releases that read it; follows from the other members
	Digest   string      `json:"digest,omitempty"`
	Layout   string      `json:"layout"`
	View     string      `json:"view,omitempty"`
	Packages []spec.Hash `json:"packages"`
	Without  []spec.Hash `json:"without,omitempty"`
}

// MarshalJSON encodes the expectation, so that another process can check it later.
func (s Expectation) MarshalJSON() ([]byte, error) {
	return json.Marshal(expectationText{s.Path, s.Pointers(), s.Digest, s.Layout.Name(), s.Layout.ViewName(), s.Packages, s.Without})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Expectation) UnmarshalJSON(text []byte) error {
	var t expectationText
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	l, ok := buildcache.LayoutNamed(t.Layout)
	if ok && t.View != "" {
		l, ok = l.View(t.View)
	}
	if !ok {
		return fmt.Errorf("layout %q is not known, or has no views", t.Layout)
	}
	*s = Expectation{t.Path, t.Digest, l, t.Packages, t.Without}
	return nil
}

// Unmet returns why a client that reads the mirror through r, such as a CDN, does not see what is expected.
// It is empty if the client does, in the expected index or in a newer one.
func (s Expectation) Unmet(ctx context.Context, r mirror.Reader) (string, error) {
	p, err := s.Layout.ReadPointer(ctx, r)
	if err != nil {
		return "", err
	}
	if p.Version == mirror.Absent && s.Digest != "" {
		return "there is no index", nil
	}
	if digest := p.Digest(); digest != "" && digest == s.Digest {
		return "", nil
	}
	if s.Digest != "" && lead.Follows(ctx, r, s.Layout.IndexID(), p.Digest(), s.Digest) {
		return "", nil // others have added to the expected index
	}
	x, err := loadIndex(ctx, s.Layout, r, p)
	if err != nil {
		return "", err
	}
	for _, h := range s.Packages {
		if !x.Has(h) {
			return "the index is an older one", nil
		}
	}
	for _, h := range s.Without {
		if x.Has(h) {
			return "the index is an older one", nil
		}
	}
	return "", nil
}
