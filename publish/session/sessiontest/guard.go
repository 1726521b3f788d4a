package sessiontest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// A Refusal is the error of S3, CloudFront or KMS for a request that is not permitted.
type Refusal struct {
	Status        int
	Code, Message string
}

var credential = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/`)

// Check returns the error of AWS for a request to S3 (path style), CloudFront or KMS, before its signature is
// checked. Nil permits the request. Unsigned requests are permitted, because some may be unsigned.
func (s *Server) Check(r *http.Request) *Refusal {
	_, refusal := s.check(r)
	return refusal
}

func (s *Server) check(r *http.Request) (*Session, *Refusal) {
	a := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if a == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.sessions[a[1]]
	refusal := s.judge(session, r)
	if refusal != nil {
		s.refusals = append(s.refusals, fmt.Sprintf("%s %s: %s: %s", r.Method, r.URL.RequestURI(), refusal.Code, refusal.Message))
	} else {
		session.Requests++
	}
	return session, refusal
}

func (s *Server) judge(session *Session, r *http.Request) *Refusal {
	switch {
	case session == nil:
		return &Refusal{403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."}
	case r.Header.Get("X-Amz-Security-Token") != session.Token:
		return &Refusal{400, "InvalidToken", "The provided token is malformed or otherwise invalid."}
	case !s.now().Before(session.Expires):
		return &Refusal{400, "ExpiredToken", "The provided token has expired."}
	case session.policy == nil:
		return nil
	}
	call, err := callOf(r, session.Role)
	if err != nil {
		return &Refusal{501, "NotImplemented", err.Error()}
	}
	return session.permits(call)
}

// permits evaluates the policy of a session.
func (s *Session) permits(call request) *Refusal {
	if s.policy.allows(call) {
		return nil
	}
	return &Refusal{403, "AccessDenied", fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %q because no session policy allows the %s action",
		s.arn(), call.action, call.resource, call.action)}
}

// Revoke ends all existing sessions.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.sessions {
		session.Expires = s.now()
	}
}

// Secret returns the secret key of a session.
func (s *Server) Secret(accessKey string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session := s.sessions[accessKey]; session != nil {
		return session.SecretKey
	}
	return ""
}

// Guard forwards only requests that Check permits. It reports an absent object only to sessions that may list the
// whole bucket. To all others, including sessions that may list a part of the bucket, S3 answers as if the object
// were forbidden.
func (s *Server) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, refusal := s.check(r)
		if refusal != nil {
			refusal.answer(w, r)
			return
		}
		if hidden := session.hides(r); hidden != nil {
			w = &hiding{ResponseWriter: w, r: r, refusal: hidden}
		}
		next.ServeHTTP(w, r)
	})
}

// hides returns the error that a session receives for an absent object, or nil for the plain 404.
func (s *Session) hides(r *http.Request) *Refusal {
	if s == nil || s.policy == nil {
		return nil
	}
	call, err := callOf(r, s.Role)
	if err != nil || call.action != "s3:GetObject" {
		return nil
	}
	bucket, _, _ := strings.Cut(call.resource, "/")
	return s.permits(request{action: "s3:ListBucket", resource: bucket})
}

// hiding answers with a refusal instead of 404.
type hiding struct {
	http.ResponseWriter
	r       *http.Request
	refusal *Refusal
	hidden  bool
}

func (h *hiding) WriteHeader(status int) {
	if status != http.StatusNotFound {
		h.ResponseWriter.WriteHeader(status)
		return
	}
	h.hidden = true
	h.Header().Del("Content-Length")
	h.refusal.answer(h.ResponseWriter, h.r)
}

func (h *hiding) Write(p []byte) (int, error) {
	if h.hidden {
		return len(p), nil
	}
	return h.ResponseWriter.Write(p)
}

// Unwrap lets an answer be flushed.
func (h *hiding) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (f *Refusal) answer(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), kms) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": f.Code + "Exception", "message": f.Message})
		return
	}
	if strings.HasPrefix(r.URL.Path, cloudFront) {
		type inner struct{ Type, Code, Message string }
		writeXML(w, f.Status, struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Error   inner
		}{Error: inner{"Sender", f.Code, f.Message}})
		return
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(f.Status)
		return
	}
	writeXML(w, f.Status, struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}{Code: f.Code, Message: f.Message})
}

const (
	cloudFront = "/2020-05-31/distribution/"
	kms        = "TrentService."
)

// callOf returns a request as IAM sees it. An unknown request is an error, so that none is overlooked.
func callOf(r *http.Request, role string) (request, error) {
	part := strings.Split(role, ":")
	if operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), kms); ok {
		return kmsCallOf(r, operation, part)
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, cloudFront); ok {
		id, what, _ := strings.Cut(rest, "/")
		call := request{resource: "arn:" + part[1] + ":cloudfront::" + part[4] + ":distribution/" + id}
		switch {
		case r.Method == http.MethodPost && what == "invalidation":
			call.action = "cloudfront:CreateInvalidation"
		case r.Method == http.MethodGet && strings.HasPrefix(what, "invalidation/"):
			call.action = "cloudfront:GetInvalidation"
		default:
			return request{}, unknown(r)
		}
		return call, nil
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	call := request{resource: "arn:" + part[1] + ":s3:::" + bucket, keys: map[string]string{}}
	if key != "" {
		call.resource += "/" + key
	}
	call.action = actionOf(r, key != "")
	if call.action == "" || bucket == "" {
		return request{}, unknown(r)
	}
	if q := r.URL.Query(); call.action == "s3:ListBucket" && q.Has("prefix") {
		call.keys["s3:prefix"] = q.Get("prefix")
	}
	return call, nil
}

func unknown(r *http.Request) error {
	return fmt.Errorf("%s %s: no call of S3 or CloudFront that is known here", r.Method, r.URL.RequestURI())
}

// actionOf returns the permission that a request to S3 needs.
func actionOf(r *http.Request, object bool) string {
	q := r.URL.Query()
	for _, a := range []struct {
		method string
		object bool
		query  string
		action string
	}{
		{"GET", false, "uploads", "s3:ListBucketMultipartUploads"},
		{"GET", false, "list-type", "s3:ListBucket"},
		{"HEAD", false, "", "s3:ListBucket"},
		{"GET", true, "uploadId", "s3:ListMultipartUploadParts"},
		{"GET", true, "", "s3:GetObject"},
		{"HEAD", true, "", "s3:GetObject"},
		{"PUT", true, "", "s3:PutObject"},
		{"POST", true, "uploads", "s3:PutObject"},
		{"POST", true, "uploadId", "s3:PutObject"},
		{"DELETE", true, "uploadId", "s3:AbortMultipartUpload"},
		{"DELETE", true, "", "s3:DeleteObject"},
	} {
		if r.Method == a.method && object == a.object && (a.query == "" || q.Has(a.query)) && known(q) {
			return a.action
		}
	}
	return ""
}

// known reports whether a query needs no other permission.
func known(q url.Values) bool {
	for name := range q {
		switch name {
		case "uploads", "uploadId", "partNumber", "list-type", "prefix", "start-after", "continuation-token", "delimiter",
			"max-keys", "encoding-type", "fetch-owner", "key-marker", "upload-id-marker", "max-uploads", "part-number-marker", "max-parts", "x-id":
		default:
			return false
		}
	}
	return true
}

// kmsCallOf returns a request to KMS as IAM sees it. Its body names the key.
func kmsCallOf(r *http.Request, operation string, role []string) (request, error) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var asked struct {
		KeyID string `json:"KeyId"`
	}
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	if err != nil {
		return request{}, err
	}
	call := request{action: "kms:" + operation, keys: map[string]string{}}
	_, alias, ok := strings.Cut(asked.KeyID, "alias/")
	switch {
	case ok:
		call.keys["kms:RequestAlias"] = "alias/" + alias
		call.resource = "arn:" + role[1] + ":kms:eu-central-1:" + role[4] + ":key/that-of-" + alias
	case strings.HasPrefix(asked.KeyID, "arn:"):
		call.resource = asked.KeyID
	default:
		call.resource = "arn:" + role[1] + ":kms:eu-central-1:" + role[4] + ":key/" + asked.KeyID
	}
	return call, nil
}
