package index

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// Content is the document as it is now: as it was read if nothing changed, else without members
// that Spack does not know. It shares memory with the index, which must
// not change while it is read.
func (x *Index) Content() blob.Source {
	if !x.changed {
		return blob.Bytes(x.raw)
	}
	return x.Noted(nil)
}

// Noted is the document with a note, which is JSON, beside the database, in a member that Spack ignores: the same records in other
// bytes. An empty note is none. Unlike Content, it is in our form even if nothing changed.
func (x *Index) Noted(note jsontext.Value) blob.Source {
	x.settle()
	var p pieces
	var run span // what of raw comes next
	copyTo := func(next span) {
		p.add(x.text(run))
		run = next
	}
	p.add(fmt.Appendf(nil, `{"database":{"version":"%d","installs":{`, x.version))
	var name []byte // of the record, as it is written
	for i, r := range x.sorted() {
		name = append(append(append(name[:0], `,"`...), r.id.text()...), `":`...)
		if i == 0 {
			name = name[1:]
		}
		switch {
		case r.at == span{}:
			copyTo(span{})
			p.add(append(bytes.Clone(name), `{"spec":`...))
			p.add(x.nodeOf(r))
			p.add(fmt.Appendf(nil, `,"ref_count":%d,"in_buildcache":%t}`, r.refCount, r.inBuildcache))
			continue
		case int(r.at.from) == int(run.to)+len(name) && bytes.Equal(x.raw[run.to:r.at.from], name):
			// As it follows in raw already: the usual case, and one piece for all.
		default:
			copyTo(span{r.at.from, r.at.from})
			p.add(bytes.Clone(name))
		}
		for _, e := range r.edits() {
			run.to = e.where.from
			copyTo(span{e.where.to, e.where.to})
			p.add([]byte(e.with))
		}
		run.to = r.at.to
	}
	copyTo(span{})
	p.add([]byte(`}}`))
	if len(note) > 0 {
		p.add(fmt.Appendf(nil, `,%q:%s`, Member, note))
	}
	p.add([]byte(`}`))
	return &p
}

// Glance reads the note of a document that Noted has made, without reading the database. whole is the digest of the document, and bare that of
// the document without the note. Without a note, which comes last, they are the same.
func Glance(content []byte) (note jsontext.Value, whole, bare blob.Digest) {
	at := bytes.LastIndex(content, []byte(`,"`+Member+`":`))
	if at < 0 || !bytes.HasSuffix(content, []byte("}")) {
		whole = blob.DigestOf(content)
		return nil, whole, whole
	}
	h := sha256.New()
	h.Write(content[:at])
	without, err := h.(hash.Cloner).Clone() // most of the document is hashed once
	if err != nil {
		panic(err) // SHA-256 can
	}
	without.Write([]byte("}"))
	h.Write(content[at:])
	note = content[at+len(`,"`+Member+`":`) : len(content)-1]
	return note, blob.Digest(h.Sum(nil)), blob.Digest(without.Sum(nil))
}

// sorted are the records in the order in which they are written.
func (x *Index) sorted() []*record {
	all := make([]*record, len(x.records))
	for i := range x.records {
		all[i] = &x.records[i]
	}
	slices.SortFunc(all, func(a, b *record) int { return bytes.Compare(a.id[:], b.id[:]) })
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
