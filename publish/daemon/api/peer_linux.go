package api

import (
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerOf requests the user at the other end from the kernel.
func peerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	ctlErr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		p = Peer{PID: int(cred.Pid), User: int(cred.Uid), Groups: []int{int(cred.Gid)}}
		var more []int
		more, err = groupsOf(fd)
		p.Groups = append(p.Groups, more...)
	})
	if ctlErr != nil {
		err = ctlErr
	}
	return p, err
}

// groupsOf returns the supplementary groups of the peer, which SO_PEERCRED does not include.
func groupsOf(fd uintptr) ([]int, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno == unix.ERANGE { // size is now the required one
			groups = make([]uint32, size/4)
			continue
		}
		if errno != 0 {
			return nil, fmt.Errorf("SO_PEERGROUPS: %w", errno)
		}
		all := make([]int, size/4)
		for i := range all {
			all[i] = int(groups[i])
		}
		return all, nil
	}
}
