package query

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// A recording is what real Spack said: see testdata/record.py.
type recording struct {
	Spack    string            `json:"spack"`
	Nodes    []json.RawMessage `json:"nodes"`
	Packages []string          `json:"packages"`
	Queries  []struct {
		Query string `json:"query"`
		Found []int  `json:"found"`
		Error string `json:"error"`
	} `json:"queries"`
	Versions    []string `json:"versions"`
	BadVersions []string `json:"bad_versions"`
	Standard    []string `json:"standard"`
	Order       string   `json:"order"`
	Ranges      []struct {
		Range string `json:"range"`
		Holds string `json:"holds"`
		Error string `json:"error"`
	} `json:"ranges"`
}

func recorded(t testing.TB) *recording {
	t.Helper()
	text, err := os.ReadFile("testdata/satisfies.json")
	if err != nil {
		t.Fatal(err)
	}
	r := new(recording)
	if err := json.Unmarshal(text, r); err != nil {
		t.Fatal(err)
	}
	if len(r.Queries) < 1000 || len(r.Packages) < 50 || len(r.Ranges) < 200 {
		t.Fatalf("%d queries, %d packages, %d ranges are too few", len(r.Queries), len(r.Packages), len(r.Ranges))
	}
	return r
}

func (r *recording) graph(t testing.TB) *Graph {
	t.Helper()
	g := NewGraph()
	for _, n := range r.Nodes {
		if _, err := g.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	g.Link()
	return g
}

// differs are queries for which we decide otherwise than Spack, and why.
var differs = map[string]string{
	"+os": "Spack takes it for os=True", "~target": "Spack takes it for target=False",
	"os=fe": "Spack takes it for the host's", "target=fe": "Spack takes it for the host's",
	"^": "Spack takes it for any dependency", "zlib ^": "Spack takes it for any dependency",
	// A recipe provides c and nothing in the cache was built with it, or the other way round.
	"c": "recipe", "cxx": "recipe", "a b c": "recipe", "a.b.c": "recipe", "%c": "recipe", "%cxx": "recipe", "*%c": "recipe",
}

// versioned reports whether a query asks for a version of a virtual package. In Spack a recipe tells it.
func versioned(query string) bool {
	rest, ok := strings.CutPrefix(query, "mpi")
	return ok && strings.HasPrefix(strings.TrimSpace(rest), "@")
}

// Queries select the packages that Spack's own Spec.satisfies does.
func TestQueriesMatchAsInSpack(t *testing.T) {
	r := recorded(t)
	g := r.graph(t)
	matched := 0
	for _, row := range r.Queries {
		if versioned(row.Query) && row.Query != "mpi@:" {
			continue
		}
		q, err := Parse(row.Query)
		if why, known := differs[row.Query]; known {
			if why != "recipe" && err == nil {
				t.Errorf("%q is accepted, and Spack misunderstands it", row.Query)
			}
			continue
		}
		if (err != nil) != (row.Error != "") {
			t.Errorf("%q: %v, Spack: %q", row.Query, err, row.Error)
		}
		if err != nil || row.Error != "" {
			continue
		}
		var found, want []string
		for i, hash := range r.Packages {
			if q.Matches(g, g.Node(hash)) {
				found = append(found, hash)
			}
			if slices.Contains(row.Found, i) {
				want = append(want, hash)
			}
		}
		matched += len(found)
		if !slices.Equal(found, want) {
			t.Errorf("%q: we find %v,\nSpack finds %v", row.Query, names(g, found), names(g, want))
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matches", matched)
	}
}

func names(g *Graph, hashes []string) string {
	var all []string
	for _, h := range hashes {
		n := g.Node(h)
		all = append(all, n.Name+"@"+n.Version.String()+"/"+h[:7])
	}
	return strings.Join(all, " ")
}

// Versions are ordered as in Spack.
func TestVersionsCompareAsInSpack(t *testing.T) {
	r := recorded(t)
	for i, a := range r.Standard {
		for j, b := range r.Standard {
			want := strings.IndexByte("<=>", r.Order[i*len(r.Standard)+j]) - 1
			if got := versionOf(t, a).Compare(versionOf(t, b)); got != want {
				t.Errorf("%q and %q: %d, Spack: %d", a, b, got, want)
			}
		}
	}
	for _, bad := range r.BadVersions {
		if _, err := ParseVersion(bad); err == nil {
			t.Errorf("%q is no version of Spack", bad)
		}
	}
}

// Ranges hold the versions that they do in Spack.
func TestRangesHoldWhatTheyDoInSpack(t *testing.T) {
	r := recorded(t)
	for _, row := range r.Ranges {
		ranges, err := parseVersions(row.Range)
		if (err != nil) != (row.Error != "") {
			t.Errorf("%q: %v, Spack: %q", row.Range, err, row.Error)
		}
		if err != nil || row.Error != "" {
			continue
		}
		c := constraint{versions: [][]versionRange{ranges}}
		for i, text := range r.Versions {
			if got, want := c.holdsVersion(versionOf(t, text)), row.Holds[i] == '1'; got != want {
				t.Errorf("%q in %q: %t, Spack: %t", text, row.Range, got, want)
			}
		}
	}
}

func versionOf(t testing.TB, text string) Version {
	t.Helper()
	v, err := ParseVersion(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
