package answer

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/unreached"
)

// A refusedError describes in few words what a server answered. The text of the SDK's error repeats the status and
// names the SDK's operation.
type refusedError struct {
	error         // of the SDK
	status        int
	code, message string
	request       string // its number, for the support of the store
}

func (e *refusedError) Error() string {
	said := fmt.Sprintf("%d %s", e.status, strings.TrimSuffix(e.code+": "+e.message, ": "))
	if e.request != "" {
		said += " (request " + e.request + ")"
	}
	return said
}

func (e *refusedError) Unwrap() error { return e.error }

// InFewWords returns an error of the SDK as a shorter error with the same meaning.
func InFewWords(err error) error {
	code := Code(err)
	var answer interface{ ServiceRequestID() string }
	if Status(err) == 0 || code == "" {
		return unreached.Error(err)
	}
	e := &refusedError{error: err, status: Status(err), code: code, message: Message(err)}
	if errors.As(err, &answer) {
		e.request = answer.ServiceRequestID()
	}
	return e
}

var performing = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)`)

// Denied returns the IAM action that a refusal names, or an empty string. It may be an action that the request
// implies, such as kms:GenerateDataKey.
func Denied(err error) string {
	if said := performing.FindStringSubmatch(Message(err)); said != nil {
		return said[1]
	}
	return ""
}

var expecting = regexp.MustCompile(`expecting ['"]([a-z0-9-]+)['"]`)

// Region returns the region of the bucket that a refusal names, or an empty string.
func Region(err error) string {
	region := ""
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil {
		return ""
	}
	switch answer.HTTPStatusCode() {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		region = answer.Response.Header.Get("X-Amz-Bucket-Region")
	}
	if said := expecting.FindStringSubmatch(Message(err)); said != nil && Code(err) == "AuthorizationHeaderMalformed" {
		region = said[1]
	}
	return region
}

// Redirect returns the URL to which an answer redirects. It is not followed, because the request has credentials
// and content for the host that the user has named only.
func Redirect(err error) string {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.HTTPStatusCode()/100 != 3 {
		return ""
	}
	to := answer.Response.Header.Get("Location")
	u, err := url.Parse(to)
	switch {
	case err != nil:
		return to
	case u.Host == "":
		return "another path"
	}
	return u.Scheme + "://" + u.Host
}

// Code returns the code of a refusal, or an empty string.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Message returns the text of a refusal.
func Message(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorMessage()
	}
	return ""
}

// Status returns the HTTP status of a refusal, or 0 if there was no answer.
func Status(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

// Refusal returns an answer as the error that the SDK makes of it.
func Refusal(answer *http.Response) error {
	said := smithy.GenericAPIError{Code: http.StatusText(answer.StatusCode)}
	var body struct {
		Code, Message, RequestID string
	}
	if xml.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&body) == nil && body.Code != "" {
		said.Code, said.Message = body.Code, body.Message
	}
	id := answer.Header.Get("X-Amz-Request-Id")
	return &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: answer}, Err: &said},
		RequestID:     id,
	}
}

// Quoted returns a text of a store in a form that is safe to show.
func Quoted(name string) string {
	if len(name) > 40 {
		name = name[:40]
	}
	return strconv.Quote(name)
}

// FromAnother describes the server if it is not S3, or is a CDN in front of S3. It returns nil for S3, and for a
// proxy that reports that S3 is unreachable. endpoint is where requests are sent.
func FromAnother(err error, endpoint string) error {
	status := Status(err)
	if status < 400 || status >= 500 {
		return nil
	}
	server, said := endpoint, Message(err)
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil && response.Response.Request != nil {
		u := response.Response.Request.URL
		server = u.Scheme + "://" + u.Host
		if sent, _, _ := strings.Cut(response.Response.Status, " "); status == notRepeated {
			status, _ = strconv.Atoi(sent)
		}
	}
	switch {
	case Code(err) == notS3:
	case response != nil && response.Response != nil && fromCloudFront(response.Response.Header):
		said = mirror.SaidByCDN
	default:
		return nil
	}
	return &mirror.NotS3Error{Server: server, Status: status, Said: said}
}

// fromCloudFront reports whether an answer came through CloudFront, which forwards requests to S3 and rewords its
// errors.
func fromCloudFront(h http.Header) bool {
	return h.Get("X-Amz-Cf-Id") != "" || strings.Contains(h.Get("Via"), "(CloudFront)")
}

var noRoom = map[string]bool{
	"InsufficientStorage":            true,
	"QuotaExceeded":                  true,
	"XMinioStorageFull":              true,
	"XMinioAdminBucketQuotaExceeded": true,
}

// Full reports whether a store is full.
func Full(err error) bool {
	return noRoom[Code(err)] || Status(err) == http.StatusInsufficientStorage
}

// Lacking describes the ability that a store lacks if it answers 501 to a write. Not every store names it.
func Lacking(err error) error {
	code, message := Code(err), Message(err)
	said := strings.TrimSuffix("501 "+code+": "+message, ": ")
	lower := strings.ToLower(message)
	switch {
	case strings.Contains(lower, "checksum"):
		return mirror.Faultf("it does not implement checksums (x-amz-checksum-sha256, x-amz-checksum-crc64nvme), without which it is not known what has arrived: %s", said)
	case strings.Contains(lower, "if-match"):
		return &mirror.ConditionError{Header: "If-Match", Said: said}
	case strings.Contains(lower, "if-none-match"):
		return &mirror.ConditionError{Header: "If-None-Match", Said: said}
	}
	return &mirror.ConditionError{Said: said}
}
