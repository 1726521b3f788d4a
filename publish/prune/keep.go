package prune

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Keep says which packages are kept: the packages that any rule names, and all their dependencies of any type.
// Without a rule all packages are kept.
type Keep struct {
	Newer    time.Duration      // packages whose document is younger; 0 for no rule
	Versions int                // packages of so many newest versions of each name; 0 for no rule
	Hashes   map[spec.Hash]bool // packages of a keep list or of lock files; nil for no rule
	Roots    []Root             // packages that match any of these
	Used     map[spec.Hash]bool // packages that clients have fetched; nil for no rule
	Views    bool               // also packages that named indices offer; not a rule by itself
	// Generations is the number of older generations of each index that stay complete, for clients that have read
	// one of them.
	Generations int
	// Offered makes a rule of Generations: it keeps the packages that any of so many generations offered, including
	// the current one, so that a rollback to each of them is possible.
	Offered bool
	// Withdrawn is how long a withdrawn package can be restored; 0 means without limit.
	Withdrawn time.Duration
}

// A Root is a query and its text.
type Root struct {
	*query.Query
	Text string
}

func (k Keep) rules() bool {
	return k.Newer > 0 || k.Versions > 0 || k.Hashes != nil || k.Used != nil || k.Offered || len(k.Roots) > 0
}

// ParseList reads a keep list as Spack's prune does: one hash per line, with or without a leading slash.
func ParseList(text []byte) ([]spec.Hash, error) {
	var all []spec.Hash
	in := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; in.Scan(); n++ {
		h, err := spec.ParseHash(strings.TrimPrefix(strings.TrimSpace(in.Text()), "/"))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w, and nothing else on the line", n, err)
		}
		all = append(all, h)
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("it is empty: with an empty list every package would be deleted")
	}
	return all, nil
}

// An EmptyError reports that no rule keeps any package of a mirror, which is more likely a mistake than intended.
type EmptyError struct {
	Layout   string
	Packages int
}

func (e *EmptyError) Error() string {
	return fmt.Sprintf("no rule keeps any of the %d packages of the %s mirror", e.Packages, e.Layout)
}

// kept returns the documents that stay.
func (s *scan) kept(ctx context.Context, o Options) ([]bool, error) {
	stay := make([]bool, len(s.documents))
	if !o.Keep.rules() {
		for i := range stay {
			stay[i] = true
		}
		return stay, nil
	}
	roots, err := s.roots(ctx, o)
	if err != nil {
		return nil, err
	}
	if o.Keep.Offered {
		s.unrelated = append(s.unrelated, s.unrecorded...)
	}
	in := s.graph.closure(roots)
	for i := range s.documents {
		d := &s.documents[i]
		stay[i] = in[d.node] || d.tombstone || d.points == nil
	}
	if slices.Contains(stay, false) && !o.AllowEmpty && len(s.unrelated) == 0 && !s.keeps(roots, in) {
		return nil, &EmptyError{Layout: s.layout.Name(), Packages: s.packages()}
	}
	return stay, nil
}

// packages returns the number of packages that have documents and are not withdrawn.
func (s *scan) packages() int {
	n := 0
	for i := range s.documents {
		if !s.documents[i].tombstone {
			n++
		}
	}
	return n
}

// keeps reports whether rules keep a package. in is the closure of the roots. Withdrawn packages, and packages that
// only they need, do not count.
func (s *scan) keeps(roots []int32, in []bool) bool {
	withdrawn := make(map[int32]bool)
	for i := range s.documents {
		if s.documents[i].tombstone {
			withdrawn[s.documents[i].node] = true
		}
	}
	if len(withdrawn) > 0 {
		in = s.graph.closure(slices.DeleteFunc(slices.Clone(roots), func(at int32) bool { return withdrawn[at] }))
	}
	return slices.ContainsFunc(s.documents, func(d document) bool { return in[d.node] && !d.tombstone })
}

// roots returns the packages that rules name, and those with young documents.
func (s *scan) roots(ctx context.Context, o Options) ([]int32, error) {
	k := o.Keep
	newest := s.newest(k.Versions)
	var roots []int32
	for i := range s.documents {
		d := &s.documents[i]
		age := s.now.Sub(time.Unix(d.modified, 0))
		if age < o.MinAge || age < k.Newer || newest[d.node] || k.Hashes[d.hash] || k.Used[d.hash] {
			roots = append(roots, d.node)
		}
	}
	if k.Offered {
		for at, n := range s.graph.nodes {
			if n.offered || s.removed[n.hash] {
				roots = append(roots, int32(at))
			}
		}
	}
	if k.Views {
		roots = append(roots, s.views...)
	}
	found := false
	for h := range k.Hashes {
		if at, ok := s.graph.at[h]; ok {
			roots = append(roots, at)
			found = true
		}
	}
	unmatched := make(map[string]string)
	if k.Hashes != nil && !found {
		s.findings = append(s.findings, buildcache.Warning.In(s.layout.IndexNames()[0], "it has none of the packages in the lists and lock files of what is kept"))
		unmatched[""] = "none of the packages in these files is there"
	}
	if len(k.Roots) == 0 {
		s.unmatched = unmatched
		return roots, nil
	}
	inv, err := inventory.Read(ctx, s.reader, "")
	if errors.Is(err, inventory.ErrNoIndex) || len(s.unrelated) > 0 {
		return roots, ctx.Err() // without dependencies no package is deleted
	}
	if err != nil {
		return nil, err
	}
	for _, root := range k.Roots {
		builds := inv.Select(root.Query)
		if len(builds) == 0 {
			meant := inv.Misnamed(root.Query)
			s.findings = append(s.findings, buildcache.Warning.In(s.layout.IndexNames()[0], fmt.Sprintf("no package in it matches %s, which is to be kept%s", root.Text, meant)))
			unmatched[root.Text] = "no package matches it" + meant
		}
		for _, b := range builds {
			if at, ok := s.graph.at[spec.Hash(b.Hash)]; ok {
				roots = append(roots, at)
			}
		}
	}
	s.unmatched = unmatched
	return roots, nil
}

// BothUnmatched returns the rules that match nothing in either of two layouts or mirrors. nil means that this is
// unknown for one of them.
func BothUnmatched(a, b map[string]string) map[string]string {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	both := make(map[string]string)
	for rule, why := range a {
		if other, ok := b[rule]; ok {
			both[rule] = why
			if len(other) > len(why) { // it suggests what was meant
				both[rule] = other
			}
		}
	}
	return both
}

// A build is a package whose version is compared with others of its name.
type build struct {
	node    int32
	version query.Version
	known   bool
}

// newest returns the packages of the n newest versions of each name with documents. Withdrawn packages, and
// packages that no index offers, do not count towards the n versions.
func (s *scan) newest(n int) map[int32]bool {
	if n <= 0 {
		return nil
	}
	byName := make(map[string][]build)
	for i := range s.documents {
		d := &s.documents[i]
		r := &s.graph.nodes[d.node]
		if !r.known || d.tombstone {
			continue
		}
		v, err := query.ParseVersion(r.version)
		byName[r.name] = append(byName[r.name], build{d.node, v, err == nil})
	}
	in := make(map[int32]bool)
	for _, builds := range byName {
		addNewest(in, builds, n)
		addNewest(in, slices.DeleteFunc(builds, func(b build) bool { return !s.graph.nodes[b.node].offered }), n)
	}
	return in
}

// addNewest adds the packages of the n newest versions of a name.
func addNewest(in map[int32]bool, builds []build, n int) {
	slices.SortFunc(builds, func(a, b build) int { return b.version.Compare(a.version) })
	versions := 0
	for i, b := range builds {
		if i == 0 || b.version.Compare(builds[i-1].version) != 0 {
			versions++
		}
		if versions <= n || !b.known {
			in[b.node] = true
		}
	}
}
