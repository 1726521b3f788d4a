// Package index merges packages into the index of a buildcache.
//
// An index is one JSON document with a record for every package that a mirror offers and for all their
// dependencies. It can have hundreds of megabytes, while one publish adds a few records. So unchanged records
// are not decoded: the document is scanned once for the positions of its records. The new document consists
// of the old bytes with a few pieces replaced and the new records inserted. No second copy is kept in memory.
//
// Records are written in the order of their hashes, so the bytes of an index depend on the packages that it
// offers and not on the order in which they were added: two publishers that write the same index write the
// same blob.
//
// The result of a merge is that of Spack's own update-index over the union: one record per hash,
// in_buildcache if either index says so, ref_count the number of records that depend on it, and a record for
// every dependency. A record comes from the package's own document or, if the mirror has none, from the
// documents of its dependents.
package index

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Versions of Spack's database format. Each goes with one format of specs.
const (
	V7 = 7 // Spack 0.21 to 0.23, layout v2: nodes of spec.Format4
	V8 = 8 // Spack 1.0 and later, layout v3: nodes of spec.Format5
	V9 = 9 // Spack 1.3 and later, layout v3: nodes of spec.Format6
)

// SpecFormat returns the format of the nodes in an index of a version.
func SpecFormat(version int) int { return version - V7 + spec.Format4 }

// ForSpecs returns the version of the index that holds nodes of a format.
func ForSpecs(format int) int { return format - spec.Format4 + V7 }

// A VersionError means that an index has another version than this release writes.
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
	version  int
	raw      []byte // the document as read
	installs span   // in raw: between the braces of installs
	records  []record
	byHash   map[id]int32        // position in records
	names    []string            // each name once: many records have the same
	nameAt   map[string]uint32   // position in names
	added    map[id][]byte       // the packages of new and replaced records, verbatim
	odd      map[id]error        // faults of records outside their packages
	missing  map[spec.Hash]int32 // number of records that depend on a missing record; set by Check
	changed  bool

	note       jsontext.Value // content of our member beside the database
	miscounted bool           // Check found wrong reference counts
	unsettled  bool           // references must be counted before the document is written: see settle
	loose      []spec.Hash    // earlier dependencies of replaced records
}

// Member is the name of the member that we add beside the database. Spack ignores it.
const Member = "slurm-factory-publish"

// recordSize is the approximate size of a record in a document, in bytes. Space is allocated in advance,
// since growing would need as much memory again.
const recordSize = 1 << 10

// A span is a piece of raw. The zero span stands for no piece. There may be a million spans, so they are
// small: raw has less than 4 GiB.
type span struct{ from, to uint32 }

func spanOf(from, to int) span { return span{uint32(from), uint32(to)} }

// An id is a hash without a pointer. With a million records, the garbage collector would have to follow every
// pointer.
type id [32]byte

// idOf returns the id of a hash. It is the zero id if h is too long for a hash.
func idOf(h spec.Hash) (x id) {
	if len(h) <= len(x) {
		copy(x[:], h)
	}
	return x
}

func (x *id) text() []byte    { return bytes.TrimRight(x[:], "\x00") }
func (x *id) hash() spec.Hash { return spec.Hash(x.text()) }

// A record is a record of the index. It has no pointers: see id.
type record struct {
	id   id
	name uint32 // position in names

	at          span // in raw: the record's object; zero if the record is new or replaced
	node        span // in raw: the package itself
	flag, count span // in raw: the values of in_buildcache and ref_count

	refCount     int32
	inBuildcache bool
	was          bool // inBuildcache in raw
	dirty        bool // inBuildcache or refCount differs from raw
	own          bool // its package comes from its own document, added by Add
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
	x := &Index{
		version: version, raw: raw, records: make([]record, 0, room), byHash: make(map[id]int32, room),
		nameAt: make(map[string]uint32), added: make(map[id][]byte), odd: make(map[id]error),
	}
	got := 0
	err := s.object(func(name string) error {
		switch name {
		case "database":
		case Member:
			v, _, err := s.value()
			x.note = v.Clone()
			return cmp.Or(err, spec.CheckJSON(v))
		default:
			return s.skip()
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
			return s.skip()
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

// A scanner reads tokens and their positions.
type scanner struct{ dec *jsontext.Decoder }

// object calls member for every member of the next object. member reads the value.
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

// value returns the next value and its position. The bytes are valid until the next read.
func (s *scanner) value() (jsontext.Value, span, error) {
	v, err := s.dec.ReadValue()
	to := int(s.dec.InputOffset())
	return v, spanOf(to-len(v), to), err
}

// skip reads a value that Spack ignores, and checks that Python can parse it.
func (s *scanner) skip() error {
	v, _, err := s.value()
	if err != nil {
		return err
	}
	return spec.CheckJSON(v)
}

// version reads the version of the database. Spack accepts only a string.
func (s *scanner) version(got *int) error {
	v, _, err := s.value()
	if err != nil {
		return err
	}
	text, quoted := bytes.CutPrefix(v, []byte(`"`))
	n, err := strconv.Atoi(string(bytes.TrimSuffix(text, []byte(`"`))))
	if err != nil || n <= 0 || !quoted {
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
	r := record{id: idOf(h)}
	if _, ok := x.byHash[r.id]; ok {
		return fmt.Errorf("%s has two records", h)
	}
	var odd error
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
			r.flag, r.inBuildcache, r.was = at, v.Kind() == 't', v.Kind() == 't'
			if v.Kind() != 't' && v.Kind() != 'f' {
				odd = errors.New("in_buildcache is no boolean")
			}
		case "ref_count":
			n, err := strconv.ParseInt(string(v), 10, 32)
			r.count, r.refCount = at, int32(n)
			return err
		default:
			odd = unknown(name, v)
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
		odd = err
	}
	if odd != nil {
		x.odd[r.id] = odd
	}
	x.byHash[r.id] = int32(len(x.records))
	x.records = append(x.records, r)
	return nil
}

// unknown returns an error for a member on which Spack's reader fails (spack 1.2, database.py,
// InstallRecord). The database of an installation has more members than the index of a cache.
func unknown(member string, v jsontext.Value) error {
	switch member {
	case "path", "explicit", "installation_time", "deprecated_for", "origin":
		return spec.CheckJSON(v)
	case "installed":
		if v.Kind() == 'f' {
			return nil
		}
		return errors.New("it is marked as installed, which only a database on a host is")
	}
	return fmt.Errorf("it has an unknown member %.40q (TypeError)", member)
}

func (x *Index) text(s span) []byte { return x.raw[s.from:s.to] }

// nodeOf returns the package of a record.
func (x *Index) nodeOf(r *record) []byte {
	if node, ok := x.added[r.id]; ok {
		return node
	}
	return x.text(r.node)
}

// nameOf reads the name of a node. Spack writes it as the first member.
func (x *Index) nameOf(node []byte) (uint32, error) {
	if rest, ok := bytes.CutPrefix(node, []byte(`{"name":"`)); ok {
		end := bytes.IndexByte(rest, '"')
		if name := rest[:end]; end > 0 && bytes.IndexByte(name, '\\') < 0 {
			if at, ok := x.nameAt[string(name)]; ok {
				return at, nil
			}
			return x.named(string(name)), nil
		}
	}
	name, err := nodeName(node)
	return x.named(name), err
}

// named returns the position of a name.
func (x *Index) named(name string) uint32 {
	at, ok := x.nameAt[name]
	if !ok {
		at = uint32(len(x.names))
		x.names, x.nameAt[name] = append(x.names, name), at
	}
	return at
}

// entry returns a record as an Entry.
func (x *Index) entry(r *record) Entry {
	return Entry{r.id.hash(), x.names[r.name], x.nodeOf(r), r.inBuildcache, int(r.refCount)}
}

// nodeName is nameOf for a node that another program wrote.
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
		if t.Kind() != '"' {
			return errors.New("its name is no string")
		}
		found = t.String()
		return io.EOF // stop reading
	})
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("spec: %w", err)
	}
	return found, nil
}

// Version returns the version of the database format.
func (x *Index) Version() int { return x.version }

// Has reports whether the index offers a package.
func (x *Index) Has(h spec.Hash) bool {
	i, ok := x.byHash[idOf(h)]
	return ok && x.records[i].inBuildcache
}

// Offered returns the number of packages that the index offers.
func (x *Index) Offered() int {
	n := 0
	for i := range x.records {
		if x.records[i].inBuildcache {
			n++
		}
	}
	return n
}

// Changed reports whether the index differs from the document that was read.
func (x *Index) Changed() bool { return x.changed }

// Note returns the note in the document that was read; nil if there is none. See Noted.
func (x *Index) Note() jsontext.Value { return x.note }

// Kept reports whether the index offers a package that the document that was read also offered.
func (x *Index) Kept(h spec.Hash) bool {
	i, ok := x.byHash[idOf(h)]
	return ok && x.records[i].inBuildcache && x.records[i].was
}

// Changes returns the records that the index newly offers or no longer offers, compared with the document
// that was read.
func (x *Index) Changes() (added, removed []Entry) {
	for i := range x.records {
		r := &x.records[i]
		switch {
		case r.inBuildcache && !r.was:
			added = append(added, x.entry(r))
		case !r.inBuildcache && r.was:
			removed = append(removed, x.entry(r))
		}
	}
	return added, removed
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
		x.settle()
		for i := range x.records {
			if !yield(x.entry(&x.records[i])) {
				return
			}
		}
	}
}

// Spec returns a package and its dependencies from the records; nil if a record is missing or
// cannot be read.
func (x *Index) Spec(h spec.Hash) *spec.Spec {
	s := &spec.Spec{Format: SpecFormat(x.version)}
	seen := map[spec.Hash]bool{h: true}
	for next := []spec.Hash{h}; len(next) > 0; next = next[1:] {
		at, ok := x.byHash[idOf(next[0])]
		if !ok {
			return nil
		}
		node := x.nodeOf(&x.records[at])
		n, err := spec.ParseNode(node, s.Format)
		if err != nil {
			return nil
		}
		n.Record = node
		s.Nodes = append(s.Nodes, n)
		for _, d := range n.Dependencies {
			if !seen[d] {
				seen[d] = true
				next = append(next, d)
			}
		}
	}
	return s
}

// Coverage says which packages the index offers.
func (x *Index) Coverage() Coverage {
	c := make(Coverage)
	for i := range x.records {
		if r := &x.records[i]; r.inBuildcache {
			c.Add(x.names[r.name], r.id.hash())
		}
	}
	return c
}
