package s3test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
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
	sha256    []byte // empty: not asked for
	crc       uint64
	hasCRC    bool
	composite bool
	labels    http.Header
	modified  time.Time
}

// Memory is a Store that keeps everything in memory.
var Memory Store = memory{}

type memory struct{}

func (memory) New(_ string, size int64) Body { return &inMemory{make([]byte, 0, size)} }

type inMemory struct{ content []byte }

func (m *inMemory) Write(p []byte) (int, error) {
	m.content = append(m.content, p...)
	return len(p), nil
}

func (m *inMemory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.content).ReadAt(p, off)
}

// Discard is a Store that keeps nothing: what is read is zeroes.
var Discard Store = discard{}

type discard struct{}

func (discard) New(_ string, size int64) Body { return zeroes(size) }

type zeroes int64

func (zeroes) Write(p []byte) (int, error) { return len(p), nil }

func (z zeroes) ReadAt(p []byte, off int64) (int, error) {
	n := max(0, min(int64(len(p)), int64(z)-off))
	clear(p[:n])
	if int(n) < len(p) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// received is what was found of a body as it came in.
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

// receive takes in a body, with a SHA-256 only where somebody asks for it.
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

// take receives the body of a request and checks everything that it says of it. It has
// answered if it returns false.
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
	if s.opts.NoChecksums { // they are not even looked at
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

// permitted answers with what is wrong with the condition of a write, and returns false,
// unless it holds. s.mu is held, so that the write can follow at once.
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
	if s.objects[key] == nil {
		s.sorted = nil
	}
	s.objects[key] = o
	s.writes[key]++
}

// remove is called with s.mu held.
func (s *Server) remove(key string) {
	delete(s.objects, key)
	s.sorted = nil
}

// keys returns all keys from the first that is not before from, in order. s.mu is held.
func (s *Server) keys(from string) []string {
	if s.sorted == nil {
		s.sorted = slices.Sorted(maps.Keys(s.objects))
	}
	i, _ := slices.BinarySearch(s.sorted, from)
	return s.sorted[i:]
}

// kept are the headers that are kept with an object.
func kept(h http.Header) http.Header {
	labels := http.Header{}
	for _, name := range []string{"Content-Type", "Cache-Control", "X-Amz-Storage-Class", "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"} {
		if v := h.Get(name); v != "" {
			labels.Set(name, v)
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

func (s *Server) listObjects(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after := q.Get("start-after")
	if token := q.Get("continuation-token"); token != "" {
		last, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			fail(w, r, 400, "InvalidArgument")
			return
		}
		after = string(last)
	}
	prefix, delimiter, size := q.Get("prefix"), q.Get("delimiter"), s.opts.PageSize
	if n, err := strconv.Atoi(q.Get("max-keys")); err == nil {
		size = min(n, size)
	}
	encoding := q.Get("encoding-type")
	if s.opts.LiteralKeys {
		encoding = ""
	}
	p := newListing(encoding)
	p.element("Name", s.opts.Bucket)
	p.name("Prefix", prefix)
	p.element("Delimiter", delimiter)
	p.element("EncodingType", encoding)
	p.element("MaxKeys", strconv.Itoa(size))
	count, next := 0, ""
	last, group := "", "" // what the page ends with: a key, or a prefix that stands for several
	s.mu.Lock()
	for _, key := range s.keys(max(prefix, after)) {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if key <= after || group != "" && strings.HasPrefix(key, group) {
			continue
		}
		if count == size {
			next = base64.StdEncoding.EncodeToString([]byte(last))
			break
		}
		count++
		if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			group = key[:len(prefix)+i+len(delimiter)]
			last = group + "\xff" // behind all of them
			p.open("CommonPrefixes")
			p.name("Prefix", group)
			p.close("CommonPrefixes")
			continue
		}
		p.object(key, s.objects[key])
		last = key
	}
	s.mu.Unlock()
	p.element("KeyCount", strconv.Itoa(count))
	p.element("IsTruncated", strconv.FormatBool(next != ""))
	p.element("NextContinuationToken", next)
	p.write(w)
}

// A listing is the answer to ListObjectsV2. It is written by hand, since a server that lists
// a million objects would otherwise take longer for it than its client.
type listing struct {
	bytes.Buffer
	escaped bool // names are escaped as in a URL
}

const listingElement = "ListBucketResult"

func newListing(encoding string) *listing {
	p := &listing{escaped: encoding == "url"}
	p.WriteString(xml.Header)
	p.WriteString(`<` + listingElement + ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	return p
}

func (p *listing) open(name string)  { p.WriteString("<" + name + ">") }
func (p *listing) close(name string) { p.WriteString("</" + name + ">") }

// element leaves out what is empty.
func (p *listing) element(name, text string) {
	if text == "" {
		return
	}
	p.open(name)
	xml.EscapeText(p, []byte(text))
	p.close(name)
}

func (p *listing) name(element, name string) {
	if p.escaped {
		p.element(element, escape(name, "/"))
		return
	}
	if name != "" {
		p.open(element)
		p.WriteString(literally.Replace(name))
		p.close(element)
	}
}

// literally escapes what must be, and nothing that cannot: what XML does not have is written as
// some stores do.
var literally = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;", "\x08", "&#x8;")

func (p *listing) object(key string, o *object) {
	p.open("Contents")
	p.name("Key", key)
	p.element("LastModified", stamp(o.modified))
	p.element("ETag", o.etag)
	p.element("Size", strconv.FormatInt(o.size, 10))
	p.element("StorageClass", "STANDARD")
	p.close("Contents")
}

func (p *listing) write(w http.ResponseWriter) {
	p.close(listingElement)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(p.Len()))
	w.Write(p.Bytes())
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// An upload is a multipart upload in progress.
type upload struct {
	id, key   string
	started   time.Time
	labels    http.Header
	algorithm string // empty: not said
	kind      string // FULL_OBJECT or COMPOSITE
	parts     map[int]*uploadedPart
}

type uploadedPart struct {
	body     Body
	in       received
	modified time.Time
}

func (s *Server) createUpload(w http.ResponseWriter, r *http.Request, key string) {
	u := &upload{
		key: key, started: time.Now(), labels: kept(r.Header), parts: map[int]*uploadedPart{},
		algorithm: r.Header.Get("X-Amz-Checksum-Algorithm"), kind: r.Header.Get("X-Amz-Checksum-Type"),
	}
	if u.algorithm == "SHA256" && u.kind == "FULL_OBJECT" || u.algorithm == "CRC64NVME" && u.kind == "COMPOSITE" {
		fail(w, r, 400, "InvalidRequest")
		return
	}
	if u.algorithm == "CRC64NVME" && u.kind == "" {
		u.kind = "FULL_OBJECT"
	}
	s.mu.Lock()
	u.id = s.id()
	s.uploads[u.id] = u
	s.mu.Unlock()
	w.Header().Set("X-Amz-Checksum-Algorithm", u.algorithm)
	w.Header().Set("X-Amz-Checksum-Type", u.kind)
	writeXML(w, 200, struct {
		XMLName     xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key string
		UploadID    string `xml:"UploadId"`
	}{Bucket: s.opts.Bucket, Key: key, UploadID: u.id})
}

// id returns a new upload ID, which must be encoded in a query. s.mu is held.
func (s *Server) id() string {
	s.ids++
	if s.opts.PlainIDs {
		return fmt.Sprintf("upload-%d", s.ids)
	}
	return fmt.Sprintf("upload+%d/=", s.ids)
}

// Abandon begins an upload and leaves it, as a publisher who dies.
func (s *Server) Abandon(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id()
	s.uploads[id] = &upload{id: id, key: key, started: time.Now(), parts: map[int]*uploadedPart{}, algorithm: "CRC64NVME", kind: "FULL_OBJECT"}
}

// AbortAll gives all uploads up, as a lifecycle rule or another tool may.
func (s *Server) AbortAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.uploads)
}

// upload returns the upload that a request is about, or nil.
func (s *Server) upload(r *http.Request, key string) *upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[r.URL.Query().Get("uploadId")]
	if u == nil || u.key != key {
		return nil
	}
	return u
}

func (s *Server) uploadPart(w http.ResponseWriter, r *http.Request, key string) {
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil || number < 1 || number > 10000 {
		fail(w, r, 400, "InvalidArgument")
		return
	}
	u := s.upload(r, key)
	if u == nil {
		io.Copy(io.Discard, r.Body)
		fail(w, r, 404, "NoSuchUpload")
		return
	}
	if u.algorithm == "CRC64NVME" && r.Header.Get("X-Amz-Checksum-Crc64nvme") == "" && !s.opts.NoChecksums {
		s.violate(r, "a part without its checksum")
	}
	p := &uploadedPart{body: s.opts.Store.New(key, r.ContentLength)}
	var ok bool
	if p.in, ok = s.take(w, r, p.body); !ok {
		return
	}
	p.modified = time.Now()
	s.mu.Lock()
	live := s.uploads[u.id] == u
	u.parts[number] = p
	s.mu.Unlock()
	if !live {
		fail(w, r, 404, "NoSuchUpload")
		return
	}
	w.Header().Set("ETag", p.in.etag())
	if p.in.hasCRC {
		w.Header().Set("X-Amz-Checksum-Crc64nvme", encodeCRC(p.in.crc))
	}
	w.WriteHeader(200)
}

type completion struct {
	Part []struct {
		PartNumber        int
		ETag              string
		ChecksumCRC64NVME string
	}
}

func (s *Server) completeUpload(w http.ResponseWriter, r *http.Request, key string) {
	if !s.conditioned(w, r) {
		return
	}
	var want completion
	if err := xml.NewDecoder(r.Body).Decode(&want); err != nil || len(want.Part) == 0 {
		fail(w, r, 400, "MalformedXML")
		return
	}
	s.mu.Lock()
	etag, status, code := s.assemble(r, key, want)
	s.mu.Unlock()
	if code != "" {
		fail(w, r, status, code)
		return
	}
	writeXML(w, 200, struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
	}{Bucket: s.opts.Bucket, Key: key, ETag: etag})
}

// assemble makes an object of parts. s.mu is held.
func (s *Server) assemble(r *http.Request, key string, want completion) (etag string, status int, code string) {
	id := r.URL.Query().Get("uploadId")
	if etag := s.completed[id]; etag != "" && !s.opts.Forgetful {
		return etag, 0, ""
	}
	u := s.uploads[id]
	if u == nil || u.key != key {
		return "", 404, "NoSuchUpload"
	}
	o, status, code := s.join(u, want)
	if code != "" {
		return "", status, code
	}
	if size := r.Header.Get("X-Amz-Mp-Object-Size"); size != "" && size != fmt.Sprint(o.size) {
		return "", 400, "InvalidRequest"
	}
	if kind := r.Header.Get("X-Amz-Checksum-Type"); kind != "" && kind != u.kind && !s.opts.NoChecksums {
		return "", 400, "InvalidRequest"
	}
	if crc := r.Header.Get("X-Amz-Checksum-Crc64nvme"); crc != "" && o.hasCRC && crc != encodeCRC(o.crc) {
		return "", 400, "BadDigest"
	}
	if status, code := s.permitted(r, key); code != "" {
		return "", status, code
	}
	s.store(key, o)
	s.completed[id] = o.etag
	delete(s.uploads, id)
	return o.etag, 0, ""
}

func (s *Server) join(u *upload, want completion) (_ *object, status int, code string) {
	o := &object{labels: u.labels, modified: time.Now(), hasCRC: u.kind == "FULL_OBJECT" && !s.opts.NoChecksums, composite: u.kind == "COMPOSITE"}
	sums := md5.New()
	var all joined
	for i, p := range want.Part {
		have := u.parts[p.PartNumber]
		last := i == len(want.Part)-1
		switch {
		case i > 0 && p.PartNumber <= want.Part[i-1].PartNumber:
			return nil, 400, "InvalidPartOrder"
		case have == nil || strings.Trim(p.ETag, `"`) != strings.Trim(have.in.etag(), `"`),
			p.ChecksumCRC64NVME != "" && have.in.hasCRC && p.ChecksumCRC64NVME != encodeCRC(have.in.crc):
			return nil, 400, "InvalidPart"
		case !last && have.in.size < s.opts.SmallestPart:
			return nil, 400, "EntityTooSmall"
		}
		sums.Write(have.in.md5)
		o.crc = join(o.crc, have.in.crc, have.in.size)
		all = append(all, piece{have.body, o.size, have.in.size})
		o.size += have.in.size
	}
	o.body = all
	o.etag = fmt.Sprintf(`"%s-%d"`, hex.EncodeToString(sums.Sum(nil)), len(want.Part))
	return o, 0, ""
}

// joined is the body of an object that came in parts.
type joined []piece

type piece struct {
	Body
	off, size int64
}

func (joined) Write([]byte) (int, error) { panic("written twice") }

func (j joined) ReadAt(p []byte, off int64) (n int, err error) {
	for _, part := range j {
		if n == len(p) {
			return n, nil
		}
		at := off + int64(n) - part.off
		if at < 0 || at >= part.size {
			continue
		}
		m, err := part.ReadAt(p[n:min(int64(len(p)), int64(n)+part.size-at)], at)
		n += m
		if err != nil && err != io.EOF {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *Server) abortUpload(w http.ResponseWriter, r *http.Request, key string) {
	u := s.upload(r, key)
	if u == nil {
		fail(w, r, 404, "NoSuchUpload")
		return
	}
	s.mu.Lock()
	delete(s.uploads, u.id)
	s.mu.Unlock()
	w.WriteHeader(204)
}

func (s *Server) listUploads(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Key               string
		UploadID          string `xml:"UploadId"`
		Initiated         string
		ChecksumAlgorithm string `xml:",omitempty"`
		ChecksumType      string `xml:",omitempty"`
	}
	var page struct {
		XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
		Bucket, Prefix     string
		NextKeyMarker      string `xml:",omitempty"`
		NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
		EncodingType       string `xml:",omitempty"`
		IsTruncated        bool
		Upload             []entry
	}
	q := r.URL.Query()
	page.Bucket, page.Prefix = s.opts.Bucket, q.Get("prefix")
	s.mu.Lock()
	all := slices.SortedFunc(maps.Values(s.uploads), func(a, b *upload) int {
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c
		}
		return a.started.Compare(b.started)
	})
	s.mu.Unlock()
	key, id := q.Get("key-marker"), q.Get("upload-id-marker")
	passed := false // within the uploads of the key that the last page ended in
	for _, u := range all {
		if !strings.HasPrefix(u.key, page.Prefix) || u.key < key {
			continue
		}
		if key != "" && u.key == key && !passed {
			passed = u.id == id
			continue
		}
		if page.IsTruncated = len(page.Upload) == s.opts.PageSize; page.IsTruncated {
			last := page.Upload[len(page.Upload)-1]
			page.NextKeyMarker, page.NextUploadIDMarker = last.Key, last.UploadID
			break
		}
		page.Upload = append(page.Upload, entry{u.key, u.id, stamp(u.started), u.algorithm, u.kind})
	}
	if page.EncodingType = q.Get("encoding-type"); page.EncodingType != "" {
		page.Prefix, page.NextKeyMarker = escape(page.Prefix, "/"), escape(page.NextKeyMarker, "/")
		for i := range page.Upload {
			page.Upload[i].Key = escape(page.Upload[i].Key, "/")
		}
	}
	writeXML(w, 200, page)
}

func (s *Server) listParts(w http.ResponseWriter, r *http.Request, key string) {
	type entry struct {
		PartNumber        int
		LastModified      string
		ETag              string
		Size              int64
		ChecksumCRC64NVME string `xml:",omitempty"`
	}
	var page struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		Bucket, Key          string
		UploadID             string `xml:"UploadId"`
		ChecksumAlgorithm    string `xml:",omitempty"`
		ChecksumType         string `xml:",omitempty"`
		NextPartNumberMarker int    `xml:",omitempty"`
		IsTruncated          bool
		Part                 []entry
	}
	u := s.upload(r, key)
	if u == nil {
		fail(w, r, 404, "NoSuchUpload")
		return
	}
	after, _ := strconv.Atoi(r.URL.Query().Get("part-number-marker"))
	page.Bucket, page.Key, page.UploadID = s.opts.Bucket, key, u.id
	page.ChecksumAlgorithm, page.ChecksumType = u.algorithm, u.kind
	s.mu.Lock()
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		if n <= after {
			continue
		}
		if page.IsTruncated = len(page.Part) == s.opts.PageSize; page.IsTruncated {
			page.NextPartNumberMarker = page.Part[len(page.Part)-1].PartNumber
			break
		}
		p := u.parts[n]
		e := entry{PartNumber: n, LastModified: stamp(p.modified), ETag: p.in.etag(), Size: p.in.size}
		if p.in.hasCRC {
			e.ChecksumCRC64NVME = encodeCRC(p.in.crc)
		}
		page.Part = append(page.Part, e)
	}
	s.mu.Unlock()
	writeXML(w, 200, page)
}
