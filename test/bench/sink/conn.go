package sink

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// Loopback is a free port of 127.0.0.1.
const Loopback = "127.0.0.1:0"

// Listen listens on addr, each connection to which gives at most rate bytes a second; 0: no
// limit.
func Listen(addr string, rate int64) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil || rate == 0 {
		return l, err
	}
	return &slow{l, rate}, nil
}

type slow struct {
	net.Listener
	rate int64
}

func (l *slow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		// What the kernel takes in beyond this is not slowed down.
		if err := tcp.SetReadBuffer(256 << 10); err != nil {
			return nil, err
		}
	}
	return &slowConn{Conn: c, rate: l.rate}, nil
}

// A slowConn is read no faster than its rate allows.
type slowConn struct {
	net.Conn
	rate int64
	free time.Time // when all that was read so far has been paid for
}

// nap is the shortest time that is worth a sleep.
const nap = 2 * time.Millisecond

func (c *slowConn) Read(p []byte) (int, error) {
	if ahead := time.Until(c.free); ahead > nap {
		time.Sleep(ahead)
	}
	n, err := c.Conn.Read(p)
	if now := time.Now(); c.free.Before(now) {
		c.free = now // nothing is saved up
	}
	c.free = c.free.Add(time.Duration(int64(n) * int64(time.Second) / c.rate))
	return n, err
}

// Secure returns how to speak TLS, as S3 does, with a certificate that is returned in PEM
// form for clients to trust.
func Secure() (*tls.Config, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "sink"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(wellKnownHost)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"http/1.1"}, // as S3
	}, cert, nil
}

// wellKnownHost is the loopback address on whose ports 80 or 443 a sink is found too, if it
// may listen there: some clients connect to no other port.
const wellKnownHost = "127.0.0.77"

// WellKnown is that address, with the port of HTTP or HTTPS.
func WellKnown(secure bool) string {
	if secure {
		return wellKnownHost + ":443"
	}
	return wellKnownHost + ":80"
}
