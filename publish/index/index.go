// Package index merges packages into the index of a buildcache.
//
// An index is one JSON document with a record for every package that a mirror offers
// and for everything that these depend on. It grows to hundreds of megabytes, and one
// publish adds a few records, so nothing is decoded that does not change: the
// document is scanned once for where its records are, and the new one is the old
// bytes with a few pieces replaced and the new records put in between. It is never
// held as a second copy.
//
// Records are written in the order of their hashes, so that the bytes of an index
// follow from what it offers and not from who came first: two publishers who make the
// same index make the same blob.
//
// Merging is what Spack's own update-index does over the union: records by hash,
// in_buildcache if either says so, ref_count the number of records that
// depend on one, and everything that a record depends on has a record too.
package index

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Versions of Spack's database format: what an index of each layout is written in.
const (
	V2 = 7 // Spack 0.23
	V3 = 8 // Spack 1.x
)

// A VersionError says that an index has another version than we write.
type VersionError struct{ Got, Want int }

func (e *VersionError) Error() string {
	if e.Newer() {
		return fmt.Sprintf("index has version %d, written by a newer Spack; this release knows %d", e.Got, e.Want)
	}
	return fmt.Sprintf("index has version %d, older than %d", e.Got, e.Want)
}

// Newer reports whether replacing the index would be a downgrade.
func (e *VersionError) Newer() bool { return e.Got > e.Want }

// An Index is an index document to which packages can be added.
type Index struct {
	raw      []byte // the document as it was read
	installs span   // in raw: what is between the braces of installs
	records  []record
	byHash   map[spec.Hash]int    // position in records
	names    map[string]string    // each name once: there are many records of one package
	added    map[spec.Hash][]byte // the packages of new records, verbatim
	changed  bool
}

// recordSize is about what a record takes in a document. So much room is made beforehand, since
// what growing leaves behind would take as much memory again.
const recordSize = 1 << 10

// A span is a piece of raw. The zero span is no piece at all. There may be a million of
// them, so they are small: raw has less than 4 GiB.
type span struct{ from, to uint32 }

func spanOf(from, to int) span { return span{uint32(from), uint32(to)} }

type record struct {
	hash spec.Hash
	name string

	at          span // in raw: the record's object; no piece if the record is new
	node        span // in raw: the package itself
	flag, count span // in raw: the values of in_buildcache and ref_count

	refCount     int32
	inBuildcache bool
	dirty        bool // inBuildcache or refCount is no longer what raw says
}

// New returns an empty index of a version.
func New(version int) *Index {
	x, err := Parse(fmt.Appendf(nil, `{"database":{"version":"%d","installs":{}}}`, version), version)
	if err != nil {
		panic(err) // our own text
	}
	x.changed = true
	return x
}

// Parse reads an index that must have the version. raw is kept and must not change.
func Parse(raw []byte, version int) (*Index, error) {
	if len(raw) > math.MaxUint32 {
		return nil, fmt.Errorf("index has %d bytes, more than 4 GiB", len(raw))
	}
	s := scanner{dec: jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true))}
	room := len(raw) / recordSize
	x := &Index{raw: raw, records: make([]record, 0, room), byHash: make(map[spec.Hash]int, room), names: make(map[string]string), added: make(map[spec.Hash][]byte)}
	got := 0
	err := s.object(func(name string) error {
		if name != "database" {
			return s.dec.SkipValue()
		}
		return s.object(func(name string) error {
			switch name {
			case "version":
				return s.version(&got)
			case "installs":
				from := bytes.IndexByte(raw[s.dec.InputOffset():], '{') + int(s.dec.InputOffset()) + 1
				err := s.object(func(hash string) error { return x.scan(&s, hash) })
				x.installs = spanOf(from, int(s.dec.InputOffset())-1)
				return err
			}
			return s.dec.SkipValue()
		})
	})
	if err == nil {
		_, err = s.dec.ReadToken()
		if err == io.EOF {
			err = nil
		} else if err == nil {
			err = fmt.Errorf("there is something behind it")
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("index is corrupt: %w", err)
	case got == 0 || x.installs == (span{}):
		return nil, fmt.Errorf("index is corrupt: it has no database version or no installs")
	case got != version:
		return nil, &VersionError{Got: got, Want: version}
	}
	return x, nil
}

// A scanner reads tokens and knows where it is.
type scanner struct{ dec *jsontext.Decoder }

// object calls member for every member of the object that comes next; member reads
// the value.
func (s *scanner) object(member func(name string) error) error {
	if t, err := s.dec.ReadToken(); err != nil {
		return err
	} else if t.Kind() != '{' {
		return fmt.Errorf("want an object at %s", s.dec.StackPointer())
	}
	for s.dec.PeekKind() == '"' {
		t, err := s.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := member(t.String()); err != nil {
			return err
		}
	}
	_, err := s.dec.ReadToken()
	return err
}

// value returns the next value and where it is. The bytes are valid until the next read.
func (s *scanner) value() (jsontext.Value, span, error) {
	v, err := s.dec.ReadValue()
	to := int(s.dec.InputOffset())
	return v, spanOf(to-len(v), to), err
}

func (s *scanner) version(got *int) error {
	v, _, err := s.value()
	if err != nil {
		return err
	}
	text := bytes.Trim(v, `"`)
	n, err := strconv.Atoi(string(text))
	if err != nil || n <= 0 {
		return fmt.Errorf("database version is %s", v)
	}
	*got = n
	return nil
}

// scan reads one member of installs.
func (x *Index) scan(s *scanner, hash string) error {
	h, err := spec.ParseHash(hash)
	if err != nil {
		return err
	}
	if _, ok := x.byHash[h]; ok {
		return fmt.Errorf("%s has two records", h)
	}
	r := record{hash: h}
	if s.dec.PeekKind() != '{' {
		return fmt.Errorf("record of %s is no object", h)
	}
	from := bytes.IndexByte(x.raw[s.dec.InputOffset():], '{') + int(s.dec.InputOffset())
	err = s.object(func(name string) error {
		v, at, err := s.value()
		if err != nil {
			return err
		}
		switch name {
		case "spec":
			r.node = at
		case "in_buildcache":
			r.flag, r.inBuildcache = at, v.Kind() == 't'
		case "ref_count":
			n, err := strconv.ParseInt(string(v), 10, 32)
			r.count, r.refCount = at, int32(n)
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record of %s: %w", h, err)
	}
	r.at = spanOf(from, int(s.dec.InputOffset()))
	if r.node == (span{}) {
		return fmt.Errorf("record of %s has no spec", h)
	}
	if r.name, err = x.nameOf(x.text(r.node)); err != nil {
		return fmt.Errorf("record of %s: %w", h, err)
	}
	x.byHash[h] = len(x.records)
	x.records = append(x.records, r)
	return nil
}

func (x *Index) text(s span) []byte { return x.raw[s.from:s.to] }

// nodeOf is the package of a record.
func (x *Index) nodeOf(r *record) []byte {
	if r.node == (span{}) {
		return x.added[r.hash]
	}
	return x.text(r.node)
}

// nameOf reads the name of a node, which Spack writes first.
func (x *Index) nameOf(node []byte) (string, error) {
	if rest, ok := bytes.CutPrefix(node, []byte(`{"name":"`)); ok {
		end := bytes.IndexByte(rest, '"')
		if name := rest[:end]; end > 0 && bytes.IndexByte(name, '\\') < 0 {
			known, ok := x.names[string(name)]
			if !ok {
				known = string(name)
				x.names[known] = known
			}
			return known, nil
		}
	}
	return nodeName(node)
}

// nodeName is nameOf for a node that somebody else wrote.
func nodeName(node []byte) (string, error) {
	s := scanner{dec: jsontext.NewDecoder(bytes.NewBuffer(node), jsontext.AllowDuplicateNames(true))}
	var found string
	err := s.object(func(member string) error {
		if member != "name" {
			return s.dec.SkipValue()
		}
		t, err := s.dec.ReadToken()
		if err != nil {
			return err
		}
		found = t.String()
		return io.EOF // no need to read on
	})
	if found == "" {
		return "", fmt.Errorf("spec has no name: %v", err)
	}
	return found, nil
}

// Has reports whether the index offers a package.
func (x *Index) Has(h spec.Hash) bool {
	i, ok := x.byHash[h]
	return ok && x.records[i].inBuildcache
}

// Offered is how many packages the index offers.
func (x *Index) Offered() int {
	n := 0
	for i := range x.records {
		if x.records[i].inBuildcache {
			n++
		}
	}
	return n
}

// Changed reports whether the index is other than the document that it was read from.
func (x *Index) Changed() bool { return x.changed }

// Add adds a package that the mirror holds. Adding it again changes nothing.
func (x *Index) Add(s *spec.Spec) {
	first := len(x.records)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if _, ok := x.byHash[n.Hash]; !ok {
			x.byHash[n.Hash] = len(x.records)
			x.records = append(x.records, record{hash: n.Hash, name: n.Name})
			x.added[n.Hash] = n.Record
		}
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if x.byHash[n.Hash] < first {
			continue // its edges are counted already
		}
		x.changed = true
		for _, d := range n.Dependencies {
			r := &x.records[x.byHash[d]] // a spec carries all that it depends on
			r.refCount++
			r.dirty = true
		}
	}
	if r := &x.records[x.byHash[s.Root().Hash]]; !r.inBuildcache {
		r.inBuildcache, r.dirty, x.changed = true, true, true
	}
}

// An Entry is a record of an index.
type Entry struct {
	Hash         spec.Hash
	Name         string
	Node         jsontext.Value // see spec.ParseNode
	InBuildcache bool
	RefCount     int
}

// All yields every record.
func (x *Index) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for i := range x.records {
			r := &x.records[i]
			if !yield(Entry{r.hash, r.name, x.nodeOf(r), r.inBuildcache, int(r.refCount)}) {
				return
			}
		}
	}
}

// Coverage says which packages the index offers.
func (x *Index) Coverage() Coverage {
	c := make(Coverage)
	for i := range x.records {
		if r := &x.records[i]; r.inBuildcache {
			c.Add(r.name, r.hash)
		}
	}
	return c
}

// Content is the document as it is now. It shares memory with the index, which must
// not change while it is read.
func (x *Index) Content() blob.Source {
	if !x.changed {
		return blob.Bytes(x.raw)
	}
	var p pieces
	var run span // what of raw comes next
	copyTo := func(next span) {
		p.add(x.text(run))
		run = next
	}
	run = span{0, x.installs.from}
	for i, r := range x.sorted() {
		name := `,"` + string(r.hash) + `":`
		if i == 0 {
			name = name[1:]
		}
		switch {
		case r.at == span{}:
			copyTo(span{})
			p.add([]byte(name + `{"spec":`))
			p.add(x.nodeOf(r))
			p.add(fmt.Appendf(nil, `,"ref_count":%d,"in_buildcache":%t}`, r.refCount, r.inBuildcache))
			continue
		case int(r.at.from) == int(run.to)+len(name) && string(x.raw[run.to:r.at.from]) == name:
			// As it follows in raw already: the usual case, and one piece for all.
		default:
			copyTo(span{r.at.from, r.at.from})
			p.add([]byte(name))
		}
		for _, e := range r.edits() {
			run.to = e.where.from
			copyTo(span{e.where.to, e.where.to})
			p.add([]byte(e.with))
		}
		run.to = r.at.to
	}
	copyTo(spanOf(int(x.installs.to), len(x.raw)))
	copyTo(span{})
	return &p
}

// sorted are the records in the order in which they are written.
func (x *Index) sorted() []*record {
	all := make([]*record, len(x.records))
	for i := range x.records {
		all[i] = &x.records[i]
	}
	slices.SortFunc(all, func(a, b *record) int { return cmp.Compare(a.hash, b.hash) })
	return all
}

// An edit replaces a piece of raw.
type edit struct {
	where span
	with  string
}

// edits brings the record in raw up to date, in the order of raw.
func (r *record) edits() []edit {
	if !r.dirty {
		return nil
	}
	edits := []edit{
		r.set("in_buildcache", r.flag, strconv.FormatBool(r.inBuildcache)),
		r.set("ref_count", r.count, strconv.Itoa(int(r.refCount))),
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.where.from, b.where.from) })
	return edits
}

// set replaces the value of a member, or adds the member at the end of the record
// where the record lacks it.
func (r *record) set(member string, value span, with string) edit {
	if value == (span{}) {
		end := r.at.to - 1
		return edit{span{end, end}, `,"` + member + `":` + with}
	}
	return edit{value, with}
}
