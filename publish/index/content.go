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

// Content returns the current document. If nothing has changed, it is the document that was read, otherwise a
// document without members that Spack does not know. It shares memory with the index, which must not change
// while the content is read.
func (x *Index) Content() blob.Source {
	if !x.changed {
		return blob.Bytes(x.raw)
	}
	return x.Noted(nil)
}

// Noted returns the document with a note, a JSON value in a member beside the database that Spack ignores.
// The records are the same, but the bytes differ. An empty note is left out. Unlike Content, it is in our
// form even if nothing has changed.
func (x *Index) Noted(note jsontext.Value) blob.Source {
	x.settle()
	var p pieces
	var run span // next piece of raw to copy
	copyTo := func(next span) {
		p.add(x.text(run))
		run = next
	}
	p.add(fmt.Appendf(nil, `{"database":{"version":"%d","installs":{`, x.version))
	var name []byte // separator and name of the record
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
			// It follows in raw already: the usual case, and the pieces are joined.
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

// Glance reads the note of a document from Noted without reading the database. The note is the last member.
// whole is the digest of the document, bare that of the document without the note. Without a note they are
// equal.
func Glance(content []byte) (note jsontext.Value, whole, bare blob.Digest) {
	at := bytes.LastIndex(content, []byte(`,"`+Member+`":`))
	if at < 0 || !bytes.HasSuffix(content, []byte("}")) {
		whole = blob.DigestOf(content)
		return nil, whole, whole
	}
	h := sha256.New()
	h.Write(content[:at])
	without, err := h.(hash.Cloner).Clone() // so that most of the document is hashed only once
	if err != nil {
		panic(err) // SHA-256 can
	}
	without.Write([]byte("}"))
	h.Write(content[at:])
	note = content[at+len(`,"`+Member+`":`) : len(content)-1]
	return note, blob.Digest(h.Sum(nil)), blob.Digest(without.Sum(nil))
}

// sorted returns the records in the order in which they are written.
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

// edits returns the edits that update the record in raw, in the order of raw.
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

// set replaces the value of a member, or adds the member at the end of the record if it is missing.
func (r *record) set(member string, value span, with string) edit {
	if value == (span{}) {
		end := r.at.to - 1
		return edit{span{end, end}, `,"` + member + `":` + with}
	}
	return edit{value, with}
}
