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
	// Coverage is what the indices offer, where the pointer says so.
	Coverage index.Coverage
	offers   jsontext.Value // the same as it was read, until it is needed
	// Stored is when the object at the fixed name was stored.
	Stored time.Time

	Refs       []IndexRef         // of each generation of the layout
	Checked    bool               // the writer of the indices made sure that Spack can read them
	Manifest   *manifest.Manifest // of layout v3, as it was read: it may name what we do not know
	Content    []byte             // of a layout that names no content: the index document, which is the pointer
	Broken     error              // why the object at the fixed name points at nothing
	Incomplete bool               // see Layout.Incomplete
	// Foreign is the digest of an index that another program has written, if the whole mirror has not been listed
	// since. Such an index may have lost packages, and so may all that were made of it. A caller that has added
	// everything which it has listed clears it. It is always empty in a layout whose pointer cannot say so.
	Foreign string
	view    bool   // it is that of a named index
	text    []byte // of the object at the fixed name, where broken
	// Place and Past say how the index came about, and which packages are kept out of it. They are not known where
	// another program wrote the index, or an older release: see PointerForUpdate.
	history.Place
	history.Past
	Recalled bool     // Place and Past are not what the pointer says, but what the history does
	proofs   []string // what was proved of the storage when the pointer was written: see mirror.Prover
	Proof    string   // what must be proved before the pointer is replaced; empty: nothing more
}

// An IndexRef is the document of an index. Its Digest is not known where there is none.
type IndexRef struct {
	Digest blob.Digest
	Size   int64 // bytes
}

func NewPointer(f Layout) *Pointer {
	return &Pointer{Version: mirror.Absent, Refs: make([]IndexRef, len(f.Generations()))}
}

// Digest identifies the indices: the SHA-256 of the document, or those of several with a + between
// them; empty if there is none.
func (p *Pointer) Digest() string {
	var all []string
	for _, ref := range p.Refs {
		if ref.Digest.Known() {
			all = append(all, ref.Digest.String())
		}
	}
	return strings.Join(all, "+")
}

// Size is that of all index documents, in bytes.
func (p *Pointer) Size() int64 {
	var n int64
	for _, ref := range p.Refs {
		n += ref.Size
	}
	return n
}

// Listed returns the pointer as a writer builds on it that adds everything which a survey has found.
func (p *Pointer) Listed(seen *Survey) *Pointer {
	if p.Foreign == "" || !seen.whole {
		return p
	}
	out := *p
	out.Foreign = ""
	return &out
}

// NeedsProof notes what must be proved of a store before the pointer is replaced.
func (p *Pointer) NeedsProof(s mirror.Store) {
	prover := mirror.ProverOf(s)
	if prover == nil {
		return
	}
	if proof := prover.Proof(p.Version); proof != "" && !slices.Contains(p.proofs, proof) {
		p.Proof = proof
	}
}

// proved is what is known of the storage when the pointer has been replaced.
func (p *Pointer) proved() []string {
	if p.Proof == "" {
		return p.proofs
	}
	return append(slices.Clone(p.proofs), p.Proof)
}

// PointerForUpdate reads what a publisher must know of the index before it writes. Which packages are kept out is
// read from the history where another program has replaced or removed the pointer.
func PointerForUpdate(ctx context.Context, f Layout, r mirror.Reader) (*Pointer, error) {
	p, err := f.ReadPointer(ctx, r)
	if err != nil {
		return nil, err
	}
	return p, p.prepareUpdate(ctx, f, r)
}

// prepareUpdate reads what else than the pointer a publisher must know.
func (p *Pointer) prepareUpdate(ctx context.Context, f Layout, r mirror.Reader) (err error) {
	if l, ok := r.(mirror.Lister); ok {
		if err := p.Recall(ctx, f, r, l); err != nil {
			return err
		}
	}
	p.Incomplete, err = f.Incomplete(ctx, r, p)
	return err
}

// ReadChecked reads the indices that p points at, and makes sure that Spack can read each record, unless their writer
// did.
func ReadChecked(ctx context.Context, f Layout, r mirror.Reader, p *Pointer) (*indices.Set, error) {
	x, err := f.ReadIndex(ctx, r, p)
	if err == nil && !p.Checked {
		err = content(x.Check())
	}
	return x, err
}
