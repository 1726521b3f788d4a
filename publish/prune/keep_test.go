package prune

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// What is not offered takes no place from what is, among the newest versions: neither what was withdrawn nor what an index went back from.
func TestTheNewestVersionsAreThoseOnOffer(t *testing.T) {
	for _, test := range []struct {
		there string // versions that have documents: -: not offered, !: withdrawn
		n     int
		want  string
	}{
		{"1 2 3", 1, "3"},
		{"1 2 3", 2, "2 3"},
		{"1 2 3!", 1, "2"},
		{"1 2! 3!", 1, "1"},
		{"1 2 3-", 1, "2 3"},
		{"1 2- 3!", 1, "1 2"},
		{"1- 2 3", 2, "2 3"},
		{"1! 2!", 1, ""},
	} {
		s := &scan{graph: newGraph()}
		for i, v := range strings.Fields(test.there) {
			hash := spec.Hash(fmt.Sprintf("%032d", i))
			version := strings.TrimRight(v, "-!")
			s.graph.add(&spec.Node{Name: "a", Version: version, Hash: hash}, version == v)
			s.documents = append(s.documents, document{hash: hash, node: s.graph.at[hash], tombstone: strings.HasSuffix(v, "!")})
		}
		var got []string
		for _, at := range slices.Sorted(maps.Keys(s.newest(test.n))) {
			got = append(got, s.graph.nodes[at].version)
		}
		if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%d of %s (-want +got):\n%s", test.n, test.there, diff)
		}
	}
}
