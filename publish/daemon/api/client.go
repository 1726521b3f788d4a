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

// longestSocket is how many bytes the path of a socket may have: what Linux has room for,
// less the zero at its end.
const longestSocket = 107

// CheckSocket says whether a socket can have that path.
func CheckSocket(path string) error {
	if len(path) > longestSocket {
		return fmt.Errorf("socket %.40s...: the path has %d bytes, a socket can have %d: choose a shorter one", path, len(path), longestSocket)
	}
	return nil
}

// A Client asks the daemon that listens on a socket.
type Client struct {
	socket string
	http   *http.Client
}

// ErrNoDaemon: no process listens on the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// Dial makes a client. It connects when it asks.
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

// Close ends the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ask sends a question; the caller closes the body of the answer.
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
		if errors.As(err, &u) { // which repeats a URL that means nothing to users
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

// Push hands over paths. What is returned is durable.
func (c *Client) Push(ctx context.Context, paths ...string) (Jobs, error) {
	var j Jobs
	return j, c.get(ctx, http.MethodPost, "/v1/jobs", Push{paths}, &j)
}

// Wait waits for a job to be published, or for what was published to be seen: "published" or
// "cdn". It may return before; ask again.
func (c *Client) Wait(ctx context.Context, id int64, wait string) (Waited, error) {
	var w Waited
	return w, c.get(ctx, http.MethodGet, fmt.Sprintf("/v1/jobs/%d?wait=%s", id, wait), nil, &w)
}

// A Status is that of a daemon or of an indexer.
type Status struct {
	daemon.Status                // of an indexer it has what both tell
	Indexer       *events.Status // nil: it is a daemon
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

// Status asks how things are.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Retry restarts failed jobs.
func (c *Client) Retry(ctx context.Context, ids ...int64) (Retried, error) {
	var n Retried
	return n, c.get(ctx, http.MethodPost, "/v1/retry", Retry{ids}, &n)
}

// Forget drops what the daemon knows of mirrors that are not in its configuration.
func (c *Client) Forget(ctx context.Context, mirrors ...string) (Forgotten, error) {
	var f Forgotten
	return f, c.get(ctx, http.MethodPost, "/v1/forget", Forget{mirrors}, &f)
}

// Flush lets the daemon look through everything, and try again what waits to be.
func (c *Client) Flush(ctx context.Context) error {
	return c.get(ctx, http.MethodPost, "/v1/drain?wait=no", nil, &struct{}{})
}

// Drain lets the daemon publish everything that is there, and reports progress until it
// is done.
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

// lines reads an answer of many documents.
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
