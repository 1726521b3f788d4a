package index

import (
	"io"
	"sort"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// pieces is a Source that joins byte slices without copying them.
type pieces struct {
	parts [][]byte
	ends  []int64 // ends[i] is the end of parts[i] in the content
}

func (p *pieces) add(part []byte) {
	if len(part) > 0 {
		p.parts = append(p.parts, part)
		p.ends = append(p.ends, p.Size()+int64(len(part)))
	}
}

func (p *pieces) Size() int64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

func (p *pieces) Open() (blob.Reader, error) { return p, nil }
func (p *pieces) Close() error               { return nil }

func (p *pieces) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > off }); i < len(p.parts) && n < len(b); i++ {
		start := p.ends[i] - int64(len(p.parts[i]))
		n += copy(b[n:], p.parts[i][off+int64(n)-start:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
