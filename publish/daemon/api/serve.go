package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// limits are what peers may take of us.
type limits struct {
	read  time.Duration // until a request has arrived, its headers and its body each
	write time.Duration // until what is written at once is read: an answer, or a line of a stream
	idle  time.Duration // between two requests on a connection

	connections int
	drops       bool // the oldest connection for a new one; else the new one
}

// Where there are too many connections, a status page drops the oldest one, so that a flood keeps nobody from
// looking; a socket, whose peers wait for what they have handed over, takes no new one.
var (
	ofPages   = limits{read: 10 * time.Second, write: 10 * time.Second, idle: 2 * time.Minute, connections: 128, drops: true}
	ofSockets = limits{read: 10 * time.Second, write: 10 * time.Second, idle: 2 * time.Minute, connections: 2048}
)

const (
	maxHeaders = 64 << 10
	// goodbye is how long answers may take once the server stops.
	goodbye = 2 * time.Second
)

// Serve answers on l until ctx ends, and returns when nobody is being answered any more. What
// is streamed ends with the daemon. Peers that send or read too slowly are dropped.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	if l.Addr().Network() == "unix" {
		return serve(ctx, l, h, ofSockets)
	}
	return serve(ctx, l, h, ofPages)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, o limits) error {
	srv := &http.Server{
		Handler: o.timely(h), ConnContext: withPeer, MaxHeaderBytes: maxHeaders,
		ReadHeaderTimeout: o.read, WriteTimeout: o.write, IdleTimeout: o.idle,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // that peers hang up is not worth a line
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(&crowd{Listener: l, most: o.connections, drops: o.drops}) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if srv.Shutdown(patience) != nil {
		srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// timely bounds how long a body may take to arrive, and each write. An answer may still be begun at any time
// after its request: some wait for what they are about.
func (o limits) timely(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(o.read))
		}
		h.ServeHTTP(&timelyWriter{w, http.NewResponseController(w), o.write}, r)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(o.write)) // for the end of the answer
	})
}

// arrived ends the time in which a body must arrive. A peer may be silent until it is answered.
func arrived(w http.ResponseWriter) { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }

// A timelyWriter gives each write its time.
type timelyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	within  time.Duration
}

func (w *timelyWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.within))
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController looks for.
func (w *timelyWriter) FlushError() error {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.within))
	return w.control.Flush()
}

// Unwrap is, too.
func (w *timelyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A crowd is a listener that has so many connections at most.
type crowd struct {
	net.Listener
	most  int
	drops bool // the oldest one for a new one; else the new one

	mu  sync.Mutex // guards all while one comes or goes
	all []*member  // the oldest first
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if one := c.enter(conn); one != nil {
			return one, nil
		}
		conn.Close()
	}
}

// enter returns nil if there is no room.
func (c *crowd) enter(conn net.Conn) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.most {
		if !c.drops {
			return nil
		}
		c.all[0].Conn.Close() // whatever is being done on it fails
		c.all = slices.Delete(c.all, 0, 1)
	}
	one := &member{conn, c}
	c.all = append(c.all, one)
	return one
}

// A member is one connection of a crowd.
type member struct {
	net.Conn
	crowd *crowd
}

// Close implements net.Conn.
func (m *member) Close() error {
	m.crowd.mu.Lock()
	m.crowd.all = slices.DeleteFunc(m.crowd.all, func(one *member) bool { return one == m })
	m.crowd.mu.Unlock()
	return m.Conn.Close()
}
