package query

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// A query never panics, whatever it holds, and an error points at a place in it.
func FuzzParse(f *testing.F) {
	r := recorded(f)
	g := r.graph(f)
	for _, row := range r.Queries {
		f.Add(row.Query)
	}
	f.Add("@" + strings.Repeat("9", 5000) + ":")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		var syntax *SyntaxError
		if errors.As(err, &syntax) && (syntax.At < 0 || syntax.At > len(text)) {
			t.Fatalf("%q: error at %d", text, syntax.At)
		}
		if err != nil {
			return
		}
		for _, hash := range r.Packages[:10] {
			q.Matches(g, g.Node(hash))
		}
	})
}

// A node that is damaged or hostile is an error, or is read; it never panics.
func FuzzNode(f *testing.F) {
	for _, n := range recorded(f).Nodes {
		f.Add([]byte(n))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		g := NewGraph()
		n, err := g.Add(bytes.Clone(text))
		if err != nil {
			return
		}
		g.Link()
		q, err := Parse("+debug target=zen4: ^mpi %gcc@13 cflags=-O2 " + "/" + "a")
		if err != nil {
			t.Fatal(err)
		}
		q.Matches(g, n)
	})
}

// Versions are ordered: no two are each before the other.
func FuzzVersion(f *testing.F) {
	versions := recorded(f).Versions
	for i, v := range versions {
		f.Add(v, versions[len(versions)-1-i])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		v, err := ParseVersion(a)
		w, err2 := ParseVersion(b)
		if err != nil || err2 != nil {
			return
		}
		if v.Compare(w) != -w.Compare(v) || v.Compare(v) != 0 {
			t.Fatalf("%q and %q: %d and %d", a, b, v.Compare(w), w.Compare(v))
		}
		if !v.git && v.next().Compare(v) <= 0 {
			t.Fatalf("%q is not before the next version", a)
		}
	})
}
