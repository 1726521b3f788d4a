package s3test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An upload is a multipart upload in progress.
type upload struct {
	id, key   string
	started   time.Time
	labels    http.Header
	algorithm string // empty if not given
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

// Abandon begins an upload and leaves it, like a publisher that dies.
func (s *Server) Abandon(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id()
	s.uploads[id] = &upload{id: id, key: key, started: time.Now(), parts: map[int]*uploadedPart{}, algorithm: "CRC64NVME", kind: "FULL_OBJECT"}
}

// AbortAll aborts all uploads, as a lifecycle rule or another tool may.
func (s *Server) AbortAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.uploads)
}

// upload returns the upload of a request, or nil.
func (s *Server) upload(r *http.Request, key string) *upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[r.URL.Query().Get("uploadId")]
	if u == nil || u.key != key {
		return nil
	}
	return u
}

// part returns the upload and the part number of a request. If the upload is nil, it has answered.
func (s *Server) part(w http.ResponseWriter, r *http.Request, key string) (*upload, int) {
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil || number < 1 || number > 10000 {
		fail(w, r, 400, "InvalidArgument")
		return nil, 0
	}
	u := s.upload(r, key)
	if u == nil {
		io.Copy(io.Discard, r.Body)
		fail(w, r, 404, "NoSuchUpload")
	}
	return u, number
}

func (s *Server) uploadPart(w http.ResponseWriter, r *http.Request, key string) {
	u, number := s.part(w, r, key)
	if u == nil {
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
		ChecksumSHA256    string
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
	sums, hashes := md5.New(), s.opts.SHA256(nil)
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
		case u.algorithm == "SHA256" && p.ChecksumSHA256 != base64.StdEncoding.EncodeToString(have.in.sha256) && !s.opts.NoChecksums:
			return nil, 400, "InvalidPart"
		case !last && have.in.size < s.opts.SmallestPart:
			return nil, 400, "EntityTooSmall"
		}
		sums.Write(have.in.md5)
		hashes.Write(have.in.sha256)
		o.crc = join(o.crc, have.in.crc, have.in.size)
		all = append(all, piece{have.body, o.size, have.in.size})
		o.size += have.in.size
	}
	if u.algorithm == "SHA256" && !s.opts.NoChecksums {
		o.parts = fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(hashes.Sum(nil)), len(want.Part))
	}
	o.body = all
	o.etag = fmt.Sprintf(`"%s-%d"`, hex.EncodeToString(sums.Sum(nil)), len(want.Part))
	return o, 0, ""
}

// joined is the body of an object uploaded in parts.
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
