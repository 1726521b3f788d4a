package s3test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type object struct {
	body      Body
	size      int64
	etag      string // with quotes
	sha256    []byte // empty if not requested
	crc       uint64
	hasCRC    bool
	composite bool
	parts     string // the SHA-256 of those of its parts, and their number; empty if not requested
	labels    http.Header
	modified  time.Time
}

// received describes a body.
type received struct {
	size   int64
	md5    []byte
	sha256 []byte
	crc    uint64
	hasCRC bool
	err    error
}

func (in received) etag() string { return `"` + hex.EncodeToString(in.md5) + `"` }

const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// receive reads a body. It computes the SHA-256 only if that is needed.
func (s *Server) receive(r *http.Request, from io.Reader, size int64, to Body, also ...hash.Hash) received {
	sum, crc := s.opts.MD5(r), s.opts.CRC64NVME()
	out := []io.Writer{to, sum, crc}
	for _, h := range also {
		out = append(out, h)
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(out...)}, struct{ io.Reader }{from}, buf[:])
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return received{size: n, md5: sum.Sum(nil), crc: crc.Sum64(), hasCRC: !s.opts.NoChecksums, err: err}
}

// take reads the body of a request and checks everything that the request says of it. If it returns false, it has
// answered.
func (s *Server) take(w http.ResponseWriter, r *http.Request, to Body) (received, bool) {
	if r.ContentLength < 0 || strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		s.violate(r, "a body in chunks")
		fail(w, r, 411, "MissingContentLength")
		return received{}, false
	}
	var also []hash.Hash
	wantSHA := r.Header.Get("X-Amz-Checksum-Sha256")
	signed := r.Header.Get("X-Amz-Content-Sha256")
	hashed := len(signed) == 64
	if wantSHA != "" || hashed {
		also = append(also, s.opts.SHA256(r))
	}
	in := s.receive(r, r.Body, r.ContentLength, to, also...)
	if in.err != nil {
		fail(w, r, 400, "IncompleteBody")
		return in, false
	}
	if wantSHA != "" || hashed {
		in.sha256 = also[0].Sum(nil)
	}
	if s.opts.NoChecksums { // they are ignored
		in.sha256 = nil
		return in, true
	}
	wantCRC := r.Header.Get("X-Amz-Checksum-Crc64nvme")
	switch {
	case wantSHA != "" && wantSHA != base64.StdEncoding.EncodeToString(in.sha256),
		wantCRC != "" && wantCRC != encodeCRC(in.crc):
		fail(w, r, 400, "BadDigest")
		return in, false
	case hashed && signed != hex.EncodeToString(in.sha256):
		fail(w, r, 400, "XAmzContentSHA256Mismatch")
		return in, false
	}
	if wantSHA == "" {
		in.sha256 = nil
	}
	return in, true
}

func encodeCRC(crc uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc))
}

// permitted checks the condition of a write. If it does not hold, it answers and returns false. s.mu is held, so
// that the write can follow at once.
func (s *Server) permitted(r *http.Request, key string) (status int, code string) {
	o := s.objects[key]
	condition := func(header string) string {
		if slices.Contains(s.opts.Ignores, header) {
			return ""
		}
		return r.Header.Get(header)
	}
	switch match, none := condition("If-Match"), condition("If-None-Match"); {
	case none != "" && none != "*":
		return 501, "NotImplemented"
	case none == "*" && o != nil:
		return 412, "PreconditionFailed"
	case match != "" && o == nil:
		return 404, "NoSuchKey"
	case match != "" && match != o.etag:
		return 412, "PreconditionFailed"
	}
	return 0, ""
}

// conditioned refuses a write without a condition.
func (s *Server) conditioned(w http.ResponseWriter, r *http.Request) bool {
	if s.opts.Unconditional || r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "" {
		return true
	}
	s.violate(r, "a write without a condition")
	fail(w, r, 403, "AccessDenied")
	return false
}

// store is called with s.mu held.
func (s *Server) store(key string, o *object) {
	if i, there := slices.BinarySearch(s.sorted, key); s.sorted != nil && !there {
		s.sorted = slices.Insert(s.sorted, i, key)
	}
	s.objects[key] = o
	s.writes[key]++
}

// remove is called with s.mu held.
func (s *Server) remove(key string) {
	delete(s.objects, key)
	if i, there := slices.BinarySearch(s.sorted, key); there {
		s.sorted = slices.Delete(s.sorted, i, i+1)
	}
}

// keys returns all keys from the first that is not before from, in order. s.mu is held, and the result is valid
// only while it is.
func (s *Server) keys(from string) []string {
	if s.sorted == nil {
		s.sorted = slices.Sorted(maps.Keys(s.objects))
	}
	i, _ := slices.BinarySearch(s.sorted, from)
	return s.sorted[i:]
}

// kept lists the headers that are stored with an object.
func kept(h http.Header) http.Header {
	labels := http.Header{}
	for _, name := range []string{"Content-Type", "Cache-Control", "X-Amz-Storage-Class", "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"} {
		if v := h.Get(name); v != "" {
			labels.Set(name, v)
		}
	}
	for name, v := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			labels[name] = v
		}
	}
	return labels
}

func (s *Server) putObject(w http.ResponseWriter, r *http.Request, key string) {
	if !s.conditioned(w, r) {
		return
	}
	body := s.opts.Store.New(key, r.ContentLength)
	in, ok := s.take(w, r, body)
	if !ok {
		return
	}
	o := &object{
		body: body, size: in.size, etag: in.etag(), sha256: in.sha256, crc: in.crc, hasCRC: in.hasCRC && in.sha256 == nil,
		labels: kept(r.Header), modified: time.Now(),
	}
	s.mu.Lock()
	status, code := s.permitted(r, key)
	if code == "" {
		s.store(key, o)
	}
	s.mu.Unlock()
	if code != "" {
		fail(w, r, status, code)
		return
	}
	w.Header().Set("ETag", o.etag)
	o.checksums(w.Header())
	w.WriteHeader(200)
}

func (o *object) checksums(h http.Header) {
	switch {
	case len(o.sha256) > 0:
		h.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(o.sha256))
	case o.hasCRC:
		h.Set("X-Amz-Checksum-Crc64nvme", encodeCRC(o.crc))
	case o.parts != "":
		h.Set("X-Amz-Checksum-Sha256", o.parts)
		h.Set("X-Amz-Checksum-Type", "COMPOSITE")
		return
	case o.composite:
		h.Set("X-Amz-Checksum-Crc32", "AAAAAA==-2")
		h.Set("X-Amz-Checksum-Type", "COMPOSITE")
		return
	default:
		return
	}
	h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
}

func (s *Server) getObject(w http.ResponseWriter, r *http.Request, key string) {
	s.mu.Lock()
	o := s.objects[key]
	s.mu.Unlock()
	if o == nil {
		fail(w, r, 404, "NoSuchKey")
		return
	}
	if match := r.Header.Get("If-Match"); match != "" && match != o.etag {
		fail(w, r, 412, "PreconditionFailed")
		return
	}
	h := w.Header()
	maps.Copy(h, o.labels)
	h.Set("ETag", o.etag)
	h.Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	if r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
		o.checksums(h)
	}
	first, last, status := int64(0), o.size-1, 200
	if v := r.Header.Get("Range"); v != "" {
		from, to, _ := strings.Cut(strings.TrimPrefix(v, "bytes="), "-")
		first, _ = strconv.ParseInt(from, 10, 64)
		if to != "" {
			n, _ := strconv.ParseInt(to, 10, 64)
			last = min(last, n)
		}
		if first >= o.size {
			fail(w, r, 416, "InvalidRange")
			return
		}
		status = 206
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, o.size))
	}
	h.Set("Content-Length", fmt.Sprint(last-first+1))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		io.Copy(w, io.NewSectionReader(o.body, first, last-first+1))
	}
}

func (s *Server) deleteObject(w http.ResponseWriter, r *http.Request, key string) {
	if !s.conditioned(w, r) {
		return
	}
	s.mu.Lock()
	status, code := s.permitted(r, key)
	if code == "" {
		s.remove(key)
	}
	s.mu.Unlock()
	if code != "" {
		fail(w, r, status, code)
		return
	}
	w.WriteHeader(204)
}
