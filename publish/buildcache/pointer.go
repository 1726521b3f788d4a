package buildcache

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/indices"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A Pointer says which indices a mirror has.
type Pointer struct {
	Version mirror.Version // of the object at the fixed name; Absent if there is no index
	// Coverage is what the indices offer; nil if the pointer does not say.
	Coverage index.Coverage
	offers   jsontext.Value // Coverage as read, not parsed yet
	// Stored is when the object at the fixed name was stored.
	Stored time.Time

	Refs       []IndexRef         // one for each generation of the layout
	Checked    bool               // the writer of the indices checked that Spack can read them
	Manifest   *manifest.Manifest // in layout v3, as read: it may have unknown records
	Content    []byte             // in layout v2: the index document, which is also the pointer
	Broken     error              // why the object at the fixed name cannot be used
	Incomplete bool               // see Layout.Incomplete
	// Foreign is the digest of an index that another program wrote, if the whole mirror has not been listed
	// since. Such an index may have lost packages, and so may its successors. A caller that has listed the
	// whole mirror and added every package clears it. It is always empty in a layout whose pointer cannot
	// record it.
	Foreign string
	view    bool   // the pointer of a named index
	text    []byte // content of the object at the fixed name, if Broken
	// Place is the position of the index in its history, and Past says which packages are kept out of it.
	// They are empty if another program or an older release wrote the index: see PointerForUpdate.
	history.Place
	history.Past
	Recalled bool     // Place and Past come from the history, not from the pointer
	proofs   []string // proofs of the storage when the pointer was written: see mirror.Prover
	Proof    string   // proof required before the pointer is replaced; empty: none
}

// An IndexRef identifies the document of an index. Its Digest is unknown if there is no index.
type IndexRef struct {
	Digest blob.Digest
	Size   int64 // bytes
}

func NewPointer(f Layout) *Pointer {
	return &Pointer{Version: mirror.Absent, Refs: make([]IndexRef, len(f.Generations()))}
}

// Digest identifies the indices: the SHA-256 of the document, or those of several documents joined by +. It
// is empty if there is no index.
func (p *Pointer) Digest() string {
	var all []string
	for _, ref := range p.Refs {
		if ref.Digest.Known() {
			all = append(all, ref.Digest.String())
		}
	}
	return strings.Join(all, "+")
}

// Size returns the size of all index documents, in bytes.
func (p *Pointer) Size() int64 {
	var n int64
	for _, ref := range p.Refs {
		n += ref.Size
	}
	return n
}

// Listed returns the pointer for a writer that adds every package of a survey: without Foreign, if the survey
// covers the whole mirror.
func (p *Pointer) Listed(seen *Survey) *Pointer {
	if p.Foreign == "" || !seen.whole {
		return p
	}
	out := *p
	out.Foreign = ""
	return &out
}

// NeedsProof records in Proof what must be proved of a store before the pointer is replaced.
func (p *Pointer) NeedsProof(s mirror.Store) {
	prover := mirror.ProverOf(s)
	if prover == nil {
		return
	}
	if proof := prover.Proof(p.Version); proof != "" && !slices.Contains(p.proofs, proof) {
		p.Proof = proof
	}
}

// proved returns the proofs of the storage that hold once the pointer has been replaced.
func (p *Pointer) proved() []string {
	if p.Proof == "" {
		return p.proofs
	}
	return append(slices.Clone(p.proofs), p.Proof)
}

// PointerForUpdate reads what a publisher needs of the index before it writes. If another program has
// replaced or removed the pointer, the packages that are kept out are read from the history.
func PointerForUpdate(ctx context.Context, f Layout, r mirror.Reader) (*Pointer, error) {
	p, err := f.ReadPointer(ctx, r)
	if err != nil {
		return nil, err
	}
	return p, p.prepareUpdate(ctx, f, r)
}

// prepareUpdate reads what a publisher needs in addition to the pointer.
func (p *Pointer) prepareUpdate(ctx context.Context, f Layout, r mirror.Reader) (err error) {
	if l, ok := r.(mirror.Lister); ok {
		if err := p.Recall(ctx, f, r, l); err != nil {
			return err
		}
	}
	p.Incomplete, err = f.Incomplete(ctx, r, p)
	return err
}

// ReadChecked reads the indices that p points at. It checks that Spack can read each record, unless their
// writer has checked that.
func ReadChecked(ctx context.Context, f Layout, r mirror.Reader, p *Pointer) (*indices.Set, error) {
	x, err := f.ReadIndex(ctx, r, p)
	if err == nil && !p.Checked {
		err = content(x.Check())
	}
	return x, err
}
