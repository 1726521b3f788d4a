package policy

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// FromHTTP says which call IAM sees in a request to S3 (path style) or CloudFront of
// the given account. A request that is neither is an error, so that a test which asks
// whether every call is allowed cannot overlook one.
func FromHTTP(r *http.Request, account string) (Request, error) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/2020-05-31/distribution/"); ok {
		return cloudFrontCall(r.Method, rest, account)
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket == "" {
		return Request{}, unknownCall(r)
	}
	arn := "arn:aws:s3:::" + bucket
	if key == "" {
		return bucketCall(r, arn)
	}
	return objectCall(r, arn+"/"+key)
}

func unknownCall(r *http.Request) error {
	return fmt.Errorf("%s %s: no call of S3 or CloudFront that is known here", r.Method, r.URL.RequestURI())
}

func cloudFrontCall(method, rest, account string) (Request, error) {
	id, what, _ := strings.Cut(rest, "/")
	req := Request{Resource: "arn:aws:cloudfront::" + account + ":distribution/" + id}
	switch {
	case method == http.MethodPost && what == "invalidation":
		req.Action = "cloudfront:CreateInvalidation"
	case method == http.MethodGet && what == "invalidation":
		req.Action = "cloudfront:ListInvalidations"
	case method == http.MethodGet && strings.HasPrefix(what, "invalidation/"):
		req.Action = "cloudfront:GetInvalidation"
	case method == http.MethodGet && what == "":
		req.Action = "cloudfront:GetDistribution"
	default:
		return Request{}, fmt.Errorf("%s distribution/%s: no call of CloudFront that is known here", method, rest)
	}
	return req, nil
}

func bucketCall(r *http.Request, arn string) (Request, error) {
	q := r.URL.Query()
	req := Request{Resource: arn}
	switch {
	case r.Method == http.MethodHead:
		req.Action = "s3:ListBucket"
	case r.Method != http.MethodGet:
		return Request{}, unknownCall(r)
	case q.Has("location"):
		req.Action = "s3:GetBucketLocation"
	case q.Has("uploads"):
		req.Action = "s3:ListBucketMultipartUploads"
	case q.Has("versions"):
		req.Action, req.Keys = "s3:ListBucketVersions", prefixKey(q)
	case q.Has("list-type"):
		req.Action, req.Keys = "s3:ListBucket", prefixKey(q)
	default:
		return Request{}, unknownCall(r)
	}
	return req, nil
}

// prefixKey is s3:prefix, which is absent when the listing has no prefix.
func prefixKey(q url.Values) map[string]string {
	if !q.Has("prefix") {
		return nil
	}
	return map[string]string{"s3:prefix": q.Get("prefix")}
}

func objectCall(r *http.Request, arn string) (Request, error) {
	q := r.URL.Query()
	upload := q.Has("uploadId")
	req := Request{Resource: arn}
	switch {
	case r.Method == http.MethodGet && upload:
		req.Action = "s3:ListMultipartUploadParts"
	case r.Method == http.MethodGet && q.Has("attributes"):
		req.Action = "s3:GetObjectAttributes"
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		req.Action = "s3:GetObject"
	case r.Method == http.MethodDelete && upload:
		req.Action = "s3:AbortMultipartUpload"
	case r.Method == http.MethodDelete:
		req.Action = "s3:DeleteObject"
	case r.Method == http.MethodPut && upload, r.Method == http.MethodPost && q.Has("uploads"):
		// A part, or the start of an upload: no object comes into being yet.
		req.Action, req.Keys = "s3:PutObject", map[string]string{"s3:ObjectCreationOperation": "false"}
	case r.Method == http.MethodPut && len(q) == 0, r.Method == http.MethodPut && q.Get("x-id") == "PutObject", r.Method == http.MethodPost && upload:
		req.Action, req.Keys = "s3:PutObject", creation(r.Header)
	default:
		return Request{}, unknownCall(r)
	}
	return req, nil
}

// creation is what IAM sees of a request that makes an object.
func creation(h http.Header) map[string]string {
	keys := map[string]string{"s3:ObjectCreationOperation": "true"}
	for header, key := range map[string]string{"If-None-Match": "s3:if-none-match", "If-Match": "s3:if-match"} {
		if v := h.Get(header); v != "" {
			keys[key] = v
		}
	}
	return keys
}
