package dir

import (
	"io/fs"
	"os"
	"path"
	"syscall"
)

// An inheritance is the group and the ACL that a directory gives to new files.
type inheritance struct {
	gid int    // of the directory if it is setgid; -1: files get the group of the process
	acl []byte // the default ACL, as the system writes it; nil: none, the umask decides
}

// inheritanceOf reads the inheritance of a directory. It is read for each file, because it may change at any time.
func inheritanceOf(root *os.Root, dir string) (inheritance, error) {
	f, err := root.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return inheritance{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return inheritance{}, err
	}
	h := inheritance{gid: -1}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&fs.ModeSetgid != 0 {
		h.gid = int(s.Gid)
	}
	h.acl, err = defaultACL(f)
	return h, err
}

// permit gives a temp the group and the permissions that it would have if it had been made in the directory of
// full. If the group cannot be changed, it stays. If the permissions cannot be set, that is an error, because other
// permissions would admit more readers, or fewer.
func (t *temp) permit(full string) error {
	made, err := inheritanceOf(t.root, path.Dir(t.path))
	if err != nil {
		return err
	}
	want, err := inheritanceOf(t.root, path.Dir(full))
	if err != nil {
		return err
	}
	switch {
	case want.gid >= 0:
		_ = t.file.Chown(-1, want.gid)
	case made.gid >= 0:
		_ = t.file.Chown(-1, os.Getegid())
	}
	switch {
	case want.acl != nil:
		return inherit(t.file, want.acl)
	case made.acl != nil:
		return dropInherited(t.file)
	}
	return nil
}
