// Package tombstone is what takes the place of the document of a package that was withdrawn. It does no I/O.
//
// A tombstone has the form of a manifest without any record: to Spack the package is not available, its update-index leaves it out,
// and its prune leaves it alone.
package tombstone

import (
	"bytes"
	"path"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
)

// A Tombstone says that a package was withdrawn.
type Tombstone struct {
	history.Withdrawal
	// Text is the document that it replaced, so that a withdrawal can be undone byte for byte.
	Text string `json:"text"`
}

// A Layout is what is needed of a buildcache.Layout.
type Layout interface {
	Name() string
	NamesContent() bool
}

// Name is where the tombstone of a document is. In layout v2 no document can stand for a package that is not available: its tombstone is kept apart.
func Name(f Layout, document string) string {
	if f.NamesContent() {
		return document
	}
	return Dir(f) + path.Base(document)
}

// Dir is where tombstones are that are kept apart from the documents.
func Dir(f Layout) string { return history.Dir + f.Name() + "/withdrawn/" }

// member is the member of the manifest that holds it. Spack ignores it.
const member = "slurm-factory-publish"

// Encode returns the tombstone as it is stored.
func (t *Tombstone) Encode() ([]byte, error) {
	text, err := json.Marshal(t, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	m := manifest.Manifest{Extra: map[string]jsontext.Value{member: text}}
	return m.Encode()
}

// LeastSize is the size that a tombstone in the place of a document has at least, in bytes.
func LeastSize(name string, document []byte) int64 {
	text, _ := (&Tombstone{Withdrawal: history.Withdrawal{Document: name}, Text: string(document)}).Encode() // of what is no text, any size is large enough
	return int64(len(text))
}

// Parse reads a tombstone. It is false for any other document.
func Parse(text []byte) (*Tombstone, bool) {
	if !bytes.Contains(text, []byte(member)) {
		return nil, false // as nearly all
	}
	m, err := manifest.Parse(text)
	if err != nil || len(m.Records) > 0 || m.Extra[member] == nil {
		return nil, false
	}
	t := new(Tombstone)
	if json.Unmarshal(m.Extra[member], t) != nil || t.Text == "" {
		return nil, false
	}
	return t, true
}

// An Error says that what stands for a package's document is a tombstone.
type Error struct{ history.Withdrawal }

func (e *Error) Error() string { return e.String() }
