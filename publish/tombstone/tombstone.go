// Package tombstone encodes and parses tombstones, which stand in for the documents of withdrawn packages. It does
// no I/O.
//
// A tombstone has the form of a manifest without records. To Spack the package is not available, its update-index
// omits it, and its prune does not touch it.
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
	// Text is the document that the tombstone replaced. With it, a withdrawal can be undone byte for byte.
	Text string `json:"text"`
}

// A Layout is the part of a buildcache.Layout that is needed here.
type Layout interface {
	Name() string
	NamesContent() bool
}

// Name returns the name of a document's tombstone. In layout v2, a document cannot say that a package is not
// available, so its tombstone is stored apart.
func Name(f Layout, document string) string {
	if f.NamesContent() {
		return document
	}
	return Dir(f) + path.Base(document)
}

// Dir returns the directory of tombstones that are stored apart from the documents.
func Dir(f Layout) string { return history.Dir + f.Name() + "/withdrawn/" }

// member is the member of the manifest that holds the tombstone. Spack ignores it.
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

// LeastSize returns the minimum size of a tombstone that replaces a document, in bytes.
func LeastSize(name string, document []byte) int64 {
	text, _ := (&Tombstone{Withdrawal: history.Withdrawal{Document: name}, Text: string(document)}).Encode() // 0 if the document is not text
	return int64(len(text))
}

// Parse reads a tombstone. It returns false for any other document.
func Parse(text []byte) (*Tombstone, bool) {
	if !bytes.Contains(text, []byte(member)) {
		return nil, false // like nearly all documents
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

// An Error says that a package's document is a tombstone.
type Error struct{ history.Withdrawal }

func (e *Error) Error() string { return e.String() }
