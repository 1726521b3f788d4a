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

// lookAtSocketEvery is how often is looked whether the file of a socket is there.
const lookAtSocketEvery = 5 * time.Second

// keepSocket answers at a socket anew when its file is removed, as by what clears temporary directories: peers
// could not connect any more. Those that are connected are answered all the same. What else is there under
// its name stays.
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
				o.log.Error("the socket was removed, and nothing can connect", "socket", l.path, "reason", failed)
			}
			continue
		}
		failed = ""
		o.log.Warn("the socket was removed, and is there again", "socket", l.path)
		g.Go(func() error { return api.Serve(ctx, again, h) })
	}
}

// relisten is listenUnix while others make files: it leaves the umask alone. The socket is made in a directory
// that nothing else can enter, and has its mode before it is moved to its place.
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
	l.SetUnlinkOnClose(false) // it has another name then
	if err = openTo(made, group); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}
