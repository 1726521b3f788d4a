package dir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Names of the attributes in which Linux keeps POSIX ACLs. See acl(5) and linux/posix_acl_xattr.h.
const (
	accessAttribute  = "system.posix_acl_access"
	defaultAttribute = "system.posix_acl_default"
)

// An ACL is a version and entries of a tag, permissions and an ID, in little endian.
const (
	aclVersion = 2
	aclHeader  = 4
	aclEntry   = 8

	aclOwner = 0x01 // tags
	aclGroup = 0x04
	aclMask  = 0x10
	aclOther = 0x20
)

// defaultACL returns the default ACL of a directory, which new files in it inherit. It is nil if there is none, or
// if the file system has no ACLs.
func defaultACL(dir *os.File) ([]byte, error) {
	for {
		size, err := unix.Fgetxattr(int(dir.Fd()), defaultAttribute, nil)
		acl := make([]byte, max(size, 0))
		if err == nil && size > 0 {
			size, err = unix.Fgetxattr(int(dir.Fd()), defaultAttribute, acl)
		}
		switch {
		case errors.Is(err, unix.ERANGE): // longer than a moment ago
		case errors.Is(err, unix.ENODATA), errors.Is(err, errors.ErrUnsupported), err == nil && size == 0:
			return nil, nil
		case err != nil:
			return nil, &fs.PathError{Op: "read default ACL", Path: dir.Name(), Err: err}
		default:
			return acl[:size], nil
		}
	}
}

// inherit gives a file the ACL that the system would have given it in a directory with this default ACL.
func inherit(f *os.File, acl []byte) error {
	access, err := limited(acl, fileMode)
	if err == nil {
		err = unix.Fsetxattr(int(f.Fd()), accessAttribute, access, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "set ACL", Path: f.Name(), Err: err}
	}
	return nil
}

// limited returns acl restricted to mode: the bits of the owner, of all others, and of the entries between them, by
// the mask if there is one and by the entry of the group otherwise.
func limited(acl []byte, mode fs.FileMode) ([]byte, error) {
	if len(acl) < aclHeader || len(acl[aclHeader:])%aclEntry != 0 || binary.LittleEndian.Uint32(acl) != aclVersion {
		return nil, errors.New("default ACL of an unknown form")
	}
	acl = slices.Clone(acl)
	between := -1
	for at := aclHeader; at < len(acl); at += aclEntry {
		switch tag := binary.LittleEndian.Uint16(acl[at:]); {
		case tag == aclOwner:
			limit(acl[at:], mode>>6)
		case tag == aclOther:
			limit(acl[at:], mode)
		case tag == aclMask, tag == aclGroup && between < 0: // entries are in the order of their tags
			between = at
		}
	}
	if between >= 0 {
		limit(acl[between:], mode>>3)
	}
	return acl, nil
}

func limit(entry []byte, mode fs.FileMode) {
	permissions := binary.LittleEndian.Uint16(entry[2:])
	binary.LittleEndian.PutUint16(entry[2:], permissions&uint16(mode&7))
}

// dropInherited removes the ACL that a file inherited from the directory in which it was made. The umask then
// decides its mode.
func dropInherited(f *os.File) error {
	err := unix.Fremovexattr(int(f.Fd()), accessAttribute)
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, errors.ErrUnsupported) {
		return &fs.PathError{Op: "remove ACL", Path: f.Name(), Err: err}
	}
	return f.Chmod(fileMode &^ umask())
}

// umask returns the umask of the process. The system call that reads it also changes it for other goroutines, so it
// is read from /proc. If that is impossible, others may read.
func umask() fs.FileMode {
	const usual = 0o022
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return usual
	}
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("Umask:")); ok {
			if mask, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 8, 32); err == nil {
				return fs.FileMode(mask).Perm()
			}
		}
	}
	return usual
}
