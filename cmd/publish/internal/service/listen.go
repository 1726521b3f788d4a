package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
)

// A listener is a listener and the requests that it accepts.
type listener struct {
	net.Listener
	everything bool // accepts requests that change something, too

	path, group string // of a socket that we created; empty: from systemd, or an address
}

// allowed returns the users who may use the socket.
func allowed(c *Config) (api.Allow, error) {
	allow := api.Allow{Self: os.Getuid()}
	var err error
	for _, name := range c.AllowUsers {
		var id int
		if id, err = userID(name); err != nil {
			return allow, cli.Fail(cli.ExitUsage, fmt.Errorf("allow_users: %w", err))
		}
		allow.Users = append(allow.Users, id)
	}
	groups := c.AllowGroups
	if c.SocketGroup != "" {
		groups = append(groups, c.SocketGroup)
	}
	for _, name := range groups {
		var id int
		if id, err = groupID(name); err != nil {
			return allow, cli.Fail(cli.ExitUsage, fmt.Errorf("allow_groups: %w", err))
		}
		allow.Groups = append(allow.Groups, id)
	}
	return allow, nil
}

func userID(name string) (int, error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

func groupID(name string) (int, error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// listenersOf opens the listeners of a configuration: the socket, which systemd may have opened and which an
// indexer may omit, and an address that serves only reads.
func listenersOf(c *Config) ([]listener, error) {
	var all []listener
	given, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	for _, l := range given {
		_, isUnix := l.(*net.UnixListener)
		all = append(all, listener{Listener: l, everything: isUnix})
	}
	if len(all) == 0 && c.Socket != "" {
		l, err := listenUnix(c.Socket, c.SocketGroup)
		if err != nil {
			return nil, err
		}
		all = append(all, listener{Listener: l, everything: true, path: c.Socket, group: c.SocketGroup})
	}
	if c.Listen != "" {
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return all, fmt.Errorf("listen: %w", err)
		}
		all = append(all, listener{Listener: l})
	}
	return all, nil
}

// listenUnix listens on a socket that its group may use. It replaces the socket of a dead process.
func listenUnix(path, group string) (net.Listener, error) {
	if err := api.CheckSocket(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("socket %s: another daemon answers on it", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("socket %s: another kind of file has that name", path)
		}
		os.Remove(path)
	}
	// No client can connect before the mode is set.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := openTo(path, group); err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

func openTo(path, group string) error {
	if group != "" {
		id, err := groupID(group)
		if err != nil {
			return err
		}
		if err := os.Chown(path, -1, id); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o660)
}

// onLoopback returns an error for an address that other machines could reach.
func onLoopback(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return errors.New("want host:port, such as 127.0.0.1:9464")
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is not a loopback address: put a server with authentication in front", host)
	}
	return nil
}
