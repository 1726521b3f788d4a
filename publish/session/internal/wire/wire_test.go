package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func noise(size int) []byte {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(content)
	return content
}

// counted counts what is written to the wire.
type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// All records of a piece go out together: 8 MiB are 512 records.
func TestPiecesAreLarge(t *testing.T) {
	for _, secure := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
		start := map[bool]func(){false: server.Start, true: server.StartTLS}[secure]
		start()
		defer server.Close()
		var writes atomic.Int64
		tr := &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				return &counted{c, &writes}, err
			},
			TLSClientConfig: server.Client().Transport.(*http.Transport).TLSClientConfig,
		}
		WriteLarge(tr)
		defer tr.CloseIdleConnections()
		r, err := http.NewRequest("PUT", server.URL, io.NopCloser(struct{ io.Reader }{bytes.NewReader(noise(8 << 20))}))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = 8 << 20
		answer, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		// On a machine where nothing is taken at once pieces stay small.
		if n := writes.Load(); n > 8<<20/smallestPiece+20 {
			t.Errorf("secure %v: %d writes", secure, n)
		}
	}
}

func TestPiecesGrowWhereTheyAreTaken(t *testing.T) {
	size := smallestPiece
	for range 10 {
		size = nextPiece(size, time.Millisecond)
	}
	if size != largestPiece {
		t.Errorf("on a fast line a piece has %d bytes", size)
	}
	for range 10 {
		size = nextPiece(size, time.Second)
	}
	if size != smallestPiece {
		t.Errorf("on a slow line a piece has %d bytes", size)
	}
}

// What the reading side writes while something is held back neither overtakes it nor is lost.
func TestNothingOvertakesWhatIsHeldBack(t *testing.T) {
	ours, theirs := net.Pipe()
	got := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(theirs)
		got <- all
	}()
	c := &heldConn{Conn: ours}
	var want bytes.Buffer
	for i := range 200 {
		c.hold()
		for j := range 3 {
			text := fmt.Sprintf("%d.%d ", i, j)
			want.WriteString(text)
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
		}
		if i == 100 { // more than there is room for
			large := noise(3 * room)
			want.Write(large)
			if _, err := c.Write(large); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.send(); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%d ", i)
		want.WriteString(text)
		io.WriteString(c, text)
	}
	var g sync.WaitGroup
	for range 4 { // for the race detector
		g.Go(func() { io.WriteString(c, "x") })
	}
	c.hold()
	g.Wait()
	c.send()
	ours.Close()
	if all := <-got; !bytes.Equal(all, append(want.Bytes(), "xxxx"...)) {
		t.Errorf("got %d bytes in another order, want %d", len(all), want.Len()+4)
	}
}

func TestAServerThatShakesNoHands(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr := &http.Transport{DialContext: new(net.Dialer).DialContext, TLSHandshakeTimeout: 100 * time.Millisecond}
	WriteLarge(tr)
	_, err = tr.DialTLSContext(t.Context(), "tcp", l.Addr().String())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
