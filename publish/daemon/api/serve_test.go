package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serving answers with h until the test has ended.
func serving(t *testing.T, network, address string, o limits, h http.HandlerFunc) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, h, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr()
}

func dial(t *testing.T, to net.Addr, send string) net.Conn {
	t.Helper()
	c, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	return c
}

// closes reports whether the other side closes a connection, however long that takes.
func closes(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, c)
	if late, ok := err.(net.Error); ok && late.Timeout() {
		t.Error("the connection stays open")
	}
}

const shortly = 200 * time.Millisecond

func quick(connections int, drops bool) limits {
	return limits{read: shortly, write: shortly, idle: time.Minute, connections: connections, drops: drops}
}

func TestPeersThatSendTooSlowlyAreDropped(t *testing.T) {
	read := make(chan string, 1)
	at := serving(t, "tcp", "127.0.0.1:0", quick(100, true), func(w http.ResponseWriter, r *http.Request) {
		var q Push
		if !understand(w, r, &q) {
			read <- "not read"
		}
	})
	closes(t, dial(t, at, "GET / HTTP/1.1\r\nHost: x\r\n"))
	closes(t, dial(t, at, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{"))
	if got := <-read; got != "not read" {
		t.Error(got)
	}
}

func TestPeersThatDoNotReadAreDropped(t *testing.T) {
	wrote := make(chan error, 1)
	at := serving(t, "tcp", "127.0.0.1:0", quick(100, true), func(w http.ResponseWriter, r *http.Request) {
		lines := stream(w)
		for {
			if err := lines(strings.Repeat("x", 64<<10)); err != nil {
				wrote <- err
				return
			}
		}
	})
	dial(t, at, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-wrote:
	case <-time.After(30 * time.Second):
		t.Error("it is still being answered")
	}
}

// Who waits for something to happen waits longer than it takes to send or read.
func TestAWaitIsNotCutShort(t *testing.T) {
	at := serving(t, "tcp", "127.0.0.1:0", quick(100, true), func(w http.ResponseWriter, r *http.Request) {
		var q Push
		if !understand(w, r, &q) {
			return
		}
		for range 4 {
			select {
			case <-time.After(shortly):
			case <-r.Context().Done():
				write(w, http.StatusInternalServerError, r.Context().Err().Error())
				return
			}
		}
		lines := stream(w)
		for i := range 3 {
			if err := lines(i); err != nil {
				return
			}
			time.Sleep(2 * shortly)
		}
	})
	answer, err := http.Post(fmt.Sprintf("http://%s/", at), "application/json", strings.NewReader(`{"paths":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "0\n1\n2\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// However many connections there are to the status page, the next one to look is answered.
func TestAFloodKeepsNobodyFromLooking(t *testing.T) {
	o := ofPages
	o.connections = 8
	at := serving(t, "tcp", "127.0.0.1:0", o, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "well") })
	first := dial(t, at, "GET / HTTP/1.1\r\nHost: x\r\n")
	for range 50 {
		dial(t, at, "GET / HTTP/1.1\r\nHost: x\r\n")
	}
	answer, err := http.Get(fmt.Sprintf("http://%s/", at))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || string(text) != "well" {
		t.Errorf("%q, %v", text, err)
	}
	closes(t, first) // long before its time
}

// A socket keeps the peers that wait, and takes new ones when they have left.
func TestASocketHasSoManyPeers(t *testing.T) {
	o := ofSockets
	o.connections = 4
	at := serving(t, "unix", filepath.Join(t.TempDir(), "s"), o, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "well") })
	ask := func(c net.Conn) bool {
		if _, err := io.WriteString(c, "\r\n"); err != nil {
			return false
		}
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, _ := c.Read(make([]byte, 8))
		return n > 0
	}
	var all []net.Conn
	for range 4 {
		all = append(all, dial(t, at, "GET / HTTP/1.1\r\nHost: x\r\n"))
	}
	refused, err := net.Dial(at.Network(), at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	closes(t, refused)
	for _, c := range all {
		if !ask(c) {
			t.Error("one that was there is not answered")
		}
		c.Close()
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial(at.Network(), at.String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n")
		answered := err == nil && ask(c)
		c.Close()
		if answered {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no new one is taken")
		}
	}
}
