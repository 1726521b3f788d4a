// Package faultproxy stands between a publisher and a real S3 server, writes down every
// request, and misbehaves at the one that a test chooses.
//
// Requests are numbered from 1 in the order of their arrival. The Host header goes
// through as it came, so signatures stay valid.
package faultproxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A Request is one request as the proxy saw it.
type Request struct {
	Number    int
	Operation string // in S3's words: PutObject, ListObjectsV2, ...
	Bucket    string
	Key       string // empty for requests about a bucket
	Query     url.Values
	Header    http.Header
	Fault     string // the name of the fault that hit it; empty if none did
	Reached   int    // status of the server's answer; 0 if the server has not answered
	Status    int    // status of the answer that the client got; 0 if it got none
}

// Mutating reports whether the request can change what is stored.
func (r Request) Mutating() bool {
	switch r.Operation {
	case "PutObject", "CopyObject", "DeleteObject", "DeleteObjects", "CreateMultipartUpload",
		"UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload":
		return true
	}
	return strings.HasPrefix(r.Operation, "Unknown") && r.Operation != "UnknownGET"
}

// A Proxy is a server in front of an S3 server.
type Proxy struct {
	URL string

	target    *url.URL
	transport *http.Transport
	server    *httptest.Server
	inFlight  sync.WaitGroup

	// mu guards what follows. It is held neither while a request is forwarded nor
	// while a fault is at work.
	mu     sync.Mutex
	log    []Request
	choose func(Request) Fault
	after  func(Request)
}

// Start starts a proxy in front of the S3 server at target. It ends with the test.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: u, transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	p.server = httptest.NewServer(p)
	p.URL = p.server.URL
	t.Cleanup(p.Close)
	return p
}

// Close ends the proxy and what it still holds up.
func (p *Proxy) Close() {
	p.server.CloseClientConnections()
	p.server.Close()
	p.transport.CloseIdleConnections()
}

// Inject lets choose decide on a fault for each request to come; nil ends that. Requests
// are handed to it one at a time, in the order of their numbers.
func (p *Proxy) Inject(choose func(Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = choose
}

// At injects f into request number k, alone.
func (p *Proxy) At(k int, f Fault) {
	p.Inject(func(r Request) Fault {
		if r.Number == k {
			return f
		}
		return Fault{}
	})
}

// AfterEach calls look when the server has answered a request and the client has not
// heard of it yet. Calls may overlap.
func (p *Proxy) AfterEach(look func(Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = look
}

// Log returns what was requested since the start, or since the last Forget.
func (p *Proxy) Log() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.log...)
}

// Forget empties the log and begins to number anew.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = nil
}

// Wait returns when no request is under way. The client must have stopped.
func (p *Proxy) Wait() { p.inFlight.Wait() }

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.inFlight.Add(1)
	defer p.inFlight.Done()
	e := &exchange{p: p, w: w, r: r}
	e.Request, e.fault = p.arrived(r)
	if e.fault.before != nil && !e.fault.before(e) {
		return
	}
	resp, body, err := e.forward()
	if err != nil {
		// The client hung up, or the server did: neither has got anything.
		panic(http.ErrAbortHandler)
	}
	p.note(e.Number, func(logged *Request) { logged.Reached = resp.StatusCode })
	if after := p.watcher(); after != nil {
		e.Reached = resp.StatusCode
		after(e.Request)
	}
	if e.fault.after != nil && !e.fault.after(e, resp, body) {
		return
	}
	e.answer(resp.StatusCode, resp.Header, body)
}

// arrived writes the request down and chooses its fault.
func (p *Proxy) arrived(r *http.Request) (Request, Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	req := Request{
		Number: len(p.log) + 1, Operation: operation(r, key), Bucket: bucket, Key: key,
		Query: r.URL.Query(), Header: r.Header.Clone(),
	}
	var f Fault
	if p.choose != nil {
		f = p.choose(req)
	}
	req.Fault = f.Name
	p.log = append(p.log, req)
	return req, f
}

func (p *Proxy) note(number int, change func(*Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number <= len(p.log) { // the log may have been emptied meanwhile
		change(&p.log[number-1])
	}
}

func (p *Proxy) watcher() func(Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.after
}

// operation names what a request asks for.
func operation(r *http.Request, key string) string {
	q := r.URL.Query()
	has := func(name string) bool { return q.Has(name) }
	of := func(object, bucket string) string {
		if key != "" {
			return object
		}
		return bucket
	}
	switch r.Method {
	case http.MethodHead:
		return of("HeadObject", "HeadBucket")
	case http.MethodGet:
		switch {
		case has("uploadId"):
			return "ListParts"
		case has("uploads"):
			return "ListMultipartUploads"
		case has("location"):
			return "GetBucketLocation"
		case has("attributes"):
			return "GetObjectAttributes"
		case key == "" && q.Get("list-type") == "2":
			return "ListObjectsV2"
		case key != "":
			return "GetObject"
		}
	case http.MethodPut:
		switch copied := r.Header.Get("X-Amz-Copy-Source") != ""; {
		case has("uploadId") && copied:
			return "UploadPartCopy"
		case has("uploadId"):
			return "UploadPart"
		case copied:
			return "CopyObject"
		case key != "":
			return "PutObject"
		}
	case http.MethodPost:
		switch {
		case has("uploadId"):
			return "CompleteMultipartUpload"
		case has("uploads"):
			return "CreateMultipartUpload"
		case has("delete"):
			return "DeleteObjects"
		}
	case http.MethodDelete:
		if has("uploadId") {
			return "AbortMultipartUpload"
		}
		return of("DeleteObject", "DeleteBucket")
	}
	return "Unknown" + r.Method
}

// An exchange is one request on its way.
type exchange struct {
	Request
	p     *Proxy
	w     http.ResponseWriter
	r     *http.Request
	fault Fault
}

// forward sends the request to the server and reads the whole answer. It does so to the
// end even if the client hangs up once it has sent everything, as a network does.
func (e *exchange) forward() (*http.Response, []byte, error) {
	u := *e.r.URL
	u.Scheme, u.Host = e.p.target.Scheme, e.p.target.Host
	out, err := http.NewRequestWithContext(context.WithoutCancel(e.r.Context()), e.r.Method, u.String(), e.r.Body)
	if err != nil {
		return nil, nil, err
	}
	out.URL = &u // u, not what parsing it again makes of it: the path is part of the signature
	out.Host = e.r.Host
	out.Header = e.r.Header.Clone()
	out.Header.Del("Connection")
	out.Header.Del("Expect") // answered by us already
	out.ContentLength = e.r.ContentLength
	if e.r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	resp, err := e.p.transport.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// answer sends an answer to the client.
func (e *exchange) answer(status int, header http.Header, body []byte) {
	for name, values := range header {
		e.w.Header()[name] = values
	}
	e.w.Header().Del("Connection")
	e.p.note(e.Number, func(logged *Request) { logged.Status = status })
	e.w.WriteHeader(status)
	if e.r.Method != http.MethodHead {
		io.Copy(e.w, bytes.NewReader(body))
	}
}

// hijack takes the connection to the client away from the HTTP server.
func (e *exchange) hijack() net.Conn {
	c, _, err := e.w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return c
}
