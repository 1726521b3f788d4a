package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
)

// lookAtSocketEvery is how often the file of a socket is checked.
const lookAtSocketEvery = 5 * time.Second

// keepSocket listens again when the file of a socket was removed, as by a cleaner of temporary directories:
// otherwise clients could not connect. Connected clients are still served. Another file at that path stays.
func (o *supervisor) keepSocket(ctx context.Context, g *defect.Group, l listener, h http.Handler) error {
	if l.path == "" {
		return nil
	}
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookAtSocketEvery):
		}
		if _, err := os.Lstat(l.path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		again, err := relisten(l.path, l.group)
		if err != nil {
			if failed != err.Error() {
				failed = err.Error()
				o.log.Error("the socket was removed, and clients cannot connect", "socket", l.path, "reason", failed)
			}
			continue
		}
		failed = ""
		o.log.Warn("the socket was removed, and has been created again", "socket", l.path)
		g.Go(func() error { return api.Serve(ctx, again, h) })
	}
}

// relisten is listenUnix without changing the umask, because other goroutines create files. It creates the
// socket in a private directory, sets its mode and moves it to its path.
func relisten(path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".new")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	if err := api.CheckSocket(made); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // its name is another one then
	if err = openTo(made, group); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}
