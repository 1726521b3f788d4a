package catalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

// A pointer is the document in the page: it names the segments and lists the changes to their rows since they were
// written.
type pointer struct {
	Format   int                     `json:"format"`
	Title    string                  `json:"title"`
	URL      string                  `json:"url,omitempty"`
	Script   string                  `json:"script"` // names of objects
	Style    string                  `json:"style"`
	Made     string                  `json:"made"`
	Rows     int                     `json:"rows"`
	Packages int                     `json:"packages"`
	Names    int                     `json:"names"` // distinct names of the packages that are offered
	Layouts  []string                `json:"layouts"`
	State    []string                `json:"state"`              // state of the indices on the page: see inventory.State
	Proofs   []string                `json:"proofs,omitempty"`   // checks that the storage has passed: see mirror.Prover
	Full     map[string]int          `json:"full"`               // rows of a full segment, by kind
	Segments map[string][]segmentRef `json:"segments"`           // by kind
	Around   string                  `json:"around,omitempty"`   // digest of the listing of views, keys and plain files
	Beside   string                  `json:"beside,omitempty"`   // digest of the object for everything except packages: see beside
	Usage    string                  `json:"usage,omitempty"`    // digest of the object with downloads: see fetched
	Trusted  []string                `json:"trusted,omitempty"`  // fingerprints of the keys that signatures were compared with
	Unjudged bool                    `json:"unjudged,omitempty"` // signatures of some packages were not compared with the trusted keys
	Licences bool                    `json:"licences,omitempty"` // licences are read from recipes
	Unread   []string                `json:"unread,omitempty"`   // hashes of packages that could not be read completely
	Gone     []int                   `json:"gone"`               // rows that are no longer offered
	Moved    [][2]int                `json:"moved"`              // old and new rows of packages that were first added as dependencies or read incompletely
	// Runs lists for each processor the targets of packages that it runs.
	Runs map[string][]string `json:"runs"`
	// Includes lists for each target of a package the targets that it is a superset of.
	Includes map[string][]string `json:"includes"`
}

// A segmentRef names a segment by its digest.
type segmentRef struct {
	Digest string `json:"sha256"`
	Rows   int    `json:"rows"`
}

// The kinds of segments. Names and builds are loaded with the page, the other kinds on demand.
const (
	kindNames  = "n" // names of packages, one a row
	kindBuilds = "b"
	kindMore   = "x" // variants and dependencies
	kindHashes = "h"
)

// segmentsAtFirst is the number of segments of each kind in a new catalog.
var segmentsAtFirst = map[string]int{kindNames: 12, kindBuilds: 32, kindMore: 64, kindHashes: 40}

// smallest is the minimum number of rows of a full segment.
const smallest = 64

func newPointer() *pointer {
	return &pointer{Format: format, Full: map[string]int{}, Segments: map[string][]segmentRef{}, Layouts: []string{}, State: []string{}, Gone: []int{}, Moved: [][2]int{}, Runs: map[string][]string{}, Includes: map[string][]string{}}
}

// sound reports whether a pointer that was read back is consistent.
func (p *pointer) sound() bool {
	for kind := range segmentsAtFirst {
		n := 0
		for _, s := range p.Segments[kind] {
			if _, err := blob.ParseDigest(s.Digest); err != nil || s.Rows < 0 {
				return false
			}
			n += s.Rows
		}
		if kind != kindNames && n != p.Rows || p.Full[kind] < 1 {
			return false
		}
	}
	inside := func(row int) bool { return row >= 0 && row < p.Rows }
	return !slices.ContainsFunc(p.Gone, func(r int) bool { return !inside(r) }) &&
		!slices.ContainsFunc(p.Moved, func(m [2]int) bool { return !inside(m[0]) || !inside(m[1]) })
}

// same reports whether two pages show the same content. The proofs of the storage are not compared.
func (p *pointer) same(q *pointer) bool {
	a, b := *p, *q
	a.Made, b.Made = "", ""
	a.Proofs, b.Proofs = nil, nil
	return reflect.DeepEqual(a, b)
}

// dress sets the title, address, script, style, trusted keys and licences of the page. Options that are not set
// keep the values of the page.
func (p *pointer) dress(o Options, was *pointer) {
	if was == nil {
		was = &pointer{Title: "Spack buildcache"}
	}
	p.Script, p.Style = scriptName, styleName
	p.Licences = o.Licences || was.Licences
	if p.Trusted = was.Trusted; o.Trusted != nil && !(o.Follow && was.Format != 0) {
		p.Trusted = fingerprints(o.Trusted)
	}
	p.Title, p.URL = cmp.Or(o.Title, was.Title), cmp.Or(o.URL, was.URL)
}

// judges returns the trusted keys if they are those that the page names, and nil otherwise.
func (p *pointer) judges(trusted *key.Ring) *key.Ring {
	if trusted == nil || !slices.Equal(fingerprints(trusted), p.Trusted) {
		return nil
	}
	return trusted
}

// looks reports whether the options would change nothing that dress sets.
func (p *pointer) looks(o Options) bool {
	q := *p
	q.dress(o, p)
	return q.same(p)
}

// prove checks that the storage obeys the condition under which the page is replaced, unless that is known. Without
// it, two publishers could overwrite each other's page. The page records the check. Script and style must be stored
// before.
func (p *pointer) prove(ctx context.Context, s mirror.Swapper, was *pointer, version mirror.Version) error {
	if was != nil {
		p.Proofs = was.Proofs
	}
	prover := mirror.ProverOf(s)
	if prover == nil {
		return nil
	}
	proof := prover.Proof(version)
	if proof == "" || slices.Contains(p.Proofs, proof) {
		return nil
	}
	p.Proofs = append(slices.Clone(p.Proofs), proof)
	style := assets()[1]
	return prover.Prove(ctx, version, &style)
}

// names returns the names of the objects that a page needs.
func (p *pointer) names() map[string]bool {
	all := map[string]bool{p.Script: true, p.Style: true}
	for _, digest := range []string{p.Beside, p.Usage} {
		if digest != "" {
			all[segmentName(digest)] = true
		}
	}
	for _, refs := range p.Segments {
		for _, s := range refs {
			all[segmentName(s.Digest)] = true
		}
	}
	return all
}

func segmentName(digest string) string { return Parts + digest + ".json" }

// count records the totals of an inventory.
func (p *pointer) count(inv *inventory.Inventory) {
	names, targets := make(map[string]bool), make(map[string]bool)
	for _, b := range inv.Builds {
		names[b.Name], targets[b.Target] = true, true
	}
	p.Packages, p.Names, p.Layouts, p.State = len(inv.Builds), len(names), inv.Layouts, inv.State
	p.Runs, p.Includes = make(map[string][]string), make(map[string][]string)
	for _, processor := range query.Targets() {
		for target := range targets {
			if query.Runs(target, processor) {
				p.Includes[target] = append(p.Includes[target], processor)
			}
		}
		for _, target := range slices.Sorted(maps.Keys(targets)) {
			if query.Runs(processor, target) {
				p.Runs[processor] = append(p.Runs[processor], target)
			}
		}
	}
}

// A table holds the rows of a catalog: references to the full segments, and the rows of the last ones.
type table struct {
	pointer *pointer
	rows    map[string]int // the latest row of each hash
	names   []string
	ids     map[string]int
	offered []bool // by row, as written
	open    map[string]*segment
	closed  []mirror.Upload
	beside  []mirror.Upload // objects for everything except packages
	// warnings name the packages that could not be read completely.
	warnings []buildcache.Finding
}

func newTable() *table { return &table{pointer: newPointer(), rows: make(map[string]int)} }

// A segment holds the columns of some rows.
type segment struct {
	Names  []string `json:"names,omitempty"`
	Hashes string   `json:"hashes,omitempty"`

	Name     []int   `json:"name,omitempty"`
	Version  *strcol `json:"version,omitempty"`
	Compiler *strcol `json:"compiler,omitempty"`
	OS       *strcol `json:"os,omitempty"`
	Target   *strcol `json:"target,omitempty"`
	Signer   *strcol `json:"signer,omitempty"`
	Trust    *strcol `json:"trust,omitempty"` // of the signature: yes, no, or empty if it was not checked
	Licence  *strcol `json:"licence,omitempty"`
	KiB      []int64 `json:"kib,omitempty"`
	Day      []int64 `json:"day,omitempty"` // days since 1970
	Here     []int   `json:"here,omitempty"`
	Variants *strcol `json:"variants,omitempty"`
	About    *strcol `json:"about,omitempty"` // the description in the recipe; missing in segments of earlier releases
	Homepage *strcol `json:"homepage,omitempty"`
	Edges    [][]int `json:"edges,omitempty"` // for each row: pairs of how many rows back a dependency is, and its types
	rows     int
}

// A strcol is a column of texts. Each distinct text is stored once.
type strcol struct {
	Values []string `json:"v"`
	Index  []int    `json:"i"`
	at     map[string]int
}

func (c *strcol) add(text string) {
	if c.at == nil {
		c.at = make(map[string]int)
		for i, v := range c.Values {
			c.at[v] = i
		}
	}
	i, ok := c.at[text]
	if !ok {
		i = len(c.Values)
		c.at[text] = i
		c.Values = append(c.Values, text)
	}
	c.Index = append(c.Index, i)
}

// readTable reads the data that appending needs: all rows with their names, and the last segments.
func readTable(ctx context.Context, r mirror.Reader, p *pointer) (*table, error) {
	t := &table{pointer: newPointer(), rows: make(map[string]int), ids: make(map[string]int), open: make(map[string]*segment)}
	t.pointer.Rows, t.pointer.Gone, t.pointer.Moved, t.pointer.Unjudged = p.Rows, p.Gone, p.Moved, p.Unjudged
	t.pointer.Unread = p.Unread
	t.pointer.Full, t.pointer.Segments = maps.Clone(p.Full), make(map[string][]segmentRef)
	for kind := range segmentsAtFirst {
		refs := p.Segments[kind]
		segments := make([]*segment, len(refs))
		err := parallel.Each(ctx, parallel.Readers, parallel.Positions(refs), func(ctx context.Context, i int) error {
			if kind == kindMore && i < len(refs)-1 {
				return nil // full, and not needed for appending
			}
			s, err := readSegment(ctx, r, refs[i])
			segments[i] = s
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("catalog: %w", err)
		}
		row := 0
		for i, s := range segments {
			if s != nil && !t.learn(kind, s, row, refs[i].Rows) {
				return nil, fmt.Errorf("catalog: segment %s is not what the page says: run publish catalog --rebuild", refs[i].Digest)
			}
			row += refs[i].Rows
		}
		t.pointer.Segments[kind] = slices.Clone(refs)
		if n := len(refs); n > 0 && refs[n-1].Rows < p.Full[kind] {
			segments[n-1].rows = refs[n-1].Rows
			t.open[kind] = segments[n-1]
			t.pointer.Segments[kind] = t.pointer.Segments[kind][:n-1]
		}
	}
	return t, nil
}

// learn adds the data of a segment to the table. It returns false if the segment does not have the expected rows.
func (t *table) learn(kind string, s *segment, row, rows int) bool {
	switch kind {
	case kindNames:
		if len(s.Names) != rows {
			return false
		}
		for _, n := range s.Names {
			t.ids[n] = len(t.names)
			t.names = append(t.names, n)
		}
	case kindBuilds:
		for _, c := range []*strcol{s.Version, s.Compiler, s.OS, s.Target, s.Signer, s.Trust, s.Licence} {
			if c == nil || len(c.Index) != rows {
				return false
			}
		}
		if len(s.Here) != rows || len(s.Name) != rows || len(s.KiB) != rows || len(s.Day) != rows {
			return false
		}
		for _, h := range s.Here {
			t.offered = append(t.offered, h == 1)
		}
	case kindMore:
		for _, c := range []**strcol{&s.About, &s.Homepage} {
			if *c == nil {
				*c = &strcol{Values: []string{""}, Index: make([]int, rows)}
			}
			if len((*c).Index) != rows {
				return false
			}
		}
		return s.Variants != nil && len(s.Edges) == rows
	case kindHashes:
		if len(s.Hashes) != 32*rows {
			return false
		}
		for i := range rows {
			t.rows[s.Hashes[32*i:32*i+32]] = row + i
		}
	}
	return true
}

func readSegment(ctx context.Context, r mirror.Reader, ref segmentRef) (*segment, error) {
	name := segmentName(ref.Digest)
	text, _, err := mirror.Read(ctx, r, name, maxSegment)
	if err != nil {
		return nil, err
	}
	if blob.DigestOf(text).String() != ref.Digest {
		return nil, fmt.Errorf("%s: %w", name, errors.New("its content is not what its name says"))
	}
	s := new(segment)
	return s, json.Unmarshal(text, s)
}

// grow sets the size of segments, if it is not set yet.
func (t *table) grow(more int) {
	if t.ids == nil {
		t.ids, t.open = make(map[string]int), make(map[string]*segment)
	}
	for kind, n := range segmentsAtFirst {
		if t.pointer.Full[kind] == 0 {
			t.pointer.Full[kind] = max(smallest, (more+n-1)/n)
		}
	}
}

// segment returns the last segment of a kind with room for one more row.
func (t *table) segment(kind string) *segment {
	s := t.open[kind]
	if s != nil && s.rows >= t.pointer.Full[kind] {
		t.close(kind)
		s = nil
	}
	if s == nil {
		s = &segment{}
		switch kind {
		case kindBuilds:
			s.Version, s.Compiler, s.OS, s.Target, s.Signer = &strcol{}, &strcol{}, &strcol{}, &strcol{}, &strcol{}
			s.Trust, s.Licence = &strcol{}, &strcol{}
		case kindMore:
			s.Variants, s.About, s.Homepage = &strcol{}, &strcol{}, &strcol{}
		}
		t.open[kind] = s
	}
	s.rows++
	return s
}

// add adds the row of a package. The rows of its dependencies must exist.
func (t *table) add(n *query.Node, d *inventory.Document, recipe licence.Facts) {
	row := t.pointer.Rows
	t.pointer.Rows++
	t.rows[n.Hash] = row
	id, ok := t.ids[n.Name]
	if !ok {
		id = len(t.names)
		t.ids[n.Name] = id
		t.names = append(t.names, n.Name)
		s := t.segment(kindNames)
		s.Names = append(s.Names, n.Name)
	}
	b := t.segment(kindBuilds)
	b.Name = append(b.Name, id)
	b.Version.add(n.Version.String())
	b.Compiler.add(strings.Join(n.Compilers(), ","))
	b.OS.add(n.OS)
	b.Target.add(n.Target)
	signer, trust, kib, day, here := "", "", int64(0), int64(0), 0
	if d != nil {
		trust = [...]string{inventory.NotJudged: "", inventory.Trusted: "yes", inventory.NotTrusted: "no"}[d.Judged]
		signer, kib, here = d.Signer, (d.Bytes()+1023)/1024, 1
		if !d.Stored.IsZero() {
			day = d.Stored.Unix() / 86400
		}
	}
	b.Signer.add(signer)
	b.Trust.add(trust)
	b.Licence.add(recipe.Licence)
	b.KiB, b.Day, b.Here = append(b.KiB, kib), append(b.Day, day), append(b.Here, here)
	t.offered = append(t.offered, here == 1)
	x := t.segment(kindMore)
	x.Variants.add(n.VariantText())
	x.About.add(recipe.About)
	x.Homepage.add(recipe.Homepage)
	edges := []int{}
	for _, e := range n.Dependencies {
		edges = append(edges, row-t.rows[e.To.Hash], int(e.Types))
	}
	x.Edges = append(x.Edges, edges)
	t.segment(kindHashes).Hashes += n.Hash
}

// close finishes the last segment of a kind.
func (t *table) close(kind string) {
	t.closed = append(t.closed, t.encode(kind))
	delete(t.open, kind)
}

// encode adds a segment to the pointer and returns its upload.
func (t *table) encode(kind string) mirror.Upload {
	s := t.open[kind]
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	if err := enc.Encode(s); err != nil {
		panic(err) // cannot happen: a segment has only texts and numbers
	}
	content := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	digest := blob.DigestOf(content)
	t.pointer.Segments[kind] = append(t.pointer.Segments[kind], segmentRef{digest.String(), s.rows})
	return mirror.Upload{Name: segmentName(digest.String()), Content: blob.Bytes(content), Digest: digest, Type: "application/json", CacheControl: layout.Immutable}
}

// seal finishes all open segments and returns the uploads of all finished ones.
func (t *table) seal() []mirror.Upload {
	for kind := range segmentsAtFirst {
		if t.open[kind] != nil {
			t.close(kind)
		}
		if t.pointer.Segments[kind] == nil {
			t.pointer.Segments[kind] = []segmentRef{}
		}
	}
	return t.closed
}
