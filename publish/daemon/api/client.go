package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
)

// longestSocket is the maximum length of a socket's path in bytes: the limit of Linux without the terminating zero.
const longestSocket = 107

// CheckSocket returns an error if a socket cannot have that path.
func CheckSocket(path string) error {
	if len(path) > longestSocket {
		return fmt.Errorf("socket %.40s...: the path has %d bytes, a socket can have %d: choose a shorter one", path, len(path), longestSocket)
	}
	return nil
}

// A Client sends requests to the daemon that listens on a socket.
type Client struct {
	socket string
	http   *http.Client
}

// ErrNoDaemon reports that no process listens on the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// Dial returns a client. It connects with its first request.
func Dial(socket string) *Client {
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if err := CheckSocket(socket); err != nil {
				return nil, err
			}
			var d net.Dialer
			c, err := d.DialContext(ctx, "unix", socket)
			if err != nil && ctx.Err() == nil {
				return nil, fmt.Errorf("%w: %w", ErrNoDaemon, err)
			}
			return c, err
		},
	}}}
}

// Close closes the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ask sends a request. The caller closes the body of the answer.
func (c *Client) ask(ctx context.Context, method, path string, question any) (*http.Response, error) {
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // its URL means nothing to users
			err = u.Err
		}
		return nil, fmt.Errorf("ask the daemon at %s: %w", c.socket, err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		e := &Error{Status: resp.StatusCode}
		if err := json.NewDecoder(io.LimitReader(resp.Body, mostAsked)).Decode(e); err != nil || e.Message == "" {
			e.Message = fmt.Sprintf("the daemon says %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
		}
		return nil, e
	}
	return resp, nil
}

func (c *Client) get(ctx context.Context, method, path string, question, answer any) error {
	resp, err := c.ask(ctx, method, path, question)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("ask the daemon at %s: %w", c.socket, err)
	}
	return nil
}

// Push requests that paths are published. The returned jobs are durable.
func (c *Client) Push(ctx context.Context, paths ...string) (Jobs, error) {
	var j Jobs
	return j, c.get(ctx, http.MethodPost, "/v1/jobs", Push{paths}, &j)
}

// Wait waits until a job is published or seen by clients: until is "published" or "cdn". It may return earlier;
// repeat it then.
func (c *Client) Wait(ctx context.Context, id int64, wait string) (Waited, error) {
	var w Waited
	return w, c.get(ctx, http.MethodGet, fmt.Sprintf("/v1/jobs/%d?wait=%s", id, wait), nil, &w)
}

// A Status is the status of a daemon or of an indexer.
type Status struct {
	daemon.Status                // for an indexer, the common part
	Indexer       *events.Status // nil for a daemon
	document      json.RawMessage
}

// MarshalJSON returns the document as it was received.
func (s Status) MarshalJSON() ([]byte, error) { return s.document, nil }

// UnmarshalJSON reads a received document.
func (s *Status) UnmarshalJSON(document []byte) error {
	s.document = bytes.Clone(document)
	var kind struct{ Mode string }
	if err := json.Unmarshal(document, &kind); err != nil {
		return err
	}
	if kind.Mode == indexerMode {
		s.Indexer = new(events.Status)
		if err := json.Unmarshal(document, s.Indexer); err != nil {
			return err
		}
	}
	return json.Unmarshal(document, &s.Status)
}

// Status requests the status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Retry restarts failed jobs.
func (c *Client) Retry(ctx context.Context, ids ...int64) (Retried, error) {
	var n Retried
	return n, c.get(ctx, http.MethodPost, "/v1/retry", Retry{ids}, &n)
}

// Forget removes the records of mirrors that are not in the daemon's configuration.
func (c *Client) Forget(ctx context.Context, mirrors ...string) (Forgotten, error) {
	var f Forgotten
	return f, c.get(ctx, http.MethodPost, "/v1/forget", Forget{mirrors}, &f)
}

// Flush makes the daemon scan everything and retry waiting jobs now.
func (c *Client) Flush(ctx context.Context) error {
	return c.get(ctx, http.MethodPost, "/v1/drain?wait=no", nil, &struct{}{})
}

// Drain makes the daemon publish all waiting packages, and reports progress until that is done.
func (c *Client) Drain(ctx context.Context, tell func(daemon.Drained)) (daemon.Drained, error) {
	var line DrainLine
	err := c.lines(ctx, http.MethodPost, "/v1/drain", func(d *json.Decoder) (bool, error) {
		line = DrainLine{}
		if err := d.Decode(&line); err != nil {
			return false, err
		}
		if line.Error != nil {
			return false, line.Error
		}
		if !line.Done {
			tell(line.Drained)
		}
		return !line.Done, nil
	})
	return line.Drained, err
}

// lines reads an answer with one document a line.
func (c *Client) lines(ctx context.Context, method, path string, read func(*json.Decoder) (more bool, err error)) error {
	resp, err := c.ask(ctx, method, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		more, err := read(d)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("the daemon at %s has stopped", c.socket)
		}
		if err != nil || !more {
			return err
		}
	}
}
