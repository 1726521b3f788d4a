package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Shown is what clients are to see of one index.
type Shown struct {
	Path     string   // of its mirror, below DESTINATION
	Pointers []string // below DESTINATION: what a client reads to learn of packages
	Digest   string   // of the index that the mirror has now; empty if it has none

	format   buildcache.Layout
	packages []spec.Hash // that the index offers, as far as the run is about them
}

// MergeShown makes one of all that are of the same mirror and layout: the index of the last, and the packages
// of all. So an index is read once, however many runs are to be seen in it.
func MergeShown(all []Shown) []Shown {
	type place struct{ path, layout string }
	at := make(map[place]int)
	var merged []Shown
	for _, s := range all {
		p := place{s.Path, s.format.Name()}
		i, known := at[p]
		if !known {
			at[p] = len(merged)
			s.packages = slices.Clone(s.packages)
			merged = append(merged, s)
			continue
		}
		s.packages = append(merged[i].packages, s.packages...)
		merged[i] = s
	}
	for i := range merged {
		slices.Sort(merged[i].packages)
		merged[i].packages = slices.Compact(merged[i].packages)
	}
	return merged
}

// shownText is a Shown as it is written down.
type shownText struct {
	Path     string      `json:"path"`
	Pointers []string    `json:"pointers"`
	Digest   string      `json:"digest,omitempty"`
	Layout   string      `json:"layout"`
	Packages []spec.Hash `json:"packages"`
}

// MarshalJSON writes down what clients are to see, for who looks in another process.
func (s Shown) MarshalJSON() ([]byte, error) {
	return json.Marshal(shownText{s.Path, s.Pointers, s.Digest, s.format.Name(), s.packages})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Shown) UnmarshalJSON(text []byte) error {
	var t shownText
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	for _, f := range buildcache.Layouts() {
		if f.Name() == t.Layout {
			*s = Shown{t.Path, t.Pointers, t.Digest, f, t.Packages}
			return nil
		}
	}
	return fmt.Errorf("layout %q is not known", t.Layout)
}

// Unseen says why a client that reads the mirror through r, such as a CDN, is not told of
// every package. It is empty if the client is: by the index that we know, or by a
// newer one.
func (s Shown) Unseen(ctx context.Context, r mirror.Reader) (string, error) {
	p, err := s.format.ReadPointer(ctx, r)
	if err != nil {
		return "", err
	}
	if p.Version == mirror.Absent && s.Digest != "" {
		return "there is no index", nil
	}
	if digest := p.Digest(); digest != "" && digest == s.Digest {
		return "", nil
	}
	x, err := loadIndex(ctx, s.format, r, p)
	if err != nil {
		return "", err
	}
	for _, h := range s.packages {
		if !x.Has(h) {
			return "the index is an older one", nil
		}
	}
	return "", nil
}
