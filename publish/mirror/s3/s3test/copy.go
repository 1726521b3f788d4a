package s3test

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// copyObject is CopyObject within the bucket, as AWS implements it: one condition is on the destination, another on
// the source, and the checksum is that of the whole object, however the source was uploaded.
func (s *Server) copyObject(w http.ResponseWriter, r *http.Request, key string) {
	if !s.conditioned(w, r) {
		return
	}
	source, o := s.copied(w, r)
	if o == nil {
		return
	}
	if o.size > s.opts.LargestCopy {
		fail(w, r, 400, "InvalidRequest")
		return
	}
	made := *o
	made.modified = time.Now()
	if r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE" {
		made.labels = kept(r.Header)
	}
	if r.Header.Get("X-Amz-Checksum-Algorithm") == "SHA256" && !s.opts.NoChecksums {
		h := s.opts.SHA256(nil)
		piece := make([]byte, o.size)
		o.body.ReadAt(piece, 0)
		h.Write(piece)
		made.sha256, made.hasCRC, made.composite, made.parts = h.Sum(nil), false, false, ""
	}
	s.mu.Lock()
	var status int
	var code string
	if !s.opts.Overwrites {
		status, code = s.permitted(r, key)
	}
	if code == "" && s.objects[source] != nil && s.objects[source].etag != r.Header.Get("X-Amz-Copy-Source-If-Match") {
		status, code = 412, "PreconditionFailed"
	}
	if code == "" {
		s.store(key, &made)
	}
	s.mu.Unlock()
	if code != "" {
		fail(w, r, status, code)
		return
	}
	writeXML(w, 200, struct {
		XMLName        xml.Name `xml:"CopyObjectResult"`
		ETag           string
		LastModified   string
		ChecksumSHA256 string `xml:",omitempty"`
	}{ETag: made.etag, LastModified: stamp(made.modified), ChecksumSHA256: base64.StdEncoding.EncodeToString(made.sha256)})
}

// copied returns the object to copy. If there is none, it has answered.
func (s *Server) copied(w http.ResponseWriter, r *http.Request) (source string, o *object) {
	from, err := url.PathUnescape(strings.TrimPrefix(r.Header.Get("X-Amz-Copy-Source"), "/"))
	bucket, source, _ := strings.Cut(from, "/")
	switch {
	case err != nil || bucket != s.opts.Bucket:
		fail(w, r, 404, "NoSuchBucket")
		return "", nil
	case r.Header.Get("X-Amz-Copy-Source-If-Match") == "":
		s.violate(r, "a copy of whatever is there")
		fail(w, r, 403, "AccessDenied")
		return "", nil
	}
	s.mu.Lock()
	o = s.objects[source]
	s.mu.Unlock()
	switch {
	case o == nil:
		fail(w, r, 404, "NoSuchKey")
		return "", nil
	case o.etag != r.Header.Get("X-Amz-Copy-Source-If-Match"):
		fail(w, r, 412, "PreconditionFailed")
		return "", nil
	}
	return source, o
}

// uploadPartCopy is UploadPartCopy: the checksum is that of the algorithm of the upload, and of the part.
func (s *Server) uploadPartCopy(w http.ResponseWriter, r *http.Request, key string) {
	u, number := s.part(w, r, key)
	if u == nil {
		return
	}
	_, o := s.copied(w, r)
	if o == nil {
		return
	}
	first, last := int64(0), o.size-1
	if within := r.Header.Get("X-Amz-Copy-Source-Range"); within != "" {
		if n, err := fmt.Sscanf(within, "bytes=%d-%d", &first, &last); n != 2 || err != nil || first > last || last >= o.size {
			fail(w, r, 400, "InvalidRange")
			return
		}
	}
	if last-first+1 > s.opts.LargestCopy {
		fail(w, r, 400, "InvalidRequest")
		return
	}
	p := &uploadedPart{body: s.opts.Store.New(key, last-first+1), modified: time.Now()}
	h := s.opts.SHA256(nil)
	p.in = s.receive(r, io.NewSectionReader(o.body, first, last-first+1), last-first+1, p.body, h)
	p.in.sha256 = h.Sum(nil)
	s.mu.Lock()
	live := s.uploads[u.id] == u
	u.parts[number] = p
	s.mu.Unlock()
	if !live {
		fail(w, r, 404, "NoSuchUpload")
		return
	}
	answer := struct {
		XMLName           xml.Name `xml:"CopyPartResult"`
		ETag              string
		LastModified      string
		ChecksumSHA256    string `xml:",omitempty"`
		ChecksumCRC64NVME string `xml:",omitempty"`
	}{ETag: p.in.etag(), LastModified: stamp(p.modified)}
	switch {
	case s.opts.NoChecksums:
	case u.algorithm == "SHA256":
		answer.ChecksumSHA256 = base64.StdEncoding.EncodeToString(p.in.sha256)
	case u.algorithm == "CRC64NVME":
		answer.ChecksumCRC64NVME = encodeCRC(p.in.crc)
	}
	writeXML(w, 200, answer)
}
