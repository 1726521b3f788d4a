// Package sink is an S3 server that keeps nothing, so that a benchmark measures who sends
// and not who stores.
//
// It answers as s3test does: conditions, listings, the states of a multipart upload. It also
// understands what other clients send: bodies in chunks with a trailer, other checksums,
// writes without a condition. On demand it is late, slow and unreliable.
package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
)

// Bucket is the only one that there is.
const Bucket = "bench"

// Options of a sink. The zero value is as fast as it can be.
type Options struct {
	Latency  time.Duration // that every answer is late by
	ConnRate int64         // bytes a second that a connection gives at most; 0: no limit
	Errors   float64       // share of requests that are answered by 500 and SlowDown in turn
	Resets   float64       // share of requests whose connection is reset half way
	Keep     int64         // bodies of up to so many bytes are kept; those of longer ones read as zeroes

	// Sample is how many large bodies share one check of their SHA-256 and MD5: those two
	// cost more than all else that a server does here, and in the world it is not the
	// client's processor that pays for them. CRCs, and small bodies, are always checked.
	// 0: 16.
	Sample int

	// Log, if set, gets a line for each request: when it came, how long it took, both in milliseconds, and what it was.
	Log io.Writer
}

// small is the size up to which every checksum of a body is checked.
const small = 1 << 20

// Stats are what has happened since the last Forget.
type Stats struct {
	Requests    map[string]int64 // by operation
	Bytes       int64            // of content that arrived
	Connections int64
	Refused     int64 // on demand, as are resets
	Reset       int64
	Corrupt     int64    // bodies that did not have the checksum that they came with
	Errors      int64    // other answers with a status from 400, except 404 and 412
	Violations  []string // requests that nobody should send
}

// Total is how many requests there were.
func (s Stats) Total() int64 {
	n := int64(0)
	for _, of := range s.Requests {
		n += of
	}
	return n
}

// A Server is the handler. Serve makes it listen.
type Server struct {
	opts Options
	s3   atomic.Pointer[s3test.Server]

	turn atomic.Int64 // of large bodies
	ill  atomic.Int64 // of errors

	connections, bytes, refused, resets, corrupt, errors atomic.Int64

	mu       sync.Mutex // guards what follows while a request is counted
	requests map[string]int64
	began    time.Time // to count
}

// New returns a server with an empty bucket.
func New(o Options) *Server {
	if o.Sample == 0 {
		o.Sample = 16
	}
	s := &Server{opts: o}
	s.Empty()
	s.Forget()
	return s
}

// Empty starts over with an empty bucket.
func (s *Server) Empty() {
	fresh := s3test.Handler(s3test.Options{
		Bucket: Bucket, Unconditional: true, NoLog: true, PlainIDs: true,
		Latency: s.opts.Latency, Store: store(s.opts.Keep),
		MD5: s.md5, SHA256: s.sha256,
		CRC64NVME: func() hash.Hash64 { return crc64nvme.New() },
	})
	if s.opts.Errors > 0 || s.opts.Resets > 0 {
		fresh.Hook(s.fault)
	}
	s.s3.Store(fresh)
}

// Forget starts counting from zero.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.began = make(map[string]int64), time.Now()
	for _, n := range []*atomic.Int64{&s.connections, &s.bytes, &s.refused, &s.resets, &s.corrupt, &s.errors} {
		n.Store(0)
	}
}

// Stats returns what was counted.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{
		Requests: make(map[string]int64), Bytes: s.bytes.Load(), Connections: s.connections.Load(),
		Refused: s.refused.Load(), Reset: s.resets.Load(), Corrupt: s.corrupt.Load(), Errors: s.errors.Load(),
		Violations: s.s3.Load().Violations(),
	}
	for op, n := range s.requests {
		out.Requests[op] = n
	}
	return out
}

func (s *Server) fault(*http.Request) s3test.Fault {
	switch x := rand.Float64(); {
	case x < s.opts.Errors:
		s.refused.Add(1)
		if s.ill.Add(1)%2 == 0 {
			return s3test.Refuse(500, "InternalError")
		}
		return s3test.Refuse(503, "SlowDown")
	case x < s.opts.Errors+s.opts.Resets:
		s.resets.Add(1)
		return s3test.Reset
	}
	return s3test.None
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := s3test.Operation(r)
	if r.URL.Query().Has("location") {
		op = "GetBucketLocation"
	}
	s.mu.Lock()
	s.requests[op]++
	s.mu.Unlock()
	seen := &observed{ResponseWriter: w}
	if s.opts.Log != nil {
		defer s.note(time.Now(), op, r, seen)
	}
	switch {
	case op == "GetBucketLocation":
		time.Sleep(s.opts.Latency)
		io.WriteString(seen, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">us-east-1</LocationConstraint>`)
	default:
		s.plain(r)
		s.s3.Load().ServeHTTP(seen, r)
	}
	if st := seen.status; st >= 400 && st != 404 && st != 412 {
		s.errors.Add(1)
	}
}

// note adds a request to the log.
func (s *Server) note(began time.Time, op string, r *http.Request, seen *observed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.opts.Log, "%6d %4d %-23s %s %s %d\n", began.Sub(s.began).Milliseconds(), time.Since(began).Milliseconds(), op, r.RequestURI, r.Header.Get("Range"), seen.status)
}

// An observed answer tells its status.
type observed struct {
	http.ResponseWriter
	status int
}

func (o *observed) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

// Unwrap lets a connection be taken over.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

const control = "/control/"

// Control is the handler by which a benchmark prepares the bucket and learns what was
// counted. It is not S3, so it listens elsewhere.
func (s *Server) Control() http.Handler {
	return http.StripPrefix(control, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "stats":
			json.NewEncoder(w).Encode(s.Stats())
		case "forget":
			s.Forget()
		case "empty":
			s.Empty()
		case "load":
			if err := s.Load(r.FormValue("dir"), r.FormValue("prefix")); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		default:
			http.NotFound(w, r)
		}
	}))
}

// Serve answers on l until ctx is done.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serve(ctx, l, &http.Server{Handler: s, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}})
}

// ServeControl answers the control on l until ctx is done.
func (s *Server) ServeControl(ctx context.Context, l net.Listener) error {
	return serve(ctx, l, &http.Server{Handler: s.Control()})
}

func serve(ctx context.Context, l net.Listener, server *http.Server) error {
	server.ErrorLog = log.New(io.Discard, "", 0) // clients break off as they like
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); err != http.ErrServerClosed {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
