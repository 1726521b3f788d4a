package sink

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// Names is a file with objects that a mirror has in name only: a size and a name in each
// line. So a bucket of a million objects need not be made.
const Names = ".names"

// Load puts the files of a directory into the bucket, below prefix, without counting.
func (s *Server) Load(dir, prefix string) error {
	to := s.s3.Load()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == Names {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		to.Put(path.Join(prefix, filepath.ToSlash(rel)), content, false)
		return err
	})
	if err != nil {
		return err
	}
	list, err := os.Open(filepath.Join(dir, Names))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		size, name, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return err
		}
		to.Invent(path.Join(prefix, name), n)
	}
}

// store keeps bodies of up to so many bytes.
type store int64

func (s store) New(key string, size int64) s3test.Body {
	if size > int64(s) {
		return s3test.Discard.New(key, size)
	}
	return s3test.Memory.New(key, size)
}
