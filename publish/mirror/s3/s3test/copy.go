package s3test

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// copyObject is CopyObject within the bucket, as AWS does it: the condition is on the destination, another one on the
// source, and the checksum is that of the whole object, however the source was uploaded.
func (s *Server) copyObject(w http.ResponseWriter, r *http.Request, key string) {
	if !s.conditioned(w, r) {
		return
	}
	from, err := url.PathUnescape(strings.TrimPrefix(r.Header.Get("X-Amz-Copy-Source"), "/"))
	bucket, source, _ := strings.Cut(from, "/")
	switch {
	case err != nil || bucket != s.opts.Bucket:
		fail(w, r, 404, "NoSuchBucket")
		return
	case r.Header.Get("X-Amz-Copy-Source-If-Match") == "":
		s.violate(r, "a copy of whatever is there")
		fail(w, r, 403, "AccessDenied")
		return
	}
	s.mu.Lock()
	o := s.objects[source]
	s.mu.Unlock()
	if o == nil {
		fail(w, r, 404, "NoSuchKey")
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
		made.sha256, made.hasCRC, made.composite = h.Sum(nil), false, false
	}
	s.mu.Lock()
	status, code := s.permitted(r, key)
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
