package prune

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Records of what became of an index are below historyDir, in a directory for each index. Their names begin with a number that
// falls as generations rise.
const historyDir = ".history/"

// withdrawn is the directory of documents of layout v2 that were withdrawn and may be brought back.
const withdrawn = "withdrawn/"

// readHistory keeps what the newest records of each index name, and what withdrawn packages need to be brought back.
func (s *scan) readHistory(ctx context.Context, store Store) error {
	root := historyDir + s.layout.Name() + "/"
	inDir := make(map[string]int)
	for info, err := range store.List(ctx, mirror.Range{Prefix: root}) {
		if err != nil {
			return fmt.Errorf("list %s: %w", root, err)
		}
		if strings.HasPrefix(info.Name, root+withdrawn) {
			if s.expired(info.Modified) {
				s.buried = append(s.buried, info)
				continue
			}
			s.need(stemKey(stemOf(info.Name)))
		}
		dir := path.Dir(info.Name)
		if inDir[dir]++; inDir[dir] > s.generations && !strings.HasPrefix(info.Name, root+withdrawn) {
			continue
		}
		digests, err := digestsIn(ctx, s.reader, info.Name)
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			return err
		}
		for _, k := range digests {
			s.need(k)
		}
	}
	return nil
}

// stemOf is what the document and the tarball of a package have in common in layout v2.
func stemOf(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".sig"), ".spec.json")
}
