package s3test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"time"
)

// Some stores are almost compatible with S3. These faults are their answers: the request is carried out, and the
// answer omits something that a client relies on, or has something wrong.

// An Answer is an answer before it is sent.
type Answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Unsized bool // it has no Content-Length
}

// Alter changes the answer to a request.
func Alter(change func(*Answer)) Fault { return Fault{kind: altered, rewrite: change} }

// Answers of almost compatible stores.
var (
	// ErrorAs200 does not carry out the request and reports the error in the body of a success.
	ErrorAs200 = Refuse(http.StatusOK, "InternalError")
	// LateErrorAs200 carries out the request and reports an error in the body of a success.
	LateErrorAs200 = Late(http.StatusOK, "InternalError")
	// Blank has neither headers nor a body.
	Blank = Alter(func(a *Answer) { a.Header, a.Body = http.Header{}, nil })
	// NoETag has no ETag, neither in a header nor in a document.
	NoETag = Alter(func(a *Answer) {
		a.Header.Del("ETag")
		a.Body = etags.ReplaceAll(a.Body, nil)
	})
	// NoLength has no Content-Length.
	NoLength = Alter(func(a *Answer) { a.Unsized = true })
	// Drip sends its body a byte at a time, and never all of it.
	Drip = Fault{kind: drip}
	// Page is a login page in HTML, as of a proxy.
	Page = Alter(func(a *Answer) {
		a.Header, a.Body = http.Header{"Content-Type": {"text/html"}}, []byte("<!DOCTYPE html><html><body>Log in</body></html>")
	})
)

// Redirect redirects the request, and does not carry it out.
func Redirect(status int, to string) Fault {
	return Refuse(status, "TemporaryRedirect").With("Location", to)
}

// Wrong listings. Endless ones ignore the request.
var (
	// NoToken says that there are more objects and has no token.
	NoToken = Alter(func(a *Answer) { a.truncated("") })
	// SameToken gives the same token with every page.
	SameToken = Alter(func(a *Answer) { a.truncated("SAME") })
	// EmptyPages never end.
	EmptyPages = Alter(func(a *Answer) {
		a.Body = counts.ReplaceAll(contents.ReplaceAll(a.Body, nil), nil)
		a.truncated(base64.StdEncoding.EncodeToString(fmt.Append(nil, time.Now().UnixNano())))
	})
	// TooFew leaves out the last object of a page.
	TooFew = Alter(func(a *Answer) {
		if all := contents.FindAllIndex(a.Body, -1); all != nil {
			last := all[len(all)-1]
			a.Body = append(a.Body[:last[0]:last[0]], a.Body[last[1]:]...)
		}
	})
	// Backwards lists the objects of a page in reverse.
	Backwards = Alter(func(a *Answer) {
		all := contents.FindAll(bytes.Clone(a.Body), -1)
		a.Body = contents.ReplaceAllFunc(a.Body, func([]byte) []byte {
			last := all[len(all)-1]
			all = all[:len(all)-1]
			return last
		})
	})
	// LastWithToken is the last page by IsTruncated, and has a token.
	LastWithToken = Alter(func(a *Answer) {
		a.truncated("MORE")
		a.Body = bytes.Replace(a.Body, []byte("<IsTruncated>true"), []byte("<IsTruncated>false"), 1)
	})
	// NoContent has the status of an answer without a body.
	NoContent = Alter(func(a *Answer) { a.Status, a.Body = http.StatusNoContent, nil })
	// TwoPages has an empty page before the right one.
	TwoPages = Alter(func(a *Answer) {
		a.Body = append([]byte("<"+listingElement+"><IsTruncated>false</IsTruncated></"+listingElement+">"), a.Body[bytes.Index(a.Body, []byte("<"+listingElement)):]...)
	})
	// NoSize leaves out the sizes of objects, and NegativeSize makes them negative.
	NoSize       = Alter(func(a *Answer) { a.Body = sizes.ReplaceAll(a.Body, nil) })
	NegativeSize = Alter(func(a *Answer) { a.Body = sizes.ReplaceAll(a.Body, []byte("<Size>-7</Size>")) })
	// HugePage has more bytes than any page of S3.
	HugePage = Alter(func(a *Answer) {
		a.Body = bytes.Replace(a.Body, []byte("</"+listingElement), []byte(strings.Repeat(" ", 64<<20)+"</"+listingElement), 1)
	})
)

var (
	etags    = regexp.MustCompile(`<ETag>[^<]*</ETag>`)
	counts   = regexp.MustCompile(`<KeyCount>.*?</KeyCount>`)
	sizes    = regexp.MustCompile(`<Size>[^<]*</Size>`)
	contents = regexp.MustCompile(`<Contents>.*?</Contents>`)
	ends     = regexp.MustCompile(`<IsTruncated>.*?</IsTruncated>|<NextContinuationToken>.*?</NextContinuationToken>`)
)

// truncated makes a listing say that there is more.
func (a *Answer) truncated(token string) {
	a.Body = ends.ReplaceAll(a.Body, nil)
	end := "<IsTruncated>true</IsTruncated>"
	if token != "" {
		end += "<NextContinuationToken>" + token + "</NextContinuationToken>"
	}
	a.Body = bytes.Replace(a.Body, []byte("</"+listingElement), []byte(end+"</"+listingElement), 1)
}

// actAltered carries out the request and changes the answer, also if that is an error.
func (s *Server) actAltered(w http.ResponseWriter, r *http.Request, change func(*Answer)) {
	whole := httptest.NewRecorder()
	s.act(whole, r)
	a := &Answer{Status: whole.Code, Header: whole.Header(), Body: whole.Body.Bytes()}
	length := a.Header.Get("Content-Length")
	if a.Status < 300 {
		change(a)
	}
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	if r.Method == http.MethodHead && !a.Unsized && length != "" {
		w.Header().Set("Content-Length", length)
	} else if !a.Unsized {
		w.Header().Set("Content-Length", fmt.Sprint(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	if r.Method == http.MethodHead {
		return
	}
	if a.Unsized {
		http.NewResponseController(w).Flush()
	}
	w.Write(a.Body)
}

// dripping is how often a byte is sent.
const dripping = 5 * time.Millisecond

func (s *Server) actDripping(w http.ResponseWriter, r *http.Request) {
	whole := httptest.NewRecorder()
	s.act(whole, r)
	for k, v := range whole.Header() {
		w.Header()[k] = v
	}
	body := whole.Body.Bytes()
	w.WriteHeader(whole.Code)
	for len(body) > 1 { // the last byte never comes
		if _, err := w.Write(body[:1]); err != nil {
			break
		}
		http.NewResponseController(w).Flush()
		body = body[1:]
		select {
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-s.closed:
			panic(http.ErrAbortHandler)
		case <-time.After(dripping):
		}
	}
	s.wait(r.Context())
}
