package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A recorder stands before moto and writes down every request. Rewrite, when set, may
// change a request's body on its way, Answer may answer in moto's place, and Amend may
// change a response's body.
type recorder struct {
	URL     string
	Rewrite func(r *http.Request, body []byte) []byte
	Answer  func(w http.ResponseWriter, r *http.Request, body []byte) bool
	Amend   func(body []byte) []byte

	mu   sync.Mutex
	seen []seen
}

type seen struct {
	request *http.Request
	body    []byte
	status  int
}

func record(t *testing.T) *recorder {
	t.Helper()
	target, err := url.Parse(machine.moto)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host
		},
		ModifyResponse: func(res *http.Response) error {
			rec.ended(res.Request, res.StatusCode)
			return rec.amend(res)
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		if rec.Rewrite != nil {
			body = rec.Rewrite(r, body)
		}
		setBody(r, body)
		rec.began(r, body)
		if rec.Answer != nil && rec.Answer(w, r, body) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	rec.URL = "http://localhost:" + strings.Split(server.URL, ":")[2]
	return rec
}

func (rec *recorder) amend(res *http.Response) error {
	if rec.Amend == nil || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/xml") {
		return nil
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	res.Body.Close()
	body = rec.Amend(body)
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

func setBody(r *http.Request, body []byte) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

func (rec *recorder) began(r *http.Request, body []byte) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	kept := r.Clone(r.Context())
	kept.Body = nil
	rec.seen = append(rec.seen, seen{request: kept, body: body})
}

// ended notes the status of the last request with this method and URI.
func (rec *recorder) ended(r *http.Request, status int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := len(rec.seen) - 1; i >= 0; i-- {
		s := &rec.seen[i]
		if s.status == 0 && s.request.Method == r.Method && s.request.URL.RequestURI() == r.URL.RequestURI() {
			s.status = status
			return
		}
	}
}

// requests are those so far; the recorder forgets them.
func (rec *recorder) requests() []seen {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	all := rec.seen
	rec.seen = nil
	return all
}
