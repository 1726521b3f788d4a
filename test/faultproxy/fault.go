package faultproxy

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A Fault is one way to misbehave. The zero Fault is none.
type Fault struct {
	Name string
	// before runs when the request has come in and was not forwarded; after, when the
	// server has answered. Each says whether to go on as if nothing had happened.
	before func(*exchange) bool
	after  func(*exchange, *http.Response, []byte) bool
}

// Refuse answers in place of the server, as AWS does: status, with an error document
// that holds code and message.
func Refuse(status int, code, message string) Fault {
	return Fault{Name: fmt.Sprintf("%d %s", status, code), before: func(e *exchange) bool {
		io.Copy(io.Discard, e.r.Body)
		e.refuse(status, code, message, nil)
		return false
	}}
}

// The refusals that S3 is known for.
var (
	Denied      = Refuse(http.StatusForbidden, "AccessDenied", "User is not authorized to perform this action")
	Expired     = Refuse(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")
	NoSuchKey   = Refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	NoBucket    = Refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
	TimedOut    = Refuse(http.StatusRequestTimeout, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period.")
	Conflict    = Refuse(http.StatusConflict, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation against this resource.")
	FailedMatch = Refuse(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	Internal    = Refuse(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
	SlowDown    = Refuse(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
)

// Elsewhere answers as S3 does when the bucket is in another region.
func Elsewhere(region string) Fault {
	return Fault{Name: "301 PermanentRedirect", before: func(e *exchange) bool {
		io.Copy(io.Discard, e.r.Body)
		e.refuse(http.StatusMovedPermanently, "PermanentRedirect",
			"The bucket you are attempting to access must be addressed using the specified endpoint.",
			http.Header{"X-Amz-Bucket-Region": {region}})
		return false
	}}
}

// Reset drops the connection before the server has seen the request.
var Reset = Fault{Name: "reset", before: func(e *exchange) bool {
	c := e.hijack()
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
	return false
}}

// Lost lets the server act and drops its answer.
var Lost = Fault{Name: "response lost", after: func(e *exchange, _ *http.Response, _ []byte) bool {
	e.hijack().Close()
	return false
}}

// Truncated lets the server act and cuts its answer in the middle: of the body if there
// is one, of the header otherwise.
var Truncated = Fault{Name: "response truncated", after: func(e *exchange, resp *http.Response, body []byte) bool {
	var whole bytes.Buffer
	fmt.Fprintf(&whole, "HTTP/1.1 %s\r\n", resp.Status)
	resp.Header.Del("Transfer-Encoding")
	resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
	resp.Header.Write(&whole)
	keep := whole.Len() / 2
	if len(body) > 0 && e.r.Method != http.MethodHead {
		whole.WriteString("\r\n")
		keep = whole.Len() + len(body)/2
		whole.Write(body)
	}
	c := e.hijack()
	defer c.Close()
	c.Write(whole.Bytes()[:keep])
	return false
}}

// Stall lets the server act and sends its answer only after d, if the client still
// waits.
func Stall(d time.Duration) Fault {
	return Fault{Name: "stall", after: func(e *exchange, _ *http.Response, _ []byte) bool {
		select {
		case <-time.After(d):
		case <-e.r.Context().Done():
		}
		return true
	}}
}

// Before calls act when a request has come in and drops it: the server never sees it.
func Before(act func()) Fault {
	return Fault{Name: "before", before: func(e *exchange) bool {
		act()
		e.hijack().Close()
		return false
	}}
}

// After calls act when the server has answered and drops the answer.
func After(act func()) Fault {
	return Fault{Name: "after", after: func(e *exchange, _ *http.Response, _ []byte) bool {
		act()
		e.hijack().Close()
		return false
	}}
}

// Hold calls act when a request has come in, and then lets it pass.
func Hold(act func()) Fault {
	return Fault{Name: "hold", before: func(*exchange) bool {
		act()
		return true
	}}
}

type errorDocument struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	RequestID string `xml:"RequestId"`
	HostID    string `xml:"HostId"`
}

func (e *exchange) refuse(status int, code, message string, header http.Header) {
	id := fmt.Sprintf("FAULT%011d", e.Number)
	doc, err := xml.Marshal(errorDocument{Code: code, Message: message, RequestID: id, HostID: "faultproxy"})
	if err != nil {
		panic(err) // a struct of strings
	}
	if header == nil {
		header = http.Header{}
	}
	header = header.Clone()
	header.Set("Content-Type", "application/xml")
	header.Set("X-Amz-Request-Id", id)
	e.answer(status, header, append([]byte(xml.Header), doc...))
}
