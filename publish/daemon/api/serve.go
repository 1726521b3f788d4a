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

// limits bound the resources of peers.
type limits struct {
	read  time.Duration // for the arrival of the headers, and of the body
	write time.Duration // for one write: an answer, or a line of a stream
	idle  time.Duration // between two requests on a connection

	connections int
	drops       bool // whether a new connection replaces the oldest one or is dropped
}

// If there are too many connections, a status page drops the oldest one, so that a flood does not block readers. A
// socket drops the new one, because its peers wait for the results of their requests.
var (
	ofPages   = limits{read: 10 * time.Second, write: 10 * time.Second, idle: 2 * time.Minute, connections: 128, drops: true}
	ofSockets = limits{read: 10 * time.Second, write: 10 * time.Second, idle: 2 * time.Minute, connections: 2048}
)

const (
	maxHeaders = 64 << 10
	// goodbye is how long answers may take when the server stops.
	goodbye = 2 * time.Second
)

// Serve serves l until ctx ends, and returns when all answers are complete. Streams end with the daemon. Peers that
// send or read too slowly are disconnected.
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
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // disconnecting peers are not worth a line
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

// timely bounds the time for the arrival of a body, and for each write. There is no bound on the time until an
// answer begins, because some requests wait for an event.
func (o limits) timely(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(o.read))
		}
		h.ServeHTTP(&timelyWriter{w, http.NewResponseController(w), o.write}, r)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(o.write)) // for the rest of the answer
	})
}

// arrived removes the time limit of the body. After it, a peer may be silent until it is answered.
func arrived(w http.ResponseWriter) { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }

// A timelyWriter sets a time limit for each write.
type timelyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	within  time.Duration
}

func (w *timelyWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.within))
	return w.ResponseWriter.Write(p)
}

// FlushError implements the method that http.ResponseController uses.
func (w *timelyWriter) FlushError() error {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.within))
	return w.control.Flush()
}

// Unwrap does, too.
func (w *timelyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A crowd is a listener with a maximum number of connections.
type crowd struct {
	net.Listener
	most  int
	drops bool // whether a new connection replaces the oldest one or is dropped

	mu  sync.Mutex // guards all
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

// enter returns nil if there are too many connections.
func (c *crowd) enter(conn net.Conn) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.most {
		if !c.drops {
			return nil
		}
		c.all[0].Conn.Close() // its requests fail
		c.all = slices.Delete(c.all, 0, 1)
	}
	one := &member{conn, c}
	c.all = append(c.all, one)
	return one
}

// A member is a connection of a crowd.
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
