package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)
	errDowngrade = errors.New("a redirect leads from https to http")
	errElsewhere = errors.New("a redirect leads to another host or port: give the URL that clients are to use")
	errPrivate   = errors.New("its name leads to an address that is not public")
)

// follow permits redirects to another path, and from http to https. Any other redirect could lead into a private
// network or to the metadata service of a machine.
func follow(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	switch {
	case len(before) > maxRedirects:
		return errRedirects
	case first.Scheme == "https" && next.URL.Scheme != "https":
		return errDowngrade
	case ports[next.URL.Scheme] == "" || !strings.EqualFold(first.Hostname(), next.URL.Hostname()) || !samePort(first, next.URL):
		return errElsewhere
	}
	return nil
}

var ports = map[string]string{"http": "80", "https": "443"}

func samePort(first, next *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return ports[u.Scheme]
	}
	return port(first) == port(next) || port(first) == ports["http"] && port(next) == ports["https"] && next.Scheme == "https"
}

// A guard checks the addresses to which the name of a host resolves. If a name resolves to private addresses from
// the start, the operator has chosen that. A name that resolves to a public address first and to a private one
// later, or to the metadata service of the machine, is an attack.
type guard struct {
	host string // of the URL

	mu     sync.Mutex // guards the fields below
	known  bool       // a connection was started
	public bool       // to a public address
}

const (
	dialTimeout = 30 * time.Second
	keepAlive   = 30 * time.Second
)

// guarded returns a transport that connects to the host only if its guard permits the address, bounds the size of
// headers, and does not decompress bodies. The address of a proxy is not checked.
func guarded(t *http.Transport, host string) *http.Transport {
	t = t.Clone()
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxHeaders
	if _, err := netip.ParseAddr(host); err == nil {
		return t // the URL itself names the address
	}
	return (&guard{host: host}).guards(t)
}

// guards returns a transport that connects to the guard's host only with the guard's permission.
func (g *guard) guards(t *http.Transport) *http.Transport {
	t = t.Clone()
	plain := t.DialContext
	if plain == nil {
		plain = (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext
	}
	t.DialTLSContext = nil // so that TLS uses DialContext
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, ControlContext: g.control}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if name, _, err := net.SplitHostPort(addr); err != nil || !strings.EqualFold(name, g.host) {
			return plain(ctx, network, addr)
		}
		return d.DialContext(ctx, network, addr)
	}
	return t
}

// control is called for each address before the connection is made.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return g.permit(at.Addr().Unmap().WithZone(""))
}

var (
	metadata = netip.MustParseAddr("fd00:ec2::254") // of EC2, beside 169.254.169.254
	shared   = netip.MustParsePrefix("100.64.0.0/10")
)

func (g *guard) permit(a netip.Addr) error {
	if a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a == metadata {
		return errPrivate
	}
	public := !a.IsPrivate() && !a.IsLoopback() && !shared.Contains(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known && g.public && !public {
		return errPrivate
	}
	g.known, g.public = true, g.public || public
	return nil
}
