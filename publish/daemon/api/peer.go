package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
)

// Allow lists the peers that are served on the socket, in addition to root and the user of the daemon.
type Allow struct {
	Self   int   // the user of the daemon
	Users  []int // ids
	Groups []int // ids; a peer is allowed if it is in any of them
}

// A Peer is the user at the other end of a socket, according to the kernel, at the time it connected.
type Peer struct {
	PID, User int
	Groups    []int
}

type peerKey struct{}

// withPeer records the user at the other end of a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if one, ok := c.(*member); ok {
		c = one.Conn
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	p, err := peerOf(u)
	if err != nil {
		return context.WithValue(ctx, peerKey{}, err)
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// admits returns why a peer is not allowed, or nil.
func (a Allow) admits(p Peer) error {
	if p.User == 0 || p.User == a.Self || slices.Contains(a.Users, p.User) {
		return nil
	}
	for _, g := range p.Groups {
		if slices.Contains(a.Groups, g) {
			return nil
		}
	}
	return fmt.Errorf("user %d (process %d) is not allowed to use this socket", p.User, p.PID)
}

// only rejects peers that are not allowed.
func (a Allow) only(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch p := r.Context().Value(peerKey{}).(type) {
		case Peer:
			err = a.admits(p)
		case error:
			err = fmt.Errorf("cannot identify the peer: %w", p)
		default:
			err = fmt.Errorf("cannot identify the peer")
		}
		if err != nil {
			write(w, http.StatusForbidden, &Error{Message: err.Error(), Hint: "let the daemon allow it: allow_users or allow_groups in its configuration"})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// loopbackOnly serves only requests whose host name is this machine. A foreign web page in a browser here could
// otherwise send requests under a host name of its own.
func loopbackOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			write(w, http.StatusForbidden, &Error{Message: fmt.Sprintf("asked as %q: want localhost or a loopback address", r.Host)})
			return
		}
		h.ServeHTTP(w, r)
	})
}
