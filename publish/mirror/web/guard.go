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

// follow follows a redirect to another path, and from http to https. Where else a server could send us, others
// could not look for us: networks behind a firewall, the metadata of a machine.
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

// A guard looks at the addresses that the name of a host leads to. A name whose addresses are those of a
// private network is one of that network, and whoever gave the URL meant that. But a name that leads to a
// public address now and to a private one later, or to the machine's own metadata, was made for that.
type guard struct {
	host string // of the URL

	mu     sync.Mutex // guards what follows
	known  bool       // a connection was begun
	public bool       // to a public address
}

const (
	dialTimeout = 30 * time.Second
	keepAlive   = 30 * time.Second
)

// guarded is a transport that connects to a host only as its guard permits, and reads answers of
// bounded size, as they are. A proxy has any address.
func guarded(t *http.Transport, host string) *http.Transport {
	t = t.Clone()
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxHeaders
	if _, err := netip.ParseAddr(host); err == nil {
		return t // the URL itself names the address
	}
	return (&guard{host: host}).guards(t)
}

// guards is a transport that connects to the guard's host by its permission.
func (g *guard) guards(t *http.Transport) *http.Transport {
	t = t.Clone()
	plain := t.DialContext
	if plain == nil {
		plain = (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext
	}
	t.DialTLSContext = nil // TLS is spoken over what DialContext returns
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, ControlContext: g.control}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if name, _, err := net.SplitHostPort(addr); err != nil || !strings.EqualFold(name, g.host) {
			return plain(ctx, network, addr)
		}
		return d.DialContext(ctx, network, addr)
	}
	return t
}

// control is called with each address before it is connected to.
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
