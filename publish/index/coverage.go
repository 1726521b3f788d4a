package index

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Coverage says which packages an index offers, in a few bytes per package name: how
// many hashes of that name, and a sum over them. We keep it in the index manifest, whose
// further members Spack ignores, so that a publisher who has listed a mirror knows
// whether the index names all that is there without reading the index itself.
type Coverage map[string]Sum

// A Sum stands for a set of hashes. It does not depend on their order. It is no
// defence against somebody who may write to the mirror: they could write the index as well.
type Sum struct {
	Count int
	Total uint64 // of the FNV-1a of each hash, modulo 2^64
}

// coverageText is about how many bytes of text one name takes.
const coverageText = 38

// UnmarshalJSONFrom reads what json.Marshal writes of a Coverage. Every publisher reads one with each pointer, and through
// reflection that took a quarter of all its processor time.
func (c *Coverage) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == 'n' {
		*c = nil
		return dec.SkipValue()
	}
	if t, err := dec.ReadToken(); err != nil || t.Kind() != '{' {
		return cmp.Or(err, errors.New("coverage: want an object"))
	}
	all := make(Coverage, len(dec.UnreadBuffer())/coverageText)
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		key := name.String() // before the next token
		text, err := dec.ReadToken()
		if err != nil || text.Kind() != '"' {
			return cmp.Or(err, fmt.Errorf("coverage of %q: want a string", key))
		}
		var sum Sum
		if err := sum.UnmarshalText([]byte(text.String())); err != nil {
			return err
		}
		all[key] = sum
	}
	*c = all
	_, err := dec.ReadToken()
	return err
}

// Add puts one more package into the set. Adding it twice is a mistake.
func (c Coverage) Add(name string, h spec.Hash) {
	f := fnv.New64a()
	f.Write([]byte(h))
	s := c[name]
	c[name] = Sum{s.Count + 1, s.Total + f.Sum64()}
}

// MarshalText writes "count-total", the total in hexadecimal.
func (s Sum) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d-%016x", s.Count, s.Total), nil
}

// UnmarshalText reads what MarshalText wrote.
func (s *Sum) UnmarshalText(text []byte) error {
	count, total, _ := strings.Cut(string(text), "-")
	n, countErr := strconv.ParseUint(count, 10, 31)
	sum, totalErr := strconv.ParseUint(total, 16, 64)
	if countErr != nil || totalErr != nil {
		return fmt.Errorf("coverage %q: want count-total", text)
	}
	*s = Sum{int(n), sum}
	return nil
}

// Is reports whether the set of a name is hashes.
func (c Coverage) Is(name string, hashes []spec.Hash) bool {
	set := make(Coverage)
	for _, h := range hashes {
		set.Add(name, h)
	}
	return c[name] == set[name]
}

// Len is how many packages are in all the sets.
func (c Coverage) Len() int {
	n := 0
	for _, s := range c {
		n += s.Count
	}
	return n
}
