package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// needsName is the entry that names the packages of earlier files that a file needs. A file that needs none
// does not have it.
const needsName = ".export.json"

const maxNeeds = 64 << 20

type needs struct {
	Needs []string `json:"needs"` // hashes of packages
}

// Need records packages of earlier files, by their hashes, that the packages of this file need.
func (w *Writer) Need(ctx context.Context, hashes []string) error {
	if len(hashes) == 0 {
		return nil
	}
	slices.Sort(hashes)
	text, err := json.Marshal(needs{slices.Compact(hashes)})
	if err != nil {
		panic(err) // texts
	}
	return w.Create(ctx, mirror.Upload{Name: needsName, Content: blob.Bytes(text), Digest: blob.DigestOf(text)})
}

// Needs returns the hashes of the packages of earlier files that the packages of this file need.
func (r *Reader) Needs(ctx context.Context) ([]string, error) {
	text, _, err := mirror.Read(ctx, r, needsName, maxNeeds)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil, nil
	}
	var n needs
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", needsName, err)
	}
	return n.Needs, nil
}
