package publish

import "github.com/vantagecompute/slurm-factory-publish/publish/mirror"

// A Store is what publishing needs of a mirror.
type Store interface {
	mirror.Reader
	mirror.Lister
	mirror.Writer
	mirror.Swapper
}
