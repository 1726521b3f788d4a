package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// A sender puts files in bare requests, over connections that are kept. It shares nothing with
// the connections of the product, which are measured by it: what they lost would not show.
type sender struct {
	to   *url.URL
	idle chan *connection
}

// A connection takes a request at a time.
type connection struct {
	io.Writer
	flush   func() error
	answers *bufio.Reader
}

// begin sends the head of a request. Its content is to be written to the connection.
func (s *sender) begin(name string, size int64) (*connection, error) {
	var c *connection
	select {
	case c = <-s.idle:
	default:
		var err error
		if c, err = s.connect(); err != nil {
			return nil, err
		}
	}
	_, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", s.to.JoinPath(name).EscapedPath(), s.to.Host, size)
	return c, err
}

// finish waits for the answer.
func (s *sender) finish(c *connection) error {
	if err := c.flush(); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, said)
	}
	s.idle <- c
	return nil
}

func (s *sender) connect() (*connection, error) {
	raw, err := net.Dial("tcp", s.to.Host)
	if err != nil {
		return nil, err
	}
	if s.to.Scheme != "https" {
		return &connection{raw, func() error { return nil }, bufio.NewReader(raw)}, nil
	}
	// TLS writes records of 16 KiB one by one; the system is given what fits into a buffer.
	held := &heldConn{Conn: raw}
	secure := tls.Client(held, &tls.Config{ServerName: s.to.Hostname(), DynamicRecordSizingDisabled: true})
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	held.records = bufio.NewWriterSize(raw, piece)
	return &connection{secure, held.records.Flush, bufio.NewReader(secure)}, nil
}

// A heldConn holds back what is written, from when it has records.
type heldConn struct {
	net.Conn
	records *bufio.Writer
}

func (c *heldConn) Write(p []byte) (int, error) {
	if c.records == nil {
		return c.Conn.Write(p)
	}
	return c.records.Write(p)
}
