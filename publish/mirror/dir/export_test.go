package dir

import (
	"context"
	"os"
)

// Abandon begins an upload and lets go of it, as the death of the process does.
func (m *Mirror) Abandon(ctx context.Context, name string) error {
	root, err := m.begin(ctx, name)
	if err != nil {
		return err
	}
	t, err := newTemp(root, m.below+name)
	if err != nil {
		return err
	}
	return t.file.Close()
}

// WithoutLinks makes d believe that its file system has no hard links, or whatever err says.
func (d *Dir) WithoutLinks(err error) {
	d.link = func(*os.Root, string, string) error { return &os.LinkError{Op: "linkat", Err: err} }
}

// TempPath and ParseTempPath are inverses.
var TempPath, ParseTempPath, NewID = tempPath, parseTempPath, newID
