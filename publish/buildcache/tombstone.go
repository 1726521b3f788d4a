package buildcache

import (
	"bytes"
	"fmt"
	"path"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
)

// A Tombstone takes the place of the document of a package that was withdrawn. It has the form of a manifest without any record: to
// Spack the package is not available, its update-index leaves it out, and its prune leaves it alone.
type Tombstone struct {
	history.Withdrawal
	// Text is the document that it replaced, so that a withdrawal can be undone byte for byte.
	Text string `json:"text"`
}

// A WithdrawnError says that what stands for a package's document is a tombstone.
type WithdrawnError struct{ history.Withdrawal }

func (e *WithdrawnError) Error() string {
	return fmt.Sprintf("it was withdrawn on %s: %s", e.Time.Format(time.DateOnly), e.Reason)
}

// Object is the tombstone as it is stored. In layout v2 no document can stand for a package that is not available, so
// its tombstone is kept apart, and the document is deleted.
func (t *Tombstone) Object(f Layout) (Object, error) {
	member, err := json.Marshal(t, json.Deterministic(true))
	if err != nil {
		return Object{}, err
	}
	m := manifest.Manifest{Extra: map[string]jsontext.Value{ourMember: member}}
	text, err := m.Encode()
	return NewObject(TombstoneName(f, t.Document), text, JsonType, layout.Revalidate), err
}

// TombstoneName is where the tombstone of a document is.
func TombstoneName(f Layout, document string) string {
	if f.NamesContent() {
		return document
	}
	return history.Dir + f.Name() + "/withdrawn/" + path.Base(document)
}

// ParseTombstone reads a tombstone. It is false for any other document.
func ParseTombstone(text []byte) (*Tombstone, bool) {
	if !bytes.Contains(text, []byte(ourMember)) {
		return nil, false // as nearly all
	}
	m, err := manifest.Parse(text)
	if err != nil || len(m.Records) > 0 || m.Extra[ourMember] == nil {
		return nil, false
	}
	t := new(Tombstone)
	if json.Unmarshal(m.Extra[ourMember], t) != nil || t.Text == "" {
		return nil, false
	}
	return t, true
}
