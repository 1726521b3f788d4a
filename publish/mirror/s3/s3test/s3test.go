// Package s3test is a small S3 for tests: strict, in memory, and unreliable on demand.
//
// It answers the requests of this project as AWS does: conditions, checksums and their types, the states of a
// multipart upload. It refuses requests that this project should never send, and a hook makes any request fail in
// any way. It uses no code of the product and none of the SDK, so that it cannot share a mistake with them.
package s3test

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options configure a server. The zero value is as strict as AWS.
type Options struct {
	Bucket string // the existing bucket; default "bucket"
	Region string // that requests must be signed for; default us-east-1

	// AccessKey and SecretKey must sign the requests. If they are empty, signatures are not checked.
	AccessKey, SecretKey string
	// Secrets returns the secret of another access key, or an empty string for an unknown key. If it is nil, only
	// AccessKey is known.
	Secrets func(accessKey string) string

	PageSize      int      // entries in a page of any list; default 1000
	SmallestPart  int64    // of all but the last part; default 5 MiB
	LargestCopy   int64    // that one request copies; default 5 GiB
	Overwrites    bool     // a copy replaces an existing object, whatever its condition
	Forgetful     bool     // completing an upload twice is an error, as in MinIO
	NoChecksums   bool     // none is stored or returned, as in older implementations
	Ignores       []string // conditions that are ignored: If-Match, If-None-Match
	LiteralKeys   bool     // listed keys are not encoded, even if that is requested
	PlainIDs      bool     // upload IDs need no encoding, for clients that do not
	Unconditional bool     // writes need no condition; otherwise those without are refused and recorded in Violations

	Latency time.Duration // delay of every answer
	NoLog   bool          // Log stays empty, so that a server can run for long

	// Store stores the bodies. Nil means Memory.
	Store Store
	// MD5, SHA256 and CRC64NVME make the hashes, for callers with faster ones. The request is the one whose body is
	// hashed; it is nil for Put. Nil functions mean those of the standard library. If MD5 is not an MD5, neither
	// are the ETags.
	MD5, SHA256 func(*http.Request) hash.Hash
	CRC64NVME   func() hash.Hash64
}

// A Store makes the places in which bodies are stored.
type Store interface {
	// New is called before a body of a known size is received.
	New(key string, size int64) Body
}

// A Body is written once, from start to end, and then read.
type Body interface {
	io.Writer
	io.ReaderAt
}

var nvme = crc64.MakeTable(nvmePolynomial)

// A Server is a running S3. Its methods are safe for concurrent use.
type Server struct {
	URL string

	opts   Options
	http   *httptest.Server
	closed chan struct{}

	// mu guards the fields below. It is not held while a body is received or sent.
	mu         sync.Mutex
	hook       func(*http.Request) Fault
	log        []Entry
	objects    map[string]*object
	sorted     []string // the keys of objects; maintained from the first listing on
	uploads    map[string]*upload
	completed  map[string]string // upload ID -> ETag of the resulting object
	writes     map[string]int
	violations []string
	flying     int
	mostFlying int
	ids        int
}

// New starts a server on loopback, over plain HTTP. Close ends it.
func New(o Options) *Server { return start(o, (*httptest.Server).Start) }

// NewTLS starts a server that speaks HTTPS. Client trusts it.
func NewTLS(o Options) *Server { return start(o, (*httptest.Server).StartTLS) }

func start(o Options, start func(*httptest.Server)) *Server {
	s := Handler(o)
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ErrorLog = nil
	start(s.http)
	s.URL = s.http.URL
	return s
}

// Handler returns a server without a listener: an http.Handler.
func Handler(o Options) *Server {
	if o.Bucket == "" {
		o.Bucket = "bucket"
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.PageSize == 0 {
		o.PageSize = 1000
	}
	if o.LargestCopy == 0 {
		o.LargestCopy = 5 << 30
	}
	if o.SmallestPart == 0 {
		o.SmallestPart = 5 << 20
	}
	if o.Store == nil {
		o.Store = Memory
	}
	if o.MD5 == nil {
		o.MD5 = func(*http.Request) hash.Hash { return md5.New() }
	}
	if o.SHA256 == nil {
		o.SHA256 = func(*http.Request) hash.Hash { return sha256.New() }
	}
	if o.CRC64NVME == nil {
		o.CRC64NVME = func() hash.Hash64 { return crc64.New(nvme) }
	}
	return &Server{
		opts:      o,
		closed:    make(chan struct{}),
		objects:   map[string]*object{},
		uploads:   map[string]*upload{},
		completed: map[string]string{},
		writes:    map[string]int{},
	}
}

// Close ends the server and all requests that hang.
func (s *Server) Close() {
	close(s.closed)
	if s.http != nil {
		s.http.CloseClientConnections()
		s.http.Close()
	}
}

// Client trusts the certificate of a server from NewTLS.
func (s *Server) Client() *http.Client { return s.http.Client() }

// Certificate returns the certificate of a server from NewTLS.
func (s *Server) Certificate() *x509.Certificate { return s.http.Certificate() }

// An Entry is a logged request.
type Entry struct {
	Operation string // S3's name: PutObject
	Key       string
	Part      int // of an UploadPart
	Status    int // of the answer; 0 if there was none
	Header    http.Header
}

// Mutates reports whether a request can change anything.
func (e Entry) Mutates() bool {
	return !strings.HasPrefix(e.Operation, "Get") && !strings.HasPrefix(e.Operation, "Head") && !strings.HasPrefix(e.Operation, "List")
}

// Log returns all requests since the last ForgetLog, in the order in which they were answered.
func (s *Server) Log() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// ForgetLog empties the log.
func (s *Server) ForgetLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

// Count returns how many requests of an operation are in the log.
func (s *Server) Count(operation string) int {
	n := 0
	for _, e := range s.Log() {
		if e.Operation == operation {
			n++
		}
	}
	return n
}

// Writes returns how often an object was stored under a key.
func (s *Server) Writes(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes[key]
}

// Violations returns the requests that should never have been sent.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// MostInFlight returns the largest number of concurrent requests so far.
func (s *Server) MostInFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mostFlying
}

// OpenUploads returns the number of multipart uploads that are neither completed nor aborted.
func (s *Server) OpenUploads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.uploads)
}

// Object returns the content of an object and whether there is one.
func (s *Server) Object(key string) ([]byte, bool) {
	s.mu.Lock()
	o := s.objects[key]
	s.mu.Unlock()
	if o == nil {
		return nil, false
	}
	content := make([]byte, o.size)
	if _, err := o.body.ReadAt(content, 0); err != nil && err != io.EOF {
		panic(err)
	}
	return content, true
}

// Labels returns the Content-Type, Cache-Control and similar headers of an object.
func (s *Server) Labels(key string) http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[key]; o != nil {
		return o.labels.Clone()
	}
	return nil
}

// Put stores an object as another tool would: without a condition, and without a checksum of the whole if it is
// composite.
func (s *Server) Put(key string, content []byte, composite bool) {
	body := s.opts.Store.New(key, int64(len(content)))
	in := s.receive(nil, strings.NewReader(string(content)), int64(len(content)), body)
	if composite {
		in.crc, in.hasCRC = 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(key, &object{body: body, size: in.size, etag: in.etag(), crc: in.crc, hasCRC: in.hasCRC, composite: composite, modified: time.Now()})
}

// Invent makes an object of size zeroes at next to no cost, with an ETag that is not a checksum: a bucket may need
// a million of them.
func (s *Server) Invent(key string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(key, &object{body: zeroes(size), size: size, etag: `"invented"`, modified: invented})
}

var invented = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Remove deletes an object without a request.
func (s *Server) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(key)
}

// ServeHTTP handles one request, or fails to.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, done := s.arrive(r)
	answer := &answer{ResponseWriter: w, header: fault.header}
	defer func() { done(answer.status) }()
	time.Sleep(s.opts.Latency)
	switch fault.kind {
	case none:
		s.act(answer, r)
	case drop:
		panic(http.ErrAbortHandler)
	case lie:
		s.act(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case reset:
		io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		breakOff(w)
	case stall:
		io.CopyN(io.Discard, r.Body, min(r.ContentLength/2, 1<<20))
		s.wait(r.Context())
	case hang:
		s.act(httptest.NewRecorder(), r)
		s.wait(r.Context())
	case truncate:
		s.actHalf(answer, r)
	case refuse:
		io.Copy(io.Discard, r.Body)
		failSaying(answer, r, fault.status, fault.code, fault.said)
	case late:
		s.act(httptest.NewRecorder(), r)
		failSaying(answer, r, fault.status, fault.code, fault.said)
	case altered:
		s.actAltered(answer, r, fault.rewrite)
	case drip:
		s.actDripping(answer, r)
	}
}

// arrive counts a request and returns its fault. done must be called with the status of the answer.
func (s *Server) arrive(r *http.Request) (_ Fault, done func(status int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying++
	s.mostFlying = max(s.mostFlying, s.flying)
	fault := None
	if s.hook != nil {
		fault = s.hook(r)
	}
	var e Entry
	if !s.opts.NoLog {
		e = Entry{Operation: Operation(r), Header: r.Header.Clone()}
		_, e.Key, _ = split(r)
		fmt.Sscan(r.URL.Query().Get("partNumber"), &e.Part)
	}
	return fault, func(status int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flying--
		if !s.opts.NoLog {
			e.Status = status
			s.log = append(s.log, e)
		}
	}
}

// An answer records its status.
type answer struct {
	http.ResponseWriter
	header http.Header
	status int
}

func (a *answer) WriteHeader(status int) {
	for k, v := range a.header {
		a.Header()[k] = v
	}
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap lets an answer be flushed.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// wait blocks until the client gives up.
func (s *Server) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.closed:
	}
	panic(http.ErrAbortHandler)
}

func breakOff(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

func (s *Server) actHalf(w http.ResponseWriter, r *http.Request) {
	whole := httptest.NewRecorder()
	s.act(whole, r)
	for k, v := range whole.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", fmt.Sprint(max(whole.Body.Len(), 2)))
	w.WriteHeader(whole.Code)
	w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(err)
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) violate(r *http.Request, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf("%s %s: %s", r.Method, r.RequestURI, what))
}

// fail answers with an error in S3's format.
func fail(w http.ResponseWriter, r *http.Request, status int, code string) {
	failSaying(w, r, status, code, "")
}

func failSaying(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	if message == "" {
		message = "said by a test: " + code
	}
	w.Header().Set("X-Amz-Request-Id", "REQUEST")
	if r.Method == http.MethodHead || status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	writeXML(w, status, struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
		RequestID     string `xml:"RequestId"`
	}{Code: code, Message: message, RequestID: "REQUEST"})
}

func writeXML(w http.ResponseWriter, status int, doc any) {
	text, err := xml.Marshal(doc)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", fmt.Sprint(len(xml.Header)+len(text)))
	w.WriteHeader(status)
	io.WriteString(w, xml.Header)
	w.Write(text)
}
