// Package systemd is what a service sees of systemd.
package systemd

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// A Manager hears what a service says of itself on the socket that NOTIFY_SOCKET names.
type Manager struct {
	Path string // of the socket
	mu   sync.Mutex
	said []string
}

// Manage listens at a path until the test ends.
func Manage(t *testing.T, path string) *Manager {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &Manager{Path: path}
	var listening sync.WaitGroup
	listening.Go(func() {
		for b := make([]byte, 4096); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(b[:n]))
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() { c.Close(); listening.Wait() })
	return m
}

// Count is how often something was said that begins with what.
func (m *Manager) Count(what string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.said {
		if strings.HasPrefix(s, what) {
			n++
		}
	}
	return n
}

func (m *Manager) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.said, "; ")
}
