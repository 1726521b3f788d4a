package web

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestRedirectsFromHTTPToHTTPS(t *testing.T) {
	for _, row := range []struct {
		from, to string
		want     error
	}{
		{"http://a/x", "https://a/x", nil},
		{"http://a:80/x", "https://a:443/x", nil},
		{"http://A/x", "http://a:80/y", nil},
		{"https://a/x", "https://a:443/y", nil},
		{"http://a:8080/x", "http://a:8080/y", nil},
		{"http://a:8080/x", "https://a:8080/y", nil},
		{"http://a/x", "http://a:8080/x", errElsewhere},
		{"http://a:8080/x", "http://a/x", errElsewhere},
		{"http://a/x", "https://a:8443/x", errElsewhere},
		{"http://a/x", "http://a:443/x", errElsewhere},
		{"http://a/x", "http://b/x", errElsewhere},
		{"http://a/x", "http://a.b/x", errElsewhere},
		{"http://a/x", "http://a@b/x", errElsewhere},
		{"https://a/x", "http://a/x", errDowngrade},
	} {
		from, _ := url.Parse(row.from)
		to, _ := url.Parse(row.to)
		if err := follow(&http.Request{URL: to}, []*http.Request{{URL: from}}); !errors.Is(err, row.want) {
			t.Errorf("from %s to %s: %v, want %v", row.from, row.to, err, row.want)
		}
	}
}

// A private address is connected to only if the URL is of a private host.
func TestPrivateAddresses(t *testing.T) {
	for _, row := range []struct {
		addresses string // of one name, one after the other
		refused   bool   // the last one
	}{
		{"93.184.216.34 2606:2800:220:1::1", false},
		{"10.0.0.1 10.0.0.2", false},
		{"127.0.0.1", false},
		{"::1 127.0.0.1", false},
		{"192.168.1.1 93.184.216.34", false},
		{"93.184.216.34 10.0.0.1", true},
		{"93.184.216.34 127.0.0.1", true},
		{"93.184.216.34 ::1", true},
		{"93.184.216.34 fd12::1", true},
		{"93.184.216.34 100.64.0.1", true},
		{"93.184.216.34 ::ffff:10.0.0.1", true},
		{"192.168.1.1 93.184.216.34 192.168.1.1", true},
		{"169.254.169.254", true},
		{"10.0.0.1 169.254.169.254", true},
		{"fe80::1", true},
		{"fd00:ec2::254", true},
		{"0.0.0.0", true},
		{"::", true},
		{"224.0.0.1", true},
	} {
		g := &guard{host: "a"}
		var err error
		for at := range strings.FieldsSeq(row.addresses) {
			err = g.permit(netip.MustParseAddr(at).Unmap())
		}
		if (err != nil) != row.refused {
			t.Errorf("%s: %v", row.addresses, err)
		}
	}
}

// The guard stands where connections are made.
func TestANameThatChangesItsAddress(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }))
	defer s.Close()
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, base := range []string{"http://localhost" + port, "http://127.0.0.1" + port} { // the URL itself is of a private host
		m, err := Open(base, Options{Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Stat(t.Context(), "x"); err != nil {
			t.Errorf("%s: %v", base, err)
		}
		m.Close()
	}
	g := &guard{host: "localhost"}
	if err := g.permit(netip.MustParseAddr("93.184.216.34")); err != nil { // where it led before
		t.Fatal(err)
	}
	m, err := Open("http://localhost"+port, Options{Attempts: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.client.Transport = g.guards(http.DefaultTransport.(*http.Transport))
	if _, err := m.Stat(t.Context(), "x"); !errors.Is(err, errPrivate) {
		t.Errorf("asked: %v", err)
	}
}
