package s3test

import (
	"net/http"
	"net/url"
	"strings"
)

// Operation returns S3's name of a request.
func Operation(r *http.Request) string {
	_, key, err := split(r)
	if err != nil {
		return "Invalid"
	}
	q := r.URL.Query()
	if r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "" && !q.Has("uploadId") {
		return "CopyObject"
	}
	if r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "" {
		return "UploadPartCopy"
	}
	where := "Object"
	if key == "" {
		where = "Bucket"
	}
	for _, o := range []struct{ method, where, query, name string }{
		{"PUT", "Object", "uploadId", "UploadPart"},
		{"PUT", "Object", "", "PutObject"},
		{"GET", "Object", "uploadId", "ListParts"},
		{"GET", "Object", "", "GetObject"},
		{"HEAD", "Object", "", "HeadObject"},
		{"DELETE", "Object", "uploadId", "AbortMultipartUpload"},
		{"DELETE", "Object", "", "DeleteObject"},
		{"POST", "Bucket", "delete", "DeleteObjects"},
		{"POST", "Object", "uploads", "CreateMultipartUpload"},
		{"POST", "Object", "uploadId", "CompleteMultipartUpload"},
		{"GET", "Bucket", "uploads", "ListMultipartUploads"},
		{"GET", "Bucket", "list-type", "ListObjectsV2"},
		{"HEAD", "Bucket", "", "HeadBucket"},
	} {
		if r.Method == o.method && where == o.where && (o.query == "" || q.Has(o.query)) {
			return o.name
		}
	}
	return "Unknown"
}

// split returns bucket and key from the path exactly as sent.
func split(r *http.Request) (bucket, key string, err error) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	bucket, key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if key, err = url.PathUnescape(key); err != nil {
		return "", "", err
	}
	bucket, err = url.PathUnescape(bucket)
	return bucket, key, err
}

func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	bucket, key, err := split(r)
	switch {
	case err != nil:
		fail(w, r, 400, "InvalidURI")
		return
	case (s.opts.AccessKey != "" || s.opts.Secrets != nil) && Operation(r) != "HeadBucket": // which needs no signature
		if code := s.checkSignature(r); code != "" {
			status := 403
			if code == "AuthorizationHeaderMalformed" {
				status = 400
			}
			fail(w, r, status, code)
			return
		}
	}
	if bucket != s.opts.Bucket {
		fail(w, r, 404, "NoSuchBucket")
		return
	}
	switch Operation(r) {
	case "PutObject":
		s.putObject(w, r, key)
	case "CopyObject":
		s.copyObject(w, r, key)
	case "GetObject", "HeadObject":
		s.getObject(w, r, key)
	case "DeleteObject":
		s.deleteObject(w, r, key)
	case "DeleteObjects":
		s.deleteObjects(w, r)
	case "ListObjectsV2":
		s.listObjects(w, r)
	case "HeadBucket":
		w.Header().Set("X-Amz-Bucket-Region", s.opts.Region)
		w.WriteHeader(200)
	case "CreateMultipartUpload":
		s.createUpload(w, r, key)
	case "UploadPartCopy":
		s.uploadPartCopy(w, r, key)
	case "UploadPart":
		s.uploadPart(w, r, key)
	case "CompleteMultipartUpload":
		s.completeUpload(w, r, key)
	case "AbortMultipartUpload":
		s.abortUpload(w, r, key)
	case "ListMultipartUploads":
		s.listUploads(w, r)
	case "ListParts":
		s.listParts(w, r, key)
	default:
		s.violate(r, "no such operation")
		fail(w, r, 501, "NotImplemented")
	}
}
