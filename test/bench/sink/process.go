package sink

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// A Process is a sink that runs as a process of its own, so that what it costs is not
// counted as its client's.
type Process struct {
	URL       string
	WellKnown string // the same at a port that need not be named; empty: we may not listen there
	CA        string // file with the certificate to trust; empty: it speaks plain HTTP

	http *http.Client
	*program.Leash
}

// Start runs "bin sink" until Close, or until this process has ended. With a file for
// its certificate it speaks TLS.
func Start(bin string, o Options, ca string) (*Process, error) {
	args := []string{"sink", "-leash",
		"-latency", o.Latency.String(),
		"-conn-mbps", strconv.FormatFloat(float64(o.ConnRate)/1e6, 'f', -1, 64),
		"-error-rate", fmt.Sprint(o.Errors),
		"-reset-rate", fmt.Sprint(o.Resets),
		"-keep", fmt.Sprint(o.Keep),
		"-sample", fmt.Sprint(o.Sample),
	}
	if ca != "" {
		args = append(args, "-tls", ca)
	}
	leash, err := program.Leashed(bin, args...)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	where := append(strings.Fields(leash.Line), "")
	return &Process{URL: where[0], WellKnown: where[2], CA: ca, http: &http.Client{Transport: &controlled{where[1]}}, Leash: leash}, nil
}

// controlled sends requests to the address of the control, which is not that of S3: it is
// plain HTTP, neither late nor slow, and its connections are not counted.
type controlled struct{ addr string }

func (c *controlled) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = "http", c.addr
	return http.DefaultTransport.RoundTrip(r)
}

func (p *Process) do(act string, q url.Values) ([]byte, error) {
	resp, err := p.http.Post("http://sink"+control+act+"?"+q.Encode(), "", nil)
	if err != nil {
		return nil, fmt.Errorf("sink: %s: %w", act, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("sink: %s: %s: %s %w", act, resp.Status, text, err)
	}
	return text, nil
}

// Empty empties the bucket.
func (p *Process) Empty() error { _, err := p.do("empty", nil); return err }

// Forget starts counting from zero.
func (p *Process) Forget() error { _, err := p.do("forget", nil); return err }

// Load fills the bucket, below prefix, with what is in a directory.
func (p *Process) Load(dir, prefix string) error {
	_, err := p.do("load", url.Values{"dir": {dir}, "prefix": {prefix}})
	return err
}

// Stats returns what was counted since Forget.
func (p *Process) Stats() (Stats, error) {
	var s Stats
	text, err := p.do("stats", nil)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}
