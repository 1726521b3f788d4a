package inventory

import (
	"errors"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/index"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A DamagedError says why an existing index cannot be used.
type DamagedError struct {
	Name string // of the index or its pointer
	Err  error
}

func (e *DamagedError) Error() string { return "the index " + e.Name + " is damaged: " + e.Err.Error() }
func (e *DamagedError) Unwrap() error { return e.Err }

// Damage wraps an error of reading an index in a DamagedError if the content is at fault. An index of a newer
// version is not damaged. It returns nil for nil.
func Damage(l buildcache.Layout, err error) error {
	name := l.IndexNames()[0]
	if version, ok := errors.AsType[*index.VersionError](err); ok && version.Newer() {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !InContent(err) {
		return err
	}
	return &DamagedError{name, err}
}

// InContent reports whether an error concerns the content of a mirror, and not the access to it.
func InContent(err error) bool {
	_, unusable := errors.AsType[*buildcache.ContentError](err)
	_, mismatch := errors.AsType[*blob.MismatchError](err)
	return unusable || mismatch || errors.Is(err, mirror.ErrNotExist)
}
